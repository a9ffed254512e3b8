"""Delivers the outbox: over HTTP to other agents, or in memory for simulation."""

import json
import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from autonomic.agents.journal import Committed, SqlJournal
from autonomic.agents.logs import logger
from autonomic.seams.bus import Handler
from autonomic.seams.clock import Clock
from autonomic.seams.event import CloudEvent
from autonomic.seams.journal import Record

BATCH_TYPE = "application/cloudevents-batch+json"
UNDELIVERABLE = "event.undeliverable"
BATCH = 500
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 2.0
_REFUSED = frozenset({400, 409, 410, 413, 415, 422})
_log = logger(__name__)


class HttpBus:
    """The seam `Bus` over HTTP: one thread a destination, so that one that is down does not hold up the others.

    Events go to `{url}/v1/events` in batches, in their order, and leave the outbox when they were accepted. Where a
    destination cannot be reached, or answers 401, 403, 404, 429 or 5xx, the same events are tried again, after 0.1 s
    at first and every 2 s at last. An event that is refused for what it is (400, 413, 422, …) would hold up all that
    follow: it is taken out and kept as a record `event.undeliverable` with the answer.
    """

    def __init__(self, journal: SqlJournal, clock: Clock, urls: Mapping[str, str], token: str, timeout_seconds: float = 10.0) -> None:
        self._journal = journal
        self._clock = clock
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._stopping = threading.Event()
        self._wakes = {name: threading.Event() for name in urls}
        self._threads = [
            threading.Thread(target=self._deliver, args=(name, url), name=f"bus-{name}", daemon=True) for name, url in urls.items() if url
        ]
        journal.listen(self._on_commit)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        for wake in self._wakes.values():
            wake.set()

    def stop(self) -> None:
        """Ends the delivery after the request that is under way; what is left goes out after the next start."""
        self._stopping.set()
        self.wake()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(self._timeout_seconds + 1)

    def _on_commit(self, committed: Committed) -> None:
        for destination in committed.destinations:
            if wake := self._wakes.get(destination):
                wake.set()

    def _deliver(self, destination: str, url: str) -> None:
        import httpx

        wake = self._wakes[destination]
        wait = FIRST_WAIT_SECONDS
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": BATCH_TYPE}
        # trust_env: loopback and cluster addresses never go through a proxy
        with httpx.Client(headers=headers, timeout=self._timeout_seconds, trust_env=False) as client:
            size = BATCH
            while not self._stopping.is_set():
                wake.clear()
                rows = self._journal.outbox(destination, size)
                if not rows:
                    wake.wait()
                    continue
                try:
                    answer = client.post(f"{url}/v1/events", content=f"[{','.join(row[1] for row in rows)}]".encode())
                    status, detail = answer.status_code, answer.text[:500]
                except httpx.HTTPError as error:
                    status, detail = 0, repr(error)
                if 200 <= status < 300:
                    self._journal.delivered([row[0] for row in rows])
                    wait, size = FIRST_WAIT_SECONDS, BATCH
                elif status in _REFUSED and len(rows) > 1:
                    size = max(1, len(rows) // 2)  # finds the one that is refused
                elif status in _REFUSED:
                    self._give_up(destination, rows[0], status, detail)
                    size = BATCH
                else:
                    if wait == FIRST_WAIT_SECONDS:
                        _log.warning("destination is down", extra={"destination": destination, "status": status, "detail": detail})
                    self._stopping.wait(wait * random.uniform(0.8, 1.2))
                    wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    def _give_up(self, destination: str, row: tuple[int, str], status: int, detail: str) -> None:
        _log.error("event is refused and was taken out", extra={"destination": destination, "status": status, "detail": detail})
        data: dict[str, Any] = {"destination": destination, "status": status, "detail": detail, "event": json.loads(row[1])}
        record = Record(time=self._clock.now(), kind=UNDELIVERABLE, subject=destination, data=data)
        self._journal.delivered([row[0]], record)


class MemoryBus:
    """The seam `Bus` for simulation: hands each event to its destination's handler in the thread that committed."""

    def __init__(self, journals: Sequence[SqlJournal], handlers: Mapping[str, Handler]) -> None:
        self._journals = tuple(journals)
        self._handlers = dict(handlers)
        self._delivering = False

    def start(self) -> None:
        for journal in self._journals:
            journal.listen(lambda committed: self.wake() if committed.destinations else None)
        self.wake()

    def wake(self) -> None:
        # a handler that commits comes back here: its events are delivered by the loop that called it
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._deliver():
                pass
        finally:
            self._delivering = False

    def _deliver(self) -> bool:
        delivered = False
        for journal in self._journals:
            for destination in journal.outbox_sizes():
                handler = self._handlers[destination]
                for sequence, text in journal.outbox(destination):
                    handler(CloudEvent.model_validate_json(text))
                    journal.delivered([sequence])
                    delivered = True
        return delivered

    def stop(self) -> None: ...
