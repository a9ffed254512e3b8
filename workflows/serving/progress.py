"""Whether a model server gets on with its work, or hangs: what readiness and liveness look at."""

import time
from collections.abc import Callable

# where callers wait for ever
_PATIENCE_SECONDS = 60.0
_LEAST_DEAD_SECONDS = 30.0
_DEAD_TIMEOUTS = 3


class Progress:
    """The signs of life of one server.

    Nobody waits any more for a batch that takes longer than `timeout_seconds`, the longest that a caller waits (0: for ever), so the
    server is not ready meanwhile. One that takes three times as long (at least 30 s), or an event loop that stood still for so long, does
    not come back by itself: the server is dead, and whoever started it replaces it.
    """

    def __init__(self, timeout_seconds: float, busy_seconds: Callable[[], float], now: Callable[[], float] = time.monotonic) -> None:
        self._ready_seconds = timeout_seconds or _PATIENCE_SECONDS
        self._dead_seconds = max(_LEAST_DEAD_SECONDS, _DEAD_TIMEOUTS * self._ready_seconds)
        self._busy_seconds = busy_seconds
        self._now = now
        self._beat_at = now()

    def beat(self) -> None:
        """The event loop runs."""
        self._beat_at = self._now()

    def lack_of_readiness(self) -> str:
        """Why no request should be sent here; "" where nothing speaks against it."""
        busy = self._busy_seconds()
        return f"one batch has been in the model for {busy:.1f} s" if busy > self._ready_seconds else ""

    def death(self) -> str:
        """Why this server will not come back; "" while it may."""
        busy, silent = self._busy_seconds(), self._now() - self._beat_at
        if busy > self._dead_seconds:
            return f"one batch has been in the model for {busy:.0f} s"
        return f"its event loop has stood still for {silent:.0f} s" if silent > self._dead_seconds else ""
