"""The platform's memory: labelled ConfigMaps, which outlive every process of ours.

They own nothing, and what somebody deletes of them is written again by the writer that holds it.

Keys that change together share a ConfigMap. Each write names the resource version that this writer saw last, so that the
API server refuses it where another writer was there in between.
"""

import json
import threading
from collections.abc import Collection
from typing import Any

from autonomic.platforms.kubernetes.objects import names
from autonomic.platforms.kubernetes.objects.api import CONFIG_MAPS, Api, Conflict
from autonomic.seams.errors import Retryable
from autonomic.seams.word import Word

_KIND_LABEL = f"{names.PREFIX}/store"
_NOTICES_TOGETHER = 50
_ATTEMPTS = 10


class Lost(Retryable):
    """A younger writer is at work; this one must not write any more."""


class Held(Word):
    """A ConfigMap as it was seen last; `entries` are JSON texts by key."""

    name: str
    uid: str
    version: str
    entries: dict[str, str]


def group_of(key: str) -> str:
    """The keys of one group stand in one ConfigMap."""
    kind, _, rest = key.partition("/")
    first = rest.partition("/")[0]
    if kind in ("intent", "fence", "revision"):
        return f"target/{first}"
    if kind in ("app", "manifest", "variation"):
        return f"app/{first}"
    if kind in ("request", "state", "tracking", "place"):
        return f"run/{first}"
    if kind == "search":
        return f"search/{first}"
    if kind == "notice":
        return f"notices/{int(first) // _NOTICES_TOGETHER:012d}"
    if kind == "epoch":
        return "epochs"
    return key


def object_name(installation: str, group: str) -> str:
    """The name of a group's ConfigMap."""
    return f"{installation}-{names.dns_name(group.replace('/', '-'), 200)}-{names.digest(group)}"


def entry_name(key: str) -> str:
    """The name of a key's entry in its ConfigMap."""
    return names.digest(key, 32)


def to_data(entries: dict[str, str | None]) -> dict[str, str | None]:
    """Entries as the `data` of a patch; None takes an entry away."""
    return {entry_name(key): None if text is None else json.dumps({"key": key, "value": text}) for key, text in entries.items()}


def held(item: dict[str, Any]) -> Held:
    """What a ConfigMap holds."""
    entries: dict[str, str] = {}
    for text in (item.get("data") or {}).values():
        entry = json.loads(text)
        entries[entry["key"]] = entry["value"]
    meta = item["metadata"]
    return Held(name=meta["name"], uid=meta["uid"], version=meta["resourceVersion"], entries=entries)


class ConfigMapStore:
    """A `platforms.host.store.Store`. All is read once, at the start; afterwards only epochs are asked from the cluster.

    `epoch` is that of the writer, once it has one: where a write is refused because the object is another one by now, it
    is made again by the writer with the highest epoch, and never by any other. `lost` says why this one may not write any
    more, "" while it may.
    """

    def __init__(self, api: Api, installation: str) -> None:
        self._api = api
        self._installation = installation
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._held: dict[str, Held] = {}
        self.epoch: int | None = None
        self.lost = ""
        for item in api.list(CONFIG_MAPS, names.selector(names.labels(installation), _KIND_LABEL))[0]:
            found = held(item)
            if found.entries:
                self._held[group_of(next(iter(found.entries)))] = found

    def get(self, key: str) -> Any:
        group = group_of(key)
        found = self._reload(group) if group == "epochs" else self._held.get(group)
        text = found.entries.get(key) if found else None
        return None if text is None else json.loads(text)

    def keys(self, prefix: str) -> list[str]:
        if prefix.startswith("epoch/"):
            self._reload("epochs")
        with self._lock:
            everything = list(self._held.values())
        return sorted(key for found in everything for key in found.entries if key.startswith(prefix))

    def put(self, key: str, value: Any) -> None:
        self._write(key, json.dumps(value), new=False)

    def put_new(self, key: str, value: Any) -> bool:
        return self._write(key, json.dumps(value), new=True)

    def delete(self, key: str) -> None:
        group = group_of(key)
        with self._group_lock(group):
            for _ in range(_ATTEMPTS):
                found = self._held.get(group)
                if found is None or key not in found.entries:
                    return
                try:
                    if len(found.entries) > 1 or group == "epochs":
                        self._patch(group, found, {key: None})
                    else:
                        self._api.delete(CONFIG_MAPS, found.name, uid=found.uid, resourceVersion=found.version)
                        self._keep(group, None)
                    return
                except Conflict as conflict:
                    self._look_again(group, conflict)
        raise Retryable(f"{key} could not be deleted: its ConfigMap changes all the time")

    def check_newest(self, epoch: int) -> None:
        """Whether this writer may write what was written under `epoch`.

        Raises:
            Lost: a younger writer was there; `lost` says so from now on.
        """
        if self.epoch is not None and epoch > self.epoch:
            self.lost = f"Another writer has taken over (epoch {self.epoch} is over, {epoch} has begun); ask it"
            raise Lost(self.lost)

    def newest_epoch(self) -> int:
        """The highest epoch that any writer has, asked from the cluster."""
        return max((int(key.rpartition("/")[2]) for key in self.keys("epoch/")), default=0)

    def raise_epoch(self, epoch: int) -> None:
        """Makes every epoch that is taken from now on a higher one, also where the record of the earlier ones is lost."""
        if epoch > self.newest_epoch():
            self.put_new(_epoch_key(epoch), 0.0)

    def heal(self, present: Collection[str]) -> list[str]:
        """Writes again what was deleted by somebody else: what is held and not among the `present` ConfigMaps. Returns its groups.

        Raises:
            Lost: a younger writer is at work.
            Retryable: the API server does not answer.
        """
        if self.epoch is None:
            return []
        newest = self.newest_epoch()
        self.check_newest(newest)
        healed: list[str] = []
        if newest < self.epoch:
            self.put_new(_epoch_key(self.epoch), 0.0)
            healed.append("epochs")
        with self._lock:
            suspects = [group for group, found in self._held.items() if group != "epochs" and found.name not in present]
        for group in suspects:
            with self._group_lock(group):
                found = self._held.get(group)
                # one that was written just now may not be among them yet
                if found is not None and self._api.get(CONFIG_MAPS, found.name) is None:
                    self._keep(group, held(self._api.create(CONFIG_MAPS, self._document(group, dict(found.entries)))))
                    healed.append(group)
        return healed

    def _write(self, key: str, text: str, new: bool) -> bool:
        group = group_of(key)
        with self._group_lock(group):
            if new and group == "epochs":
                self._reload(group)
            for _ in range(_ATTEMPTS):
                found = self._held.get(group)
                if new and found is not None and key in found.entries:
                    return False
                try:
                    if found is None:
                        self._keep(group, held(self._api.create(CONFIG_MAPS, self._document(group, {key: text}))))
                    else:
                        self._patch(group, found, {key: text})
                    return True
                except Conflict as conflict:
                    self._look_again(group, conflict)
        raise Retryable(f"{key} could not be written: its ConfigMap changes all the time")

    def _patch(self, group: str, found: Held, entries: dict[str, str | None]) -> None:
        body = {"metadata": {"resourceVersion": found.version}, "data": to_data(entries)}
        answer = self._api.patch(CONFIG_MAPS, found.name, body)
        if answer is None:
            # somebody deleted it: all that it held is written again
            if self.epoch is not None:
                self.check_newest(self.newest_epoch())
            kept = {key: text for key, text in {**found.entries, **entries}.items() if text is not None}
            answer = self._api.create(CONFIG_MAPS, self._document(group, kept))
        self._keep(group, held(answer))

    def _document(self, group: str, entries: dict[str, str]) -> dict[str, Any]:
        own = {_KIND_LABEL: group.partition("/")[0]}
        meta = {"name": object_name(self._installation, group), "labels": {**names.own_labels(self._installation, "memory"), **own}}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": to_data(dict(entries))}

    def _look_again(self, group: str, conflict: Conflict) -> None:
        self._reload(group)
        if self.epoch is None:
            return
        try:
            self.check_newest(self.newest_epoch())
        except Lost as lost:
            raise lost from conflict

    def _reload(self, group: str) -> Held | None:
        item = self._api.get(CONFIG_MAPS, object_name(self._installation, group))
        if item is None and group != "epochs":
            # deleted by somebody else: what is held of it is written with the next write
            return self._held.get(group)
        found = None if item is None else held(item)
        self._keep(group, found)
        return found

    def _keep(self, group: str, found: Held | None) -> None:
        with self._lock:
            if found is None:
                self._held.pop(group, None)
            else:
                self._held[group] = found

    def _group_lock(self, group: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(group, threading.Lock())


def _epoch_key(epoch: int) -> str:
    return f"epoch/{epoch:012d}"
