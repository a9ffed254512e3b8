"""Drift detection over a prediction log: what the detector of one service does, wherever it runs, and what is told of it."""

import importlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autonomic.platforms.host.records import ServiceRecord
from autonomic.seams.text import shown
from autonomic.workflows.runs.step_main import one_line
from autonomic.workflows.serving.predictions import Pick, PredictionLog, PredictionRow

_PAGE = 500
_CANDIDATES = 1000
_PICKS_AT_ONCE = 25
_WAITING_FOR_LABELS = 200
_SILENT_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 60.0
_log = logging.getLogger(__name__)


def watched(record: ServiceRecord) -> dict[str, Any]:
    """How the drift of a service is looked for: `{drift, champion, since}`; another champion gets another detector."""
    assert record.spec.drift is not None
    drift = record.spec.drift.model_dump(mode="json", by_alias=True)
    return {"drift": drift, "champion": record.roles["champion"].model, "since": record.since}


class DriftLoop:
    """The detector of one service with one champion, whose model folder is `champion`.

    `said` is what the detector of this service said last, None where none has spoken; `say` keeps its words: `{time, values,
    cursor, error, warning}`. A detector that cannot be made, or fails, is an `error` (why, "" where nothing is wrong) until it
    works; it is tried again. After a restart the newest rows are read once more, so that the detector is warm again.

    Args:
        reference: the folder that the detector compares with; by default the champion's own.
    """

    def __init__(
        self,
        drift: dict[str, Any],
        champion: str,
        log: Path | str,
        said: dict[str, Any] | None,
        say: Callable[[dict[str, Any]], None],
        reference: str = "",
    ) -> None:
        self._drift = drift
        self._folders = champion, reference or champion
        self._detector: Any = None
        self._every_seconds = float(drift["every"])
        self._failures = 0
        self._predictions = PredictionLog(log)
        self._recent: deque[PredictionRow] = deque(maxlen=_CANDIDATES)
        self._cursor = max(0, int((said or {}).get("cursor", 0)) - _CANDIDATES)
        self._say = say

    def run(self, leave: threading.Event) -> None:
        """Looks at what is new every now and then, until `leave` is set."""
        while True:
            try:
                self._look()
                self._failures = 0
            except Exception as failure:  # noqa: BLE001 - user code may fail on some rows, and the next come all the same
                _log.exception("the detector failed")
                self._failures += 1
                self._say(failed_words(one_line(failure), self._cursor))
            again = min(2.0**self._failures, _LONGEST_WAIT_SECONDS) if self._detector is None else 0.0
            if leave.wait(max(self._every_seconds, again)):
                return

    def _make(self) -> Any:
        module, _, name = self._drift["detector"].partition(":")
        return getattr(importlib.import_module(module), name)(*self._folders, **self._drift["with"])

    def _look(self) -> None:
        if self._detector is None:
            self._detector = self._make()
        values: dict[str, float] = {}
        while True:
            rows = self._predictions.read(self._cursor, _PAGE)
            self._cursor = rows[-1].seq if rows else self._cursor
            served = [row for row in rows if row.role == "champion"]
            self._recent.extend(served)
            values = _numbers(self._detector.update(served))
            if len(rows) < _PAGE:
                break
        warning = ""
        if values.get("drifted"):
            try:
                self._pick(values.get("since", 0.0))
            except Exception as failure:  # noqa: BLE001 - what the detector sees counts, whatever its choice of points meets
                _log.exception("the detector's pick failed")
                warning = f"no points are picked: {one_line(failure)}"
        self._say({"time": time.time(), "values": values, "cursor": self._cursor, "error": "", "warning": warning})

    def _pick(self, since: float) -> None:
        waiting = len(self._predictions.points("unlabelled", limit=_WAITING_FOR_LABELS))
        limit = min(_PICKS_AT_ONCE, _WAITING_FOR_LABELS - waiting)
        if limit < 1:
            return
        rows = [row for row in self._recent if row.time >= since]
        now = time.time()
        pick = getattr(self._detector, "pick", self._least_sure)
        picks = pick(rows, limit) if rows else []
        self._predictions.add_picks([Pick(pick.prediction_id, now, pick.anomaly, pick.uncertainty, pick.diversity) for pick in picks])

    def _least_sure(self, rows: Sequence[PredictionRow], limit: int) -> list[Pick]:
        """What is picked for a detector without a `pick` of its own: the predictions with the lowest confidence."""
        known = {point.prediction_id for point in self._predictions.points("all", limit=_WAITING_FOR_LABELS * 10)}
        unsure = sorted((row.confidence, row.seq, row.id) for row in rows if row.confidence is not None and row.id not in known)
        return [Pick(name, time.time(), 0.0, 1.0 - confidence, 0.0) for confidence, _, name in unsure[:limit]]


def failed_words(why: str, cursor: int = 0) -> dict[str, Any]:
    """The words of a detector that does not work."""
    return {"time": time.time(), "values": {}, "cursor": cursor, "error": shown(why), "warning": ""}


def _numbers(values: Any) -> dict[str, float]:
    if not isinstance(values, Mapping):
        raise TypeError(f"update() returned a {type(values).__name__}; it returns a dict of names and numbers")
    return {str(name): float(value) for name, value in values.items()}


def told(said: dict[str, Any] | None, log: Path, since: float, every_seconds: float = 1.0, now: float | None = None) -> dict[str, Any]:
    """`{time, values, error, warning}`: a detector's last words and the counts of points that were picked since `since`.

    `time` is 0 and `values` are empty where no detector has spoken since then. `error` says why a detector does not work; one
    that has not reported for ten intervals, and a minute at least, does not either.
    """
    if said is None or said["time"] < since:
        return {"time": 0.0, "values": {}, "error": "", "warning": ""}
    silent = (time.time() if now is None else now) - said["time"]
    error = said.get("error", "")
    if not error and silent > max(10 * every_seconds, _SILENT_SECONDS):
        error = f"the detector has not reported for {silent:.0f} s"
    if error or not log.is_file():
        return {"time": said["time"] if error else 0.0, "values": {}, "error": error, "warning": ""}
    opened = PredictionLog(log)
    try:
        counts = asdict(opened.counts(since))
    finally:
        opened.close()
    return {"time": said["time"], "values": {**said["values"], **counts}, "error": "", "warning": said.get("warning", "")}
