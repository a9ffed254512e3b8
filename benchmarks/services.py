"""The services that benchmarks measure: the MNIST network, with random weights where only time matters."""

from pathlib import Path
from typing import Any


def save_random_classifier(folder: Path) -> str:
    """Saves an untrained MNIST network as a model folder and returns its URI."""
    from autonomic.workflows.apps.mnist.model import Classifier
    from autonomic.workflows.apps.mnist.storage import save_classifier

    save_classifier(folder, Classifier())
    return f"file://{folder}"


def service_document(workflow: str, service: str, model: str, **fields: Any) -> dict[str, Any]:
    """An online workflow of one service, one request in flight a replica."""
    return {
        "apiVersion": "autonomic.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": workflow},
        "spec": {"type": "online", "services": [{"name": service, "model": model, "max_in_flight": 1, "log": False, **fields}]},
    }
