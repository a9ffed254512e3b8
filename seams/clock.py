"""Time. Nothing else reads it, so that a virtual hour is a unit test."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Wall time, monotonic time, sleep and alarms."""

    def now(self) -> float:
        """Seconds since the Unix epoch (UTC)."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def sleep(self, seconds: float) -> None: ...

    def call_at(self, when: float, function: Callable[[], None]) -> None:
        """Calls `function` once `now() >= when`."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def call_at(self, when: float, function: Callable[[], None]) -> None:
        timer = threading.Timer(max(0.0, when - self.now()), function)
        timer.daemon = True
        timer.start()


class VirtualClock:
    """A clock that moves only when it is told to; alarms run in the order of their times."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start = start
        self._now = start
        self._order = itertools.count()
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now - self._start

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def call_at(self, when: float, function: Callable[[], None]) -> None:
        heapq.heappush(self._alarms, (when, next(self._order), function))

    def advance(self, seconds: float) -> None:
        """Moves time forward by `seconds` and runs every alarm on the way at its own time."""
        end = self._now + seconds
        while self._alarms and self._alarms[0][0] <= end:
            when, _, function = heapq.heappop(self._alarms)
            self._now = max(self._now, when)
            function()
        self._now = max(self._now, end)
