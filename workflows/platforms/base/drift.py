"""Drift detection over a prediction log: what the detector of one service does, wherever it runs, and what is told of it."""

import importlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autonomic.workflows.platforms.base.records import ServiceRecord
from autonomic.workflows.serving.predictions import Pick, PredictionLog, PredictionRow

_PAGE = 500
_CANDIDATES = 1000
_PICKS_AT_ONCE = 25
_WAITING_FOR_LABELS = 200
_log = logging.getLogger(__name__)


def watched(record: ServiceRecord) -> dict[str, Any]:
    """How the drift of a service is looked for: `{drift, champion, since}`; another champion gets another detector."""
    assert record.spec.drift is not None
    drift = record.spec.drift.model_dump(mode="json", by_alias=True)
    return {"drift": drift, "champion": record.roles["champion"].model, "since": record.since}


class DriftLoop:
    """The detector of one service with one champion, whose model folder is `champion`.

    `said` is what the detector of this service said last, None where none has spoken; `say` keeps its words: `{time, values,
    cursor}`. After a restart the newest rows are read once more, so that the detector is warm again.
    """

    def __init__(
        self, drift: dict[str, Any], champion: str, log: Path | str, said: dict[str, Any] | None, say: Callable[[dict[str, Any]], None]
    ) -> None:
        module, _, name = drift["detector"].partition(":")
        self._detector = getattr(importlib.import_module(module), name)(champion, champion, **drift["with"])
        self._every_seconds = float(drift["every"])
        self._predictions = PredictionLog(log)
        self._recent: deque[PredictionRow] = deque(maxlen=_CANDIDATES)
        self._cursor = max(0, int((said or {}).get("cursor", 0)) - _CANDIDATES)
        self._say = say

    def run(self, leave: threading.Event) -> None:
        """Looks at what is new every now and then, until `leave` is set."""
        while True:
            try:
                self._look()
            except Exception:  # noqa: BLE001 - a detector is user code: it may fail on some rows, and the next come all the same
                _log.exception("the detector failed")
            if leave.wait(self._every_seconds):
                return

    def _look(self) -> None:
        values: dict[str, float] = {}
        while True:
            rows = self._predictions.read(self._cursor, _PAGE)
            self._cursor = rows[-1].seq if rows else self._cursor
            served = [row for row in rows if row.role == "champion"]
            self._recent.extend(served)
            values = {name: float(value) for name, value in self._detector.update(served).items()}
            if len(rows) < _PAGE:
                break
        if values.get("drifted"):
            self._pick(values.get("since", 0.0))
        self._say({"time": time.time(), "values": values, "cursor": self._cursor})

    def _pick(self, since: float) -> None:
        waiting = len(self._predictions.points("unlabelled", limit=_WAITING_FOR_LABELS))
        limit = min(_PICKS_AT_ONCE, _WAITING_FOR_LABELS - waiting)
        if limit < 1:
            return
        rows = [row for row in self._recent if row.time >= since]
        now = time.time()
        picks = self._detector.pick(rows, limit) if rows else []
        self._predictions.add_picks([Pick(pick.prediction_id, now, pick.anomaly, pick.uncertainty, pick.diversity) for pick in picks])


def told(said: dict[str, Any] | None, log: Path, since: float) -> dict[str, Any]:
    """`{time, values}`: a detector's last words and the counts of points that were picked since `since`.

    `time` is 0 and `values` are empty where no detector has spoken since then.
    """
    if said is None or said["time"] < since or not log.is_file():
        return {"time": 0.0, "values": {}}
    opened = PredictionLog(log)
    try:
        counts = asdict(opened.counts(since))
    finally:
        opened.close()
    return {"time": said["time"], "values": {**said["values"], **counts}}
