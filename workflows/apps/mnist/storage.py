"""Classifiers as model folders: what the model server serves and the steps go on from."""

import json
from pathlib import Path

from safetensors.torch import load_model, save_model

from autonomic.workflows.apps.mnist.data import SIDE
from autonomic.workflows.apps.mnist.model import Classifier

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION = {
    "format": "safetensors",
    "architecture": "autonomic.workflows.apps.mnist.model:Classifier",
    "kwargs": {},
    "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, SIDE, SIDE]}],
    "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}, {"name": "label", "datatype": "INT64", "shape": [-1]}],
    "postprocess": "classifier",
}


def save_classifier(folder: Path, model: Classifier) -> None:
    """Writes model.json and the weights as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model, str(folder / WEIGHTS_FILE))
    (folder / "model.json").write_text(json.dumps(DESCRIPTION, indent=2))


def load_classifier(folder: Path) -> Classifier:
    """The classifier in a model folder, ready to answer."""
    model = Classifier()
    load_model(model, str(folder / WEIGHTS_FILE))
    model.eval()
    return model
