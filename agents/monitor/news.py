"""Asks sources of events for news while a strategy waits for them."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from autonomic.agents.journal import SqlJournal
from autonomic.agents.logs import logger
from autonomic.agents.monitor.intake import Intake
from autonomic.agents.monitor.loop import MonitorLoop
from autonomic.seams.event import CloudEvent, Event

CURSOR = "news/"
EVERY_SECONDS = 2.0
_log = logger(__name__)


class NewsSource(NamedTuple):
    """Where events of these `types` come from; `make` gives the `seams.signal.EventSource` when it is first needed."""

    name: str
    types: tuple[str, ...]
    make: Callable[[], Any]


class News:
    """A thread that polls one source and hands its events to the intake. Each comes once, also after a restart."""

    def __init__(
        self, source: NewsSource, journal: SqlJournal, loop: MonitorLoop, intake: Intake, every_seconds: float = EVERY_SECONDS
    ) -> None:
        self._source = source
        self._journal = journal
        self._loop = loop
        self._intake = intake
        self._every_seconds = every_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"news-{source.name}", daemon=True)

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the question that is under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(self._every_seconds + 10)

    def _run(self) -> None:
        name = self._source.name
        source: Any = None
        failing = False
        while not self._stopping.wait(self._every_seconds):
            if not any(self._loop.listening(type_) for type_ in self._source.types):
                continue
            try:
                if source is None:
                    source = self._source.make()
                cursor, _ = self._journal.state(CURSOR + name)
                events, after = source.watch(cursor)
                # events before the cursor: a crash between the two brings them again, and they count once
                if events:
                    self._intake.accept([told for event in events if (told := self._told(event)) is not None])
                if after != cursor:
                    with self._journal.transaction() as transaction:
                        transaction.put_state(CURSOR + name, after)
                failing = False
            except Exception as failure:  # noqa: BLE001 a source may be down, or answer anything: it is asked again
                if not failing:
                    _log.warning("a source gives no news", extra={"source": name, "detail": str(failure)})
                failing = True
        if source is not None:
            source.close()

    def _told(self, event: Event) -> CloudEvent | None:
        try:
            return _cloud_event(event)
        except (ValueError, OverflowError, OSError) as odd:
            # such as a time beyond any calendar: it is left out, so that those after it come
            _log.warning("an event is left out", extra={"source": self._source.name, "event": event.id, "detail": str(odd)})
            return None


def _cloud_event(event: Event) -> CloudEvent:
    time = datetime.fromtimestamp(event.observed_at, UTC).isoformat()
    return CloudEvent(
        id=event.id,
        source=f"/autonomic/{event.source}",
        type=event.type,
        subject=event.target or None,
        time=time,
        datacontenttype="application/json",
        data=event.data,
    )
