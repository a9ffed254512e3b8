"""Being the one planner that acts."""

import threading
from collections.abc import Callable

from autonomic.agents.leases import SqlLeases
from autonomic.agents.logs import logger
from autonomic.seams.errors import Retryable
from autonomic.seams.lease import Fence

TARGET = "planner"
TTL_SECONDS = 10.0
_log = logger(__name__)


class Leadership:
    """Holds the planner's lease: acquires it, renews it, and hands out its fence for every effect.

    `gained` is called once, in a thread of its own, when the lease is held; `lost` when another took it over
    meanwhile (this process was frozen for longer than the lease), after which nothing may be done any more.
    """

    def __init__(self, leases: SqlLeases, gained: Callable[[], None], lost: Callable[[], None], ttl_seconds: float = TTL_SECONDS) -> None:
        self._leases = leases
        self._gained = gained
        self._lost = lost
        self._ttl_seconds = ttl_seconds
        self._fence: Fence | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leadership", daemon=True)

    @property
    def held(self) -> bool:
        """Whether this planner may act, as far as it knows."""
        return self._fence is not None

    def start(self) -> None:
        """Begins to ask for the lease."""
        self._thread.start()

    def stop(self) -> None:
        """Gives the lease back, so that a successor need not wait."""
        self._stop.set()
        self._thread.join(self._ttl_seconds)
        fence, self._fence = self._fence, None
        if fence is not None:
            self._leases.release(fence)

    def fence(self) -> int:
        """The fencing token, after the database has confirmed that the lease is still held.

        Raises:
            Retryable: it is not held.
        """
        fence = self._fence
        renewed = self._leases.renew(fence, self._ttl_seconds) if fence is not None else None
        if renewed is None:
            raise Retryable("this planner does not hold the lease: another one is at work", self._ttl_seconds)
        return renewed.token

    def _run(self) -> None:
        waited = False
        while not self._stop.is_set():
            fence = self._leases.acquire(TARGET, self._ttl_seconds)
            if fence is not None:
                break
            if not waited:
                _log.warning("another planner holds the lease; waiting for it")
                waited = True
            self._stop.wait(self._ttl_seconds / 10)
        else:
            return
        self._fence = fence
        _log.info("holding the planner's lease", extra={"fence": fence.token})
        self._gained()
        while not self._stop.wait(self._ttl_seconds / 3):
            if self._leases.renew(fence, self._ttl_seconds) is None:
                self._fence = None
                _log.error("the planner's lease was taken over", extra={"fence": fence.token})
                self._lost()
                return
