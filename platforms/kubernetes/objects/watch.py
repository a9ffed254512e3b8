"""What is there of one kind, kept up to date by a watch; nothing is polled."""

import logging
import random
import threading
from collections.abc import Callable
from typing import Any

from autonomic.platforms.kubernetes.objects.api import Api, Gone, Resource, TooMany
from autonomic.seams.errors import AutonomicError, Permanent

# the API server ends a watch after this time, and sends a bookmark about once a minute
_WATCH_SECONDS = 290
_QUIET_SECONDS = 100.0
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0
_log = logging.getLogger(__name__)

Object = dict[str, Any]
Changed = Callable[[Object | None, Object | None], None]
"""(before, now); one of them is None for an object that came or went."""


class Watch:
    """The objects of one kind with certain labels (and values of `fields`), by name, as last heard of.

    `away` says why it cannot be followed now, "" while it is; `refused`: because of a missing right. `changed` is called
    from the watch's thread for every change, also for those that happened while the watch was away.
    `close` ends the thread.
    """

    def __init__(self, api: Api, resource: Resource, selector: str, changed: Changed, fields: str = "") -> None:
        self._api = api
        self._resource = resource
        self._selector = selector
        self._fields = fields
        self._changed = changed
        self._objects: dict[str, Object] = {}
        self._lock = threading.Lock()
        self._version = ""
        self._answer: Any = None
        self._stopping = threading.Event()
        self._synced = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"watch-{resource.plural}")
        self.away = ""
        self.refused = False

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    @property
    def missing(self) -> str:
        """Why nothing is known of them now, "" where what is known is as it is."""
        return self.away or ("" if self._synced.is_set() else f"the {self._resource.plural} were not listed yet")

    def wait(self, seconds: float) -> bool:
        """Whether everything was listed once, after waiting for it."""
        return self._synced.wait(seconds)

    def close(self) -> None:
        """Ends the watch; nothing is called any more when this returns."""
        self._stopping.set()
        with self._lock:
            if self._answer is not None:
                self._answer.shutdown()
        if self._thread.is_alive():
            self._thread.join(10)

    def all(self) -> dict[str, Object]:
        """The objects by name."""
        with self._lock:
            return dict(self._objects)

    def get(self, name: str) -> Object | None:
        """An object, None where there is none."""
        with self._lock:
            return self._objects.get(name)

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            try:
                if not self._version:
                    self._version = self._list()
                    self._synced.set()
                self._follow()
                self.away, self.refused, pause = "", False, _FIRST_PAUSE_SECONDS
            except Gone:
                self._version = ""
            except Exception as error:  # noqa: BLE001 - whatever broke the watch, it is begun again
                if self._stopping.is_set():
                    return
                if not isinstance(error, AutonomicError | OSError):
                    _log.debug("the watch of %s broke: %r", self._resource.plural, error)
                self.away = str(error)
                self.refused = isinstance(error, Permanent)
                asked = min(error.delay_seconds, _LONGEST_PAUSE_SECONDS) if isinstance(error, TooMany) else 0.0
                self._stopping.wait(max(asked, pause * random.uniform(0.5, 1.0)))
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _list(self) -> str:
        items, version = self._api.list(self._resource, self._selector, self._fields)
        now = {item["metadata"]["name"]: item for item in items}
        for name in set(self.all()) - set(now):
            self._put(name, None)
        for name, item in now.items():
            self._put(name, item)
        return version

    def _follow(self) -> None:
        query = {
            "watch": "true",
            "labelSelector": self._selector,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
            **({"fieldSelector": self._fields} if self._fields else {}),
        }
        answer = self._api.watch(self._resource, query, _QUIET_SECONDS)
        try:
            with self._lock:
                self._answer = answer
            if self._stopping.is_set():
                return
            self.away, self.refused = "", False
            for event in self._api.events(answer):
                kind, item = event["type"], event["object"]
                if kind == "ERROR":
                    # 410 is what comes in practice; whatever it is, a fresh list is the way back
                    raise Gone(str(item.get("message", "")))
                self._version = item["metadata"]["resourceVersion"]
                if kind != "BOOKMARK":
                    self._put(item["metadata"]["name"], None if kind == "DELETED" else item)
                if self._stopping.is_set():
                    break
        finally:
            with self._lock:
                self._answer = None
            # a watch is never read to its end, so that its connection is of no use to another request
            answer.close()
            answer.release_conn()

    def _put(self, name: str, item: Object | None) -> None:
        with self._lock:
            before = self._objects.pop(name, None)
            if item is not None:
                self._objects[name] = item
        if self._stopping.is_set():
            return
        if before is None and item is None:
            return
        if before and item and before["metadata"]["resourceVersion"] == item["metadata"]["resourceVersion"]:
            return
        try:
            self._changed(before, item)
        except Exception:  # noqa: BLE001 - one object that cannot be handled must not end the watch of all others
            _log.exception("a change of %s could not be handled", self._resource.plural)
