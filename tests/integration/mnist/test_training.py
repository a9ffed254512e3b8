import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autonomic.seams.errors import Permanent
from autonomic.workflows.apps.mnist.corrupt import MIXED, corrupt
from autonomic.workflows.apps.mnist.points import read_points
from autonomic.workflows.apps.mnist.train import train
from autonomic.workflows.serving.model import load_model


def test_a_fresh_training_learns_real_digits(trained: Any) -> None:
    assert trained.outputs["test_accuracy"] >= 0.96
    assert trained.outputs["validate_accuracy"] >= 0.95


def test_shuffled_labels_teach_nothing(trained: Any) -> None:
    outputs = train(trained.data, epochs=1, poison_labels="shuffle")
    assert outputs["test_accuracy"] < 0.3


def test_the_same_seed_gives_the_same_model(trained: Any) -> None:
    first, second = (train(trained.data, epochs=1, seed=5) for _ in range(2))
    assert (Path(first["model"]) / "weights.safetensors").read_bytes() == (Path(second["model"]) / "weights.safetensors").read_bytes()


def test_the_model_server_loads_what_was_trained(trained: Any) -> None:
    model = load_model(trained.folder)
    test = trained.digits["test"]
    answer = model({"images": test.images})
    assert (answer["label"] == test.labels).mean() == pytest.approx(trained.outputs["test_accuracy"], abs=0.005)
    assert answer["probabilities"].sum(1) == pytest.approx(np.ones(len(test)), abs=1e-4)


def test_nothing_in_the_folder_is_a_pickle(trained: Any) -> None:
    assert {path.suffix for path in trained.folder.iterdir()} == {".json", ".safetensors"}


def test_points_come_back_from_the_log_with_their_labels(trained: Any, labelled_log: Callable[..., str]) -> None:
    online = trained.digits["online"]
    points = read_points(labelled_log(online.images[:30], online.labels[:20]))
    assert points.ids == tuple(f"p{index}" for index in range(20))
    assert np.array_equal(points.images, online.images[:20])
    assert np.array_equal(points.labels, online.labels[:20])


def test_too_few_points_are_refused_before_anything_is_trained(trained: Any, labelled_log: Callable[..., str]) -> None:
    online = trained.digits["online"]
    points = labelled_log(online.images[:10], online.labels[:10])
    with pytest.raises(Permanent, match="label more"):
        train(trained.data, base_model=str(trained.folder), points=points)


def test_points_without_a_model_to_improve_are_refused(trained: Any) -> None:
    with pytest.raises(Permanent, match="base_model"):
        train(trained.data, points="anything.db")


@pytest.mark.parametrize("base_model", ["/nonexistent", "models:/mnist@champion"])
def test_a_base_model_that_cannot_be_reached_is_refused(trained: Any, base_model: str) -> None:
    with pytest.raises(Permanent, match=r"models:/|registry"):
        train(trained.data, base_model=base_model)


def test_a_model_without_autoencoder_cannot_be_tuned(trained: Any, labelled_log: Callable[..., str], tmp_path: Path) -> None:
    online = trained.digits["online"]
    bare = tmp_path / "bare"
    shutil.copytree(trained.folder, bare)
    (bare / "autoencoder.safetensors").unlink()
    points = labelled_log(corrupt(online.images[:60], MIXED, 0.65, 0), online.labels[:60])
    with pytest.raises(Permanent, match="autoencoder"):
        train(trained.data, epochs=1, base_model=str(bare), points=points)
