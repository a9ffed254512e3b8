"""Drift detection on the platform: one detached actor per service reads the prediction log and says what it sees."""

import importlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autonomic.workflows.platforms.base.store import Store
from autonomic.workflows.platforms.ray.replica import NAMESPACE
from autonomic.workflows.serving.predictions import Pick, PredictionLog, PredictionRow
from autonomic.workflows.spec.workflow import Drift

_PAGE = 500
_CANDIDATES = 1000
_PICKS_AT_ONCE = 25
_WAITING_FOR_LABELS = 200
_log = logging.getLogger(__name__)

Wanted = Mapping[tuple[str, str], tuple[Drift, Path, float, tuple[str, ...]]]
"""By (workflow, service): how drift is looked for, the champion's folder, since when it serves, and where to import from."""


class DriftWatcher:
    """The actor of one service. It makes the detector for one champion; another champion gets another actor.

    `key` is where its words stand in the cluster's store: `{time, values, cursor}`.
    """

    def __init__(self, key: str, drift: dict[str, Any], champion: str, log: str, python_path: list[str]) -> None:
        import sys

        from autonomic.workflows.batch.cluster_store import ClusterStore

        sys.path[:0] = [folder for folder in python_path if folder not in sys.path]
        self._store = ClusterStore(NAMESPACE)
        self._key = key
        self._every = float(drift["every"])
        module, _, name = drift["detector"].partition(":")
        self._detector = getattr(importlib.import_module(module), name)(champion, champion, **drift["with"])
        self._predictions = PredictionLog(log)
        self._recent: deque[PredictionRow] = deque(maxlen=_CANDIDATES)
        # after a restart of the actor the newest rows are read once more, so that the detector is warm again
        self._cursor = max(0, int((self._store.get(key) or {}).get("cursor", 0)) - _CANDIDATES)
        threading.Thread(target=self._watch, daemon=True, name="drift").start()

    def _watch(self) -> None:
        while True:
            try:
                self._look()
            except Exception:  # noqa: BLE001 - a detector is user code: it may fail on some rows, and the next come all the same
                _log.exception("%s: the detector failed", self._key)
            time.sleep(self._every)

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
        self._store.put(self._key, {"time": time.time(), "values": values, "cursor": self._cursor})

    def _pick(self, since: float) -> None:
        waiting = len(self._predictions.points("unlabelled", limit=_WAITING_FOR_LABELS))
        limit = min(_PICKS_AT_ONCE, _WAITING_FOR_LABELS - waiting)
        if limit < 1:
            return
        rows = [row for row in self._recent if row.time >= since]
        now = time.time()
        picks = self._detector.pick(rows, limit) if rows else []
        self._predictions.add_picks([Pick(pick.prediction_id, now, pick.anomaly, pick.uncertainty, pick.diversity) for pick in picks])


class Detectors:
    """The drift watchers of a cluster, and the questions that are answered from their words and the prediction logs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()

    def keep(self, wanted: Wanted, log_of: Callable[[str, str], Path]) -> None:
        """Makes the actors what they should be: one for each service with `drift:`, with its champion of now."""
        import ray

        with self._lock:
            running = {key.removeprefix("drift-watcher/"): self._store.get(key) for key in self._store.keys("drift-watcher/")}
            for (workflow, service), (drift, champion, since, python_path) in wanted.items():
                name = f"drift-{workflow}--{service}"
                description = {"drift": drift.model_dump(mode="json", by_alias=True), "champion": str(champion), "since": since}
                if running.pop(name, None) == description:
                    continue
                self._stop(name)
                arguments = (
                    f"drift/{workflow}/{service}",
                    description["drift"],
                    str(champion),
                    str(log_of(workflow, service)),
                    list(python_path),
                )
                ray.remote(DriftWatcher).options(
                    name=name, namespace=NAMESPACE, lifetime="detached", num_cpus=0, max_restarts=-1, get_if_exists=True
                ).remote(*arguments)
                self._store.put(f"drift-watcher/{name}", description)
            for name in running:
                self._stop(name)
                self._store.delete(f"drift-watcher/{name}")

    def _stop(self, name: str) -> None:
        import ray

        try:
            ray.kill(ray.get_actor(name, NAMESPACE))
        except ValueError:
            return

    def values(self, workflow: str, service: str, log: Path, since: float) -> dict[str, Any]:
        """`{time, values}`: the detector's last words and the counts of points that were picked since `since`.

        `time` is 0 and `values` are empty where no detector has spoken yet.
        """
        said = self._store.get(f"drift/{workflow}/{service}")
        if said is None or said["time"] < since or not log.is_file():
            return {"time": 0.0, "values": {}}
        opened = PredictionLog(log)
        try:
            counts = asdict(opened.counts(since))
        finally:
            opened.close()
        return {"time": said["time"], "values": {**said["values"], **counts}}
