"""Kubernetes Events on objects: what was done with them and why, each told once."""

import hashlib
import logging
import queue
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from autonomic.platforms.kubernetes.objects.api import EVENTS, Api, Conflict
from autonomic.seams.clock import Clock
from autonomic.seams.errors import AutonomicError

Object = Mapping[str, Any]
COMPONENT = "autonomic-host"
_LONGEST_MESSAGE = 1000
_CLOSE_SECONDS = 10.0
_log = logging.getLogger(__name__)


def timestamp(seconds: float) -> str:
    """A time as Kubernetes writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def event(item: Object, component: str, key: str, reason: str, message: str, now: float, *, good: bool = True) -> dict[str, Any]:
    """A Kubernetes Event on an object, told by `component`. Its name follows from `key`, so that it is told once. Pure."""
    meta = item["metadata"]
    about = {name: meta[name] for name in ("name", "namespace", "uid")}
    mark = hashlib.sha256(f"{meta['uid']}/{key}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name']}.{mark}", "namespace": meta["namespace"]},
        "involvedObject": {"apiVersion": item["apiVersion"], "kind": item["kind"], **about},
        "reason": reason,
        "message": message if len(message) <= _LONGEST_MESSAGE else f"{message[: _LONGEST_MESSAGE - 1]}…",
        "type": "Normal" if good else "Warning",
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "",
        "firstTimestamp": timestamp(now),
        "lastTimestamp": timestamp(now),
        "count": 1,
    }


def owner_of(pod: Object) -> Object | None:
    """The object that made a pod, as far as an Event needs it; None where nobody did. Pure."""
    meta = pod.get("metadata", {})
    for owner in meta.get("ownerReferences", []):
        if owner.get("controller"):
            about = {"name": owner["name"], "uid": owner["uid"], "namespace": meta["namespace"]}
            return {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "metadata": about}
    return None


class Events:
    """Tells Events of this writer, from a thread of its own: nobody waits for them, and what cannot be told is logged.

    `start` and `close` once each; what was asked for before `close` is still told, where the API server takes it.
    """

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._wanted: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True, name="events")

    def start(self) -> None:
        """Begins to tell."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._wanted.put(None)
        if self._thread.is_alive():
            self._thread.join(_CLOSE_SECONDS)

    def tell(self, item: Object | None, key: str, reason: str, message: str, *, good: bool = True) -> None:
        """Tells an Event on an object, unless one with this `key` was told on it before; None is passed over."""
        if item is not None:
            self._wanted.put(event(item, COMPONENT, key, reason, message, self._clock.now(), good=good))

    def _run(self) -> None:
        while (body := self._wanted.get()) is not None:
            try:
                self._api.create(EVENTS, body)
            except Conflict:
                _log.debug("the event %s was told before", body["metadata"]["name"])
            except AutonomicError as refused:
                about = body["involvedObject"]
                _log.warning("an event on %s %s could not be told (%s): %s", about["kind"], about["name"], body["message"], refused)
