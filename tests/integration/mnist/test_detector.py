from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from autonomic.workflows.apps.mnist.corrupt import corrupt
from autonomic.workflows.apps.mnist.detector import Detector
from autonomic.workflows.serving.predictions import PredictionRow

Rows = Callable[..., list[PredictionRow]]


def first_alarm(detector: Detector, rows: Sequence[PredictionRow], step: int = 10) -> int | None:
    """After how many rows drift is declared."""
    for start in range(0, len(rows), step):
        if detector.update(rows[start : start + step])["drifted"]:
            return start + step
    return None


def stream(trained: Any, seed: int, length: int, kind: str = "", severity: float = 0.0) -> np.ndarray:
    """Images that no training saw, drawn by chance."""
    pool = np.concatenate([trained.digits[name].images for name in ("online", "fresh", "test")])
    images = pool[np.random.default_rng(seed).integers(len(pool), size=length)]
    return corrupt(images, kind, severity, seed) if kind else images


def test_clean_streams_raise_no_alarm(trained: Any, rows: Rows, seed: int) -> None:
    detector = Detector(trained.folder, trained.folder, seed=seed)
    assert first_alarm(detector, rows(stream(trained, seed, 1500))) is None


@pytest.mark.parametrize(("kind", "severity"), [("noise", 0.5), ("rotation", 0.5), ("blur", 0.5), ("mixed", 0.65)])
def test_each_corruption_raises_the_alarm_within_200_images(trained: Any, rows: Rows, kind: str, severity: float, seed: int) -> None:
    detector = Detector(trained.folder, trained.folder)
    assert first_alarm(detector, rows(stream(trained, seed, 300), "clean")) is None
    alarm = first_alarm(detector, rows(stream(trained, seed, 1000, kind, severity), "drifted"))
    assert alarm is not None
    assert alarm <= 200


def test_a_stream_that_drifted_before_anybody_looked_is_found(trained: Any, rows: Rows) -> None:
    alarm = first_alarm(Detector(trained.folder, trained.folder), rows(stream(trained, 0, 1000, "mixed", 0.65)))
    assert alarm is not None
    assert alarm <= 200


def test_drift_lasts_while_the_stream_is_drifted_and_ends_when_it_is_clean_again(trained: Any, rows: Rows) -> None:
    detector = Detector(trained.folder, trained.folder)
    drifted = rows(stream(trained, 0, 1500, "mixed", 0.65), "drifted")
    since = detector.update(drifted[:500])["since"]
    assert since > 0
    for start in range(500, 1500, 50):
        values = detector.update(drifted[start : start + 50])
        assert values["drifted"] == 1.0
        assert values["since"] == since
    values = detector.update(rows(stream(trained, 1, 300), "clean"))
    assert values["drifted"] == values["since"] == 0.0
    assert values["seen"] == 1800


def test_a_few_broken_images_are_no_drift(trained: Any, rows: Rows) -> None:
    images = stream(trained, 3, 1000)
    images[::25] = np.random.default_rng(0).random(images[::25].shape)
    assert first_alarm(Detector(trained.folder, trained.folder), rows(images)) is None


def test_no_rows_say_nothing(trained: Any) -> None:
    values = Detector(trained.folder, trained.folder).update([])
    assert values["drifted"] == values["score"] == values["seen"] == 0.0


def test_picks_are_rows_of_the_drift_each_once_and_within_the_budget(trained: Any, rows: Rows) -> None:
    detector = Detector(trained.folder, trained.folder, picks=40)
    detector.update(rows(stream(trained, 0, 300), "clean"))
    drifted = rows(stream(trained, 0, 400, "mixed", 0.65), "drifted")
    picks = []
    for start in range(0, 400, 20):
        chunk = drifted[start : start + 20]
        if detector.update(chunk)["drifted"]:
            picks += detector.pick(chunk, 25)
    ids = [pick.prediction_id for pick in picks]
    assert len(ids) == len(set(ids)) == 40
    assert all(name.startswith("drifted") for name in ids)
