"""Delivers the outbox: over HTTP to other agents, or in memory for simulation."""

import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from autonomic.agents.journal import Committed, SqlJournal
from autonomic.agents.logs import logger
from autonomic.seams.bus import Handler
from autonomic.seams.clock import Clock
from autonomic.seams.errors import Retryable
from autonomic.seams.event import CloudEvent
from autonomic.seams.journal import Record

BATCH_TYPE = "application/cloudevents-batch+json"
UNDELIVERABLE = "event.undeliverable"
BATCH = 500
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 2.0
_REFUSED = frozenset({400, 409, 410, 413, 415, 422})
_log = logger(__name__)


class Delivery(NamedTuple):
    """What came of handing over events: an HTTP status (0: unreachable) and what was said."""

    status: int
    detail: str


Route = Callable[[Sequence[str]], Delivery]
"""Hands over events (their JSON), all or none of them."""


class HttpBus:
    """The seam `Bus` over HTTP: one thread a destination, so that one that is down does not hold up the others.

    Events go to `{url}/v1/events` in batches, in their order, and leave the outbox when they were accepted. Where a
    destination cannot be reached, or answers 401, 403, 404, 429 or 5xx, the same events are tried again, after 0.1 s
    at first and every 2 s at last. An event that is refused for what it is (400, 413, 422, …) would hold up all that
    follow: it is taken out and kept as a record `event.undeliverable` with the answer.

    Args:
        urls: the other agents, by destination; one without a URL keeps its events until it has one.
        routes: destinations that are not agents.
    """

    def __init__(
        self,
        journal: SqlJournal,
        clock: Clock,
        urls: Mapping[str, str],
        token: str,
        timeout_seconds: float = 10.0,
        routes: Mapping[str, Route] | None = None,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._stopping = threading.Event()
        all_routes = {name: _http_route(url, token, timeout_seconds) for name, url in urls.items() if url} | dict(routes or {})
        self._wakes = {name: threading.Event() for name in all_routes}
        self._threads = [
            threading.Thread(target=self._run, args=(name, route), name=f"bus-{name}", daemon=True) for name, route in all_routes.items()
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

    def _run(self, destination: str, route: Route) -> None:
        wake = self._wakes[destination]
        wait, size = FIRST_WAIT_SECONDS, BATCH
        while not self._stopping.is_set():
            wake.clear()
            try:
                rows = self._journal.outbox(destination, size)
                if not rows:
                    wake.wait()
                    continue
                delivery = route([row[1] for row in rows])
                if 200 <= delivery.status < 300:
                    self._journal.delivered([row[0] for row in rows])
                elif delivery.status in _REFUSED and len(rows) > 1:
                    size = max(1, len(rows) // 2)  # finds the one that is refused
                    continue
                elif delivery.status in _REFUSED:
                    self._give_up(destination, rows[0], delivery)
                else:
                    raise Retryable(f"{delivery.status or 'unreachable'}: {delivery.detail}")
                wait, size = FIRST_WAIT_SECONDS, BATCH
            except Exception as failure:  # noqa: BLE001 whatever happens, what is in the outbox is tried again
                if wait == FIRST_WAIT_SECONDS:
                    _log.warning("destination does not take events", extra={"destination": destination, "detail": str(failure)})
                self._stopping.wait(wait * random.uniform(0.8, 1.2))
                wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    def _give_up(self, destination: str, row: tuple[int, str], delivery: Delivery) -> None:
        said = {"destination": destination, "status": delivery.status, "detail": delivery.detail}
        _log.error("event is refused and was taken out", extra=said)
        data: dict[str, Any] = {**said, "event": json.loads(row[1])}
        record = Record(time=self._clock.now(), kind=UNDELIVERABLE, subject=destination, data=data)
        self._journal.delivered([row[0]], record)


def _http_route(url: str, token: str, timeout_seconds: float) -> Route:
    client: Any = None

    def route(events: Sequence[str]) -> Delivery:
        nonlocal client
        import httpx

        if client is None:
            # trust_env: agents never speak to one another through a proxy
            headers = {"Authorization": f"Bearer {token}", "Content-Type": BATCH_TYPE}
            client = httpx.Client(headers=headers, timeout=timeout_seconds, trust_env=False)
        try:
            answer = client.post(f"{url}/v1/events", content=f"[{','.join(events)}]".encode())
        except httpx.HTTPError as failure:
            return Delivery(0, repr(failure))
        return Delivery(answer.status_code, answer.text[:500])

    return route


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
