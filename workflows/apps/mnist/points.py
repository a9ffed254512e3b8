"""Labelled points: predictions whose true label arrived, split into those that train and those that judge."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlparse

import numpy as np

from autonomic.seams.errors import Permanent
from autonomic.workflows.apps.mnist.data import SIDE, Images, Labels
from autonomic.workflows.serving.predictions import PredictionLog, PredictionRow

TRAIN_SHARE = 0.6
READ_AT_ONCE = 500
POISONS = ("none", "shuffle", "rename")
Side = Literal["train", "judge"]


def side(prediction_id: str) -> Side:
    """Whether a labelled point may train or may judge: a function of its id alone, so that it is never both."""
    number = int.from_bytes(hashlib.sha256(prediction_id.encode()).digest()[:8], "big")
    return "train" if number < TRAIN_SHARE * 2**64 else "judge"


@dataclass(frozen=True)
class Points:
    """Labelled points, in the order of their predictions."""

    ids: tuple[str, ...]
    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, wanted: Side) -> "Points":
        """The points of one side. A judge whose image also trains (it was sent twice) is left out."""
        training = {image.tobytes() for name, image in zip(self.ids, self.images, strict=True) if side(name) == "train"}
        keep = [
            index
            for index, (name, image) in enumerate(zip(self.ids, self.images, strict=True))
            if side(name) == wanted and (wanted == "train" or image.tobytes() not in training)
        ]
        return Points(tuple(self.ids[index] for index in keep), self.images[keep], self.labels[keep])


def read_points(location: str) -> Points:
    """All labelled points of a service's prediction log; a point whose label came twice has the newest.

    Args:
        location: path or `file://` URI of the log.

    Raises:
        Permanent: there is no log, or an input in it is not an image.
    """
    log = PredictionLog(local_path(location))
    try:
        # by id: labels that arrive meanwhile move the pages
        known: dict[str, PredictionRow] = {}
        offset = 0
        while found := log.points("labelled", limit=READ_AT_ONCE, offset=offset):
            known |= {row.id: row for row in log.get(point.prediction_id for point in found)}
            offset += len(found)
    finally:
        log.close()
    rows = sorted(known.values(), key=lambda row: row.seq)
    images = np.array([_image(row.input, row.id) for row in rows], np.float32).reshape(-1, SIDE, SIDE)
    return Points(tuple(row.id for row in rows), images, np.array([row.truth for row in rows], np.int64))


def _image(array: Any, prediction_id: str) -> Images:
    if array.size != SIDE * SIDE:
        raise Permanent(f"the input of prediction {prediction_id} has the shape {array.shape}; wanted an image of 28 x 28")
    return np.asarray(array, np.float32).reshape(SIDE, SIDE)


def local_path(location: str) -> Path:
    """The path in a path or a `file://` URI.

    Raises:
        Permanent: another scheme, or nothing is there.
    """
    url = urlparse(location)
    if url.scheme not in ("", "file"):
        raise Permanent(f"points is {location!r}; wanted the path or the file:// URI of a service's prediction log")
    path = Path(unquote(url.path) if url.scheme else location)
    if not path.is_file():
        raise Permanent(f"points is {location!r}, but there is no file {path}; it is the prediction log of a service that has answered")
    return path


def poison(labels: Labels, how: str, fraction: float, seed: int) -> Labels:
    """Labels made wrong on purpose, to test the guards with.

    Args:
        labels: true labels.
        how: "none"; "shuffle": labels change places among the points; "rename": each digit is called by the name of
            another one, always the same (a model can learn it, and shines on labels that are wrong in the same way).
        fraction: of the points, chosen by chance, 0..1.
        seed: of the choice. The renaming itself does not depend on it.

    Raises:
        Permanent: an unknown `how`, or a fraction outside 0..1.
    """
    if how not in POISONS or not 0.0 <= fraction <= 1.0:
        raise Permanent(f"poison is {how!r} of {fraction}; allowed are {', '.join(POISONS)} of 0 to 1")
    wrong = labels.copy()
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(labels))[: round(fraction * len(labels))]
    if how == "shuffle":
        wrong[chosen] = random.permutation(labels[chosen])
    elif how == "rename":
        wrong[chosen] = (labels[chosen] + 3) % 10
    return wrong
