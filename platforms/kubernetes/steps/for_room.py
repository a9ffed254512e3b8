"""What waits for a quota to leave room: it is asked for again now and then, until it is there or nobody wants it any more."""

import threading
from collections.abc import Callable

from autonomic.seams.clock import Clock

_EVERY_SECONDS = 3.0


class ForRoom:
    """By name, what is to be tried again. May be used by several threads at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # held while something is made: whoever forgets it knows afterwards whether it is there
        self._lock = threading.RLock()
        self._waiting: dict[str, tuple[float, Callable[[], object]]] = {}

    def wait(self, name: str, make: Callable[[], object]) -> None:
        """Has `make` called after a while; it may ask for another wait."""
        with self._lock:
            self._waiting[name] = (self._clock.monotonic() + _EVERY_SECONDS, make)

    def forget(self, name: str) -> None:
        """It is not wanted any more."""
        with self._lock:
            self._waiting.pop(name, None)

    def look(self) -> None:
        """Makes what has waited for long enough.

        Raises:
            Retryable: the API server does not answer; what was not made is tried again.
        """
        for name in list(self._waiting):
            with self._lock:
                at, make = self._waiting.get(name, (float("inf"), None))
                if make is None or at > self._clock.monotonic():
                    continue
                # where it raises it stays for the next look
                self.wait(name, make)
                mine = self._waiting[name]
                make()
                if self._waiting.get(name) == mine:
                    del self._waiting[name]
