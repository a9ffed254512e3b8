"""What the autoencoder and the classifier say about images that are as they should be; the detector compares with it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_model, save_model
from torch import Tensor

from autonomic.seams.errors import Permanent
from autonomic.workflows.apps.mnist.autoencoder import Autoencoder, log_errors
from autonomic.workflows.apps.mnist.model import Classifier, probabilities

AUTOENCODER_FILE = "autoencoder.safetensors"
REFERENCE_FILE = "reference.safetensors"
NEIGHBOURS = 3

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Domain:
    """One kind of input that the classifier is made for: sorted logarithms of reconstruction errors, and confidences."""

    log_errors: Values
    confidences: Values


@dataclass(frozen=True)
class Reference:
    """The domains by name: "clean", and "drifted" once a model was tuned with labelled points."""

    domains: dict[str, Domain]

    @classmethod
    def empty(cls) -> "Reference":
        return cls({})

    @classmethod
    def read(cls, folder: Path) -> "Reference":
        """Reads what `save` wrote.

        Raises:
            Permanent: there is none in `folder`.
        """
        path = Path(folder) / REFERENCE_FILE
        if not path.is_file():
            raise Permanent(f"{folder} has no {REFERENCE_FILE}; a detector needs a model that was trained by apps.mnist.train")
        arrays = load_file(path)
        names = sorted({key.rpartition(".")[0] for key in arrays})
        return cls({name: Domain(arrays[f"{name}.log_errors"], arrays[f"{name}.confidences"]) for name in names})

    def save(self, folder: Path) -> None:
        arrays: dict[str, NDArray[np.float32]] = {}
        for name, domain in self.domains.items():
            arrays |= {f"{name}.log_errors": domain.log_errors, f"{name}.confidences": domain.confidences}
        save_file(arrays, Path(folder) / REFERENCE_FILE)

    def only(self, *names: str) -> "Reference":
        return Reference({name: domain for name, domain in self.domains.items() if name in names})

    def with_domain(self, name: str, classifier: Classifier, autoencoder: Autoencoder, images: Tensor) -> "Reference":
        """The same with the domain `name` measured anew on `images` that no training saw."""
        errors = np.sort(log_errors(autoencoder, images).numpy())
        confidences = probabilities(classifier, images).amax(1).numpy()
        return Reference({**self.domains, name: Domain(errors, confidences)})

    def anomalies(self, errors: Values) -> Values:
        """How far each logarithmic error is from the nearest that are known, in standard deviations of the clean ones.

        Both ways: noise cannot be rebuilt, blur is rebuilt better than any real digit. Distance to the
        `NEIGHBOURS`-th nearest reference value, so that one outlier in the reference excuses nothing.
        """
        return self._distances(errors, NEIGHBOURS)

    def anomalies_within(self, errors: Values) -> Values:
        """The anomalies of values that are themselves in the reference: each is its own nearest, so one more is skipped."""
        return self._distances(errors, NEIGHBOURS + 1)

    def _distances(self, errors: Values, neighbour: int) -> Values:
        known = np.concatenate([domain.log_errors for domain in self.domains.values()])
        scale = max(float(self.domains["clean"].log_errors.std()), 1e-6)
        place = min(neighbour, len(known)) - 1
        nearest = np.partition(np.abs(errors[:, None] - known[None, :]), place, axis=1)[:, place]
        return (nearest / scale).astype(np.float32)


def save_autoencoder(folder: Path, autoencoder: Autoencoder) -> None:
    """Writes the weights beside the classifier."""
    save_model(autoencoder, str(Path(folder) / AUTOENCODER_FILE))


def load_autoencoder(folder: Path) -> Autoencoder:
    """Reads what `save_autoencoder` wrote.

    Raises:
        Permanent: there is none in `folder`.
    """
    path = Path(folder) / AUTOENCODER_FILE
    if not path.is_file():
        raise Permanent(f"{folder} has no {AUTOENCODER_FILE}; a detector needs a model that was trained by apps.mnist.train")
    autoencoder = Autoencoder()
    load_model(autoencoder, str(path))
    autoencoder.eval()
    torch.set_num_threads(1)
    return autoencoder
