"""Events to workers: one after another for each target, many targets at once."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from autonomic.agents.logs import logger
from autonomic.seams.errors import Retryable

Item = TypeVar("Item")
_log = logger(__name__)
_UNEXPECTED_DELAY_SECONDS = 5.0


class Dispatcher(Generic[Item]):
    """Keeps the order of items per target. An item whose handling raises `Retryable` holds up its own target only.

    `handle` takes an item; what else it raises is logged and tried again after 5 s.
    """

    def __init__(self, handle: Callable[[Item], None], threads: int = 8) -> None:
        self._handle = handle
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="planner")
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Item]] = {}

    def put(self, target: str, item: Item) -> None:
        """Queues an item behind those of its target."""
        with self._lock:
            queue = self._waiting.get(target)
            if queue is not None:
                queue.append(item)
                return
            self._waiting[target] = deque([item])
        self._work(target)

    def holds(self, target: str) -> bool:
        """Whether items of a target are queued or being handled."""
        with self._lock:
            return target in self._waiting

    def waiting(self) -> int:
        """How many items are queued or being handled."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def stop(self) -> None:
        """Ends after the items that are being handled."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _work(self, target: str) -> None:
        with contextlib.suppress(RuntimeError):  # a timer of an item that waits may fire after the stop
            self._pool.submit(self._next, target)

    def _next(self, target: str) -> None:
        with self._lock:
            item = self._waiting[target][0]
        try:
            self._handle(item)
        except Retryable as later:
            self._again(target, later.delay_seconds)
            return
        except Exception:  # noqa: BLE001 the boundary of a worker: an item is never lost by a bug
            _log.exception("handling failed; it is tried again", extra={"target": target})
            self._again(target, _UNEXPECTED_DELAY_SECONDS)
            return
        with self._lock:
            queue = self._waiting[target]
            queue.popleft()
            if not queue:
                del self._waiting[target]
                return
        self._work(target)

    def _again(self, target: str, delay_seconds: float) -> None:
        timer = threading.Timer(max(0.05, delay_seconds), self._work, [target])
        timer.daemon = True
        timer.start()
