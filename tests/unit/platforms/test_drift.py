"""The loop of a drift detector over a real prediction log, and what is told of it."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autonomic.platforms.host.drift import DriftLoop, told
from autonomic.seams.reading import Reading
from autonomic.seams.signal import Query
from autonomic.signals.drift import DriftSignal
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

    def __init__(self, champion: str, log: Path, said: dict[str, Any] | None = None, detector: str = "", reference: str = "") -> None:
        self.words: dict[str, Any] = {}
        self.first: dict[str, Any] = {}
        drift = {**DRIFT, "detector": detector, "with": {}} if detector else DRIFT
        self.leave = threading.Event()
        self._thread = threading.Thread(target=DriftLoop(drift, champion, log, said, self._say, reference).run, args=(self.leave,))
        self._thread.start()

    def _say(self, words: dict[str, Any]) -> None:
        self.first = self.first or words
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
    assert told(said, log, 40.0, now=60.0)["values"]["drifted"] == 1.0
    assert told(said, log, 40.0, now=60.0)["values"]["predictions"] == 1
    nothing = {"time": 0.0, "values": {}, "error": "", "warning": ""}
    assert told(said, log, 60.0, now=60.0) == nothing
    assert told(None, log, 0.0) == nothing
    assert told(said, tmp_path / "none.db", 40.0, now=60.0) == nothing


OWN = """
from pathlib import Path

class AsDocumented:
    def __init__(self, champion_dir, reference_dir):
        self.reference = float(Path(reference_dir, "level.txt").read_text())

    def update(self, rows):
        return {"drifted": float(any(row.input.mean() > self.reference for row in rows)), "seen": float(len(rows))}

class Unmade:
    def __init__(self, champion_dir, reference_dir):
        raise ValueError("no such column: http://u:s3cret@host")

class PicksBadly(AsDocumented):
    def pick(self, rows, limit):
        raise KeyError("id")

class Nothing(AsDocumented):
    def update(self, rows):
        return None
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of detectors; the folder of a reference with the level that they compare with."""
    import sys

    monkeypatch.delitem(sys.modules, "own_detectors", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_detectors.py").write_text(OWN)
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "level.txt").write_text("5")
    return str(tmp_path / "reference")


def words_of(name: str, own: str, champion: str, log: Path) -> dict[str, Any]:
    watch = Watch(champion, log, None, f"own_detectors:{name}", own)
    deadline = time.monotonic() + 60
    while not watch.first:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    watch.close()
    return watch.first


def test_a_detector_with_update_alone_reports_and_the_least_sure_predictions_are_picked(own: str, champion: str, tmp_path: Path) -> None:
    log = tmp_path / "log.db"
    answered(log, 1.0, 9.0)
    words = words_of("AsDocumented", own, champion, log)
    assert (words["values"]["seen"], words["error"], words["warning"]) == (2.0, "", "")
    assert {point.prediction_id for point in PredictionLog(log).points("unlabelled")} == {"p0", "p1"}


def test_a_detector_that_cannot_be_made_picks_badly_or_returns_nothing_is_said_and_read_as_such(
    own: str, champion: str, tmp_path: Path
) -> None:
    log = tmp_path / "log.db"
    answered(log, 1.0, 9.0)
    unmade = words_of("Unmade", own, champion, log)
    assert unmade["error"].startswith("ValueError: no such column: http://u:***@host (own_detectors.py:")
    assert "update() returned a NoneType" in words_of("Nothing", own, champion, log)["error"]
    picks = words_of("PicksBadly", own, champion, log)
    assert picks["values"]["drifted"] == 1.0
    assert "no points are picked: KeyError" in picks["warning"]

    def read(words: dict[str, Any], now: float | None = None) -> Reading:
        signal = DriftSignal(lambda *_: told(words, log, 0.0, now=now))
        (answer,) = signal.read([Query(strategy="s", name="v", target="w/s", signal="drift", args={"drift": "drifted"})], time.time())
        assert isinstance(answer, Reading)
        return answer

    assert read(unmade).status == "error"
    assert (read(picks).value, "no points are picked" in read(picks).detail) == (1.0, True)
    silent = read(picks, picks["time"] + 100)
    assert (silent.status, "has not reported for 100 s" in silent.detail) == ("error", True)
