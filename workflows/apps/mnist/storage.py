"""Classifiers as model folders: what the model server serves and the steps go on from."""

from pathlib import Path

from autonomic.seams.errors import Permanent
from autonomic.workflows.apps.mnist.data import SIDE
from autonomic.workflows.apps.mnist.model import Classifier
from autonomic.workflows.serving.model import load_model, save_model


def save_classifier(folder: Path, model: Classifier) -> None:
    """Writes model.json and the weights as safetensors; served as `images` to `probabilities` and `label`."""
    save_model(
        model,
        folder,
        architecture=f"{Classifier.__module__}:{Classifier.__name__}",
        inputs=[{"name": "images", "datatype": "FP32", "shape": [-1, SIDE, SIDE]}],
        outputs=[{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}],
        postprocess="classifier",
    )


def load_classifier(folder: Path) -> Classifier:
    """The classifier in a model folder, ready to answer.

    Raises:
        Permanent: there is no model, or it is another one.
    """
    module = load_model(folder).module
    if not isinstance(module, Classifier):
        raise Permanent(f"{folder} holds a {type(module).__name__}; wanted a {Classifier.__name__} that apps.mnist.train has trained")
    return module
