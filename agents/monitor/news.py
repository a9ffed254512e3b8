"""Asks MLflow for news while a strategy waits for its events."""

import threading
from datetime import UTC, datetime
from typing import Any

from autonomic.agents.journal import SqlJournal
from autonomic.agents.logs import logger
from autonomic.agents.monitor.intake import Intake
from autonomic.agents.monitor.loop import MonitorLoop
from autonomic.seams.event import CloudEvent, Event

CURSOR = "news/mlflow"
EVERY_SECONDS = 2.0
TYPES = ("dev.autonomic.mlflow.run.finished", "dev.autonomic.model.version.created")
_log = logger(__name__)


class MlflowNews:
    """A thread that polls MLflow and hands its events to the intake. Each comes once, also after a restart."""

    def __init__(self, url: str, journal: SqlJournal, loop: MonitorLoop, intake: Intake, every_seconds: float = EVERY_SECONDS) -> None:
        self._url = url
        self._journal = journal
        self._loop = loop
        self._intake = intake
        self._every_seconds = every_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow-news", daemon=True)

    def start(self) -> None:
        if self._url:
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(self._every_seconds + 10)

    def _run(self) -> None:
        source: Any = None
        failing = False
        while not self._stopping.wait(self._every_seconds):
            if not any(self._loop.listening(type_) for type_ in TYPES):
                continue
            try:
                if source is None:
                    from autonomic.signals.mlflow import MlflowEvents

                    source = MlflowEvents(self._url)
                cursor, _ = self._journal.state(CURSOR)
                events, after = source.watch(cursor)
                # events before the cursor: a crash between the two brings them again, and they count once
                if events:
                    self._intake.accept([_cloud_event(event) for event in events])
                if after != cursor:
                    with self._journal.transaction() as transaction:
                        transaction.put_state(CURSOR, after)
                failing = False
            except Exception as failure:  # noqa: BLE001 MLflow may be down, or answer anything: it is asked again
                if not failing:
                    _log.warning("MLflow gives no news", extra={"detail": str(failure)})
                failing = True
        if source is not None:
            source.close()


def _cloud_event(event: Event) -> CloudEvent:
    time = datetime.fromtimestamp(event.observed_at, UTC).isoformat()
    return CloudEvent(
        id=event.id, source="/autonomic/mlflow", type=event.type, time=time, datacontenttype="application/json", data=event.data
    )
