"""What happened on the platform, in order; the newest are kept, also over a restart of the host."""

import logging
import threading
from typing import Any

from autonomic.platforms.host.store import Store
from autonomic.seams.clock import Clock
from autonomic.seams.platform import Notice
from autonomic.seams.text import well_formed_value

_KEPT = 2000
_log = logging.getLogger(__name__)


class Notices:
    """A bounded, ordered log of notices in the store."""

    def __init__(self, store: Store, clock: Clock, kept: int = _KEPT) -> None:
        self._store = store
        self._clock = clock
        self._kept = kept
        self._lock = threading.Lock()
        self._notices = [notice for key in store.keys("notice/") if (notice := _kept(key, store.get(key))) is not None]
        self._cursor = self._notices[-1].cursor if self._notices else 0

    def tell(self, kind: str, target: str, data: dict[str, Any]) -> None:
        """Appends a notice."""
        with self._lock:
            self._cursor += 1
            notice = Notice(cursor=self._cursor, time=self._clock.now(), kind=kind, target=target, data=well_formed_value(data))
            self._store.put(_key(notice), notice.model_dump(mode="json"))
            self._notices.append(notice)
            while len(self._notices) > self._kept:
                self._store.delete(_key(self._notices.pop(0)))

    def watch(self, cursor: int) -> list[Notice]:
        """The notices after `cursor`."""
        with self._lock:
            return [notice for notice in self._notices if notice.cursor > cursor]


def _kept(key: str, value: Any) -> Notice | None:
    try:
        return Notice.model_validate(value)
    except ValueError as unreadable:
        _log.warning("%s cannot be read and is left out: %s", key, unreadable)
        return None


def _key(notice: Notice) -> str:
    return f"notice/{notice.cursor:012d}"
