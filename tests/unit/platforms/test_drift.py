"""The loop of a drift detector over a real prediction log, and what is told of it."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autonomic.workflows.platforms.base.drift import DriftLoop, told
from autonomic.workflows.serving.predictions import Prediction, PredictionLog

DRIFT = {"detector": "light_detector:LevelDetector", "every": 0.01, "with": {"level": 5.0}}


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "light"))


@pytest.fixture
def champion(tmp_path: Path) -> str:
    (tmp_path / "model.json").write_text("{}")
    return str(tmp_path)


def answered(log: Path, *values: float, role: str = "champion", at: float = 100.0) -> None:
    opened = PredictionLog(log)
    start = opened.last()
    rows = [
        Prediction(f"p{start + n}", at + n, "", role, "1", {"x": np.full(4, value, np.float32)}, {}, 0, 0.5)
        for n, value in enumerate(values)
    ]
    opened.append(rows)
    opened.close()


class Watch:
    """A loop in a thread, and what it says."""

    def __init__(self, champion: str, log: Path, said: dict[str, Any] | None = None) -> None:
        self.words: dict[str, Any] = {}
        self.leave = threading.Event()
        self._thread = threading.Thread(target=DriftLoop(DRIFT, champion, log, said, self._say).run, args=(self.leave,))
        self._thread.start()

    def _say(self, words: dict[str, Any]) -> None:
        self.words = words

    def wait(self, **values: float) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while not values.items() <= self.words.get("values", {}).items():
            assert time.monotonic() < deadline, self.words
            time.sleep(0.01)
        return self.words

    def close(self) -> None:
        self.leave.set()
        self._thread.join()


def test_it_sees_what_the_champion_answered_once_and_picks_where_it_drifts(champion: str, tmp_path: Path) -> None:
    log = tmp_path / "log.db"
    answered(log, 1.0, 2.0)
    answered(log, 9.0, role="backup")
    watch = Watch(champion, log)
    try:
        assert watch.wait(seen=2.0)["cursor"] == 3
        assert watch.words["values"]["drifted"] == 0
        answered(log, 9.0)
        watch.wait(seen=3.0, drifted=1.0)
    finally:
        watch.close()
    points = PredictionLog(log).points("unlabelled")
    assert [point.prediction_id for point in points] == ["p3"]


def test_one_that_begins_again_is_warm_and_picks_nothing_twice(champion: str, tmp_path: Path) -> None:
    log = tmp_path / "log.db"
    answered(log, 1.0, 9.0)
    for said in (None, {"cursor": 2}):
        watch = Watch(champion, log, said)
        watch.wait(seen=2.0, drifted=1.0)
        watch.close()
    assert len(PredictionLog(log).points("all")) == 1


def test_a_detector_that_fails_on_some_rows_goes_on(champion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import light_detector  # pyright: ignore[reportMissingImports] - it stands in tests/light

    real = light_detector.LevelDetector.update
    failures: list[int] = []

    def update(self: Any, rows: Any) -> dict[str, float]:
        if not failures:
            failures.append(1)
            raise ValueError("no such row")
        return real(self, rows)

    monkeypatch.setattr(light_detector.LevelDetector, "update", update)
    watch = Watch(champion, tmp_path / "log.db")
    watch.wait(seen=0.0)
    watch.close()
    assert failures


def test_what_was_said_before_the_champion_counts_no_more(tmp_path: Path) -> None:
    log = tmp_path / "log.db"
    answered(log, 1.0)
    said = {"time": 50.0, "values": {"drifted": 1.0}, "cursor": 1}
    assert told(said, log, 40.0)["values"]["drifted"] == 1.0
    assert told(said, log, 40.0)["values"]["predictions"] == 1
    nothing = {"time": 0.0, "values": {}}
    assert told(said, log, 60.0) == nothing
    assert told(None, log, 0.0) == nothing
    assert told(said, tmp_path / "none.db", 40.0) == nothing
