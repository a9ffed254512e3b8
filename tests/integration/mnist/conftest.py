"""A classifier that was trained on real images, once for all tests, and what its service would log."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autonomic.workflows.apps.mnist.data import Digits, Images, load
from autonomic.workflows.apps.mnist.train import train
from autonomic.workflows.serving.predictions import Label, Prediction, PredictionLog, PredictionRow


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is left to chance has one seed here, and those of `make chaos` there."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", [int(os.environ.get("AUTONOMIC_CHAOS_SEED") or 0)])


@dataclass(frozen=True)
class Trained:
    """The outputs of load and train, and the images."""

    data: str
    folder: Path
    outputs: dict[str, Any]
    digits: Digits


@pytest.fixture(scope="session")
def trained() -> Trained:
    data = load(seed=0)["path"]
    outputs = train(data, seed=0)
    return Trained(data, Path(outputs["model"]), outputs, Digits.read(data))


@pytest.fixture(scope="session")
def rows() -> Callable[..., list[PredictionRow]]:
    """Rows of a prediction log for images, as the detector gets them."""

    def make(images: Images, prefix: str = "p") -> list[PredictionRow]:
        return [
            PredictionRow(index + 1, f"{prefix}{index}", float(index), "", "champion", "1", "", {"images": image}, {}, None, None, None)
            for index, image in enumerate(images)
        ]

    return make


@pytest.fixture
def labelled_log(tmp_path: Path) -> Callable[..., str]:
    """Writes a prediction log with labels and returns its path."""

    def write(images: Images, labels: np.ndarray, ids: Sequence[str] | None = None) -> str:
        ids = ids or [f"p{index}" for index in range(len(images))]
        path = tmp_path / f"{ids[0]}.db"
        log = PredictionLog(path)
        log.append(
            [
                Prediction(name, float(index), f"r{index}", "champion", "1", {"images": image}, {"label": 0}, 0, 0.5)
                for index, (name, image) in enumerate(zip(ids, images, strict=True))
            ]
        )
        log.add_labels([Label(name, int(label), 0.0) for name, label in zip(ids, labels, strict=False)])
        log.close()
        return str(path)

    return write
