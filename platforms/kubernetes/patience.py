"""What goes on trying while the API server is away, for those who have nobody to hand the trouble to."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from autonomic.platforms.kubernetes.objects.store import ConfigMapStore, Lost
from autonomic.seams.errors import Retryable

T = TypeVar("T")
_LONGEST_PAUSE_SECONDS = 10.0
_LOOK_SECONDS = 0.5


def insist(call: Callable[[], T], stopping: threading.Event) -> T:
    """What `call` returns, called again while it may work later.

    Raises:
        Lost: a younger writer is at work, or this one is stopping.
    """
    pause = 0.2
    while True:
        try:
            return call()
        except Lost:
            raise
        except Retryable as away:
            if stopping.wait(max(pause, min(away.delay_seconds, _LONGEST_PAUSE_SECONDS))):
                raise Lost(f"this writer is stopping: {away}") from away
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def until_found(look: Callable[[], T | None], stopping: threading.Event, within_seconds: float) -> T | None:
    """What `look` finds, looked for again while it finds nothing; None where it has found nothing within that time.

    Raises:
        Lost: this writer is stopping.
    """
    deadline = time.monotonic() + within_seconds
    while (found := insist(look, stopping)) is None and time.monotonic() < deadline:
        if stopping.wait(_LOOK_SECONDS):
            raise Lost("this writer is stopping")
    return found


class PatientStore:
    """A store whose writes wait for the API server."""

    def __init__(self, store: ConfigMapStore, stopping: threading.Event) -> None:
        self._store = store
        self._stopping = stopping

    def get(self, key: str) -> Any:
        return self._store.get(key)

    def keys(self, prefix: str) -> list[str]:
        return self._store.keys(prefix)

    def put(self, key: str, value: Any) -> None:
        insist(lambda: self._store.put(key, value), self._stopping)

    def put_new(self, key: str, value: Any) -> bool:
        return insist(lambda: self._store.put_new(key, value), self._stopping)

    def delete(self, key: str) -> None:
        insist(lambda: self._store.delete(key), self._stopping)
