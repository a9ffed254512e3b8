"""Brings what is in force in line with the Workflow and Strategy objects of a namespace, and tells them what came of it."""

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from autonomic.agents.logs import logger
from autonomic.agents.planner.custom_resources import telling
from autonomic.agents.planner.custom_resources.choosing import Choice, Given, Key, choose, in_force, read
from autonomic.agents.planner.custom_resources.news import News
from autonomic.agents.planner.custom_resources.ownership import Ownership
from autonomic.agents.planner.custom_resources.telling import Action, Facts
from autonomic.agents.planner.specs import Specs
from autonomic.platforms.kubernetes.events import event
from autonomic.platforms.kubernetes.objects.api import EVENTS, Api, Conflict, Forbidden, Resource
from autonomic.platforms.kubernetes.objects.watch import Object, Watch
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.errors import AutonomicError, Permanent, Retryable
from autonomic.seams.journal import Transaction
from autonomic.strategies.crds.definitions import GROUP, VERSION

if TYPE_CHECKING:
    from autonomic.agents.planner.service import Planner

WORKFLOWS = Resource(GROUP, VERSION, "workflows")
STRATEGIES = Resource(GROUP, VERSION, "strategies")
_OF_KIND = {"Workflow": WORKFLOWS, "Strategy": STRATEGIES}
ACTOR = "its custom resource"
_HELD = "custom-resource/"
# what is applied together is judged together
_GATHERING_SECONDS = 0.05
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0
_log = logger(__name__)


class CustomResources:
    """Runs while its planner holds the lease. `start` and `close` once each.

    State `custom-resource/KIND/NAME` says that an object of the cluster is in force, and in which generation: what is no longer
    in the cluster leaves force, also when it was deleted while no planner ran, so that no finalizer is needed. It is committed
    together with the documents. As long as the objects were not listed, nothing is done.

    Raises:
        Permanent: there are no credentials for the cluster.
    """

    def __init__(self, planner: "Planner", cluster: KubernetesSettings) -> None:
        self._planner = planner
        self._api = api = Api(cluster, planner.clock)
        self._ownership = Ownership(api, cluster.installation)
        self._watches = {
            "Workflow": Watch(api, WORKFLOWS, "", self._changed),
            "Strategy": Watch(api, STRATEGIES, "", self._changed),
        }
        self._read: dict[Key, tuple[tuple[Any, ...], Given]] = {}
        self._untold: list[Action] = []
        self._news: News
        self._told: dict[Key, tuple[str, dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._dirty: set[str] = set()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="custom-resources", daemon=True)
        self._failed = ""

    @property
    def missing(self) -> str:
        """What keeps it from its work, "" where nothing does."""
        away = self._failed or next((watch.away for watch in self._watches.values() if watch.away), "")
        return f"{away}; define the kinds by `autonomic crds | kubectl apply --server-side -f -`" if "(404)" in away else away

    def start(self) -> None:
        """Begins to watch."""
        self._news = News(self._planner)
        self._planner.journal.listen(lambda committed: self._wake.set() if committed.records else None)
        for watch in self._watches.values():
            watch.start()
        self._thread.start()

    def close(self) -> None:
        """Ends after what is being done; the objects stay as they are."""
        self._stopping.set()
        self._wake.set()
        for watch in self._watches.values():
            watch.close()
        if self._thread.is_alive():
            self._thread.join(15)
        self._api.close()

    # -- what wakes it

    def _changed(self, before: Object | None, now: Object | None) -> None:
        if before is not None and now is not None and _mark(before) == _mark(now):
            # what we tell it ourselves
            return
        with self._lock:
            self._dirty.add((now or before or {})["metadata"]["name"])
        self._wake.set()

    def _run(self) -> None:
        for watch in self._watches.values():
            while not watch.wait(1.0):
                if self._stopping.is_set():
                    return
        pause = 0.0
        self._wake.set()
        while True:
            self._wake.wait(pause or None)
            if self._stopping.wait(_GATHERING_SECONDS):
                return
            self._wake.clear()
            try:
                self._step()
                self._failed, pause = "", 0.0
            except AutonomicError as away:
                self._failed = str(away)
                pause = min(max(2 * pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
                _log.warning("custom resources have to wait", extra={"detail": str(away)})
            except Exception as wrong:  # noqa: BLE001 the boundary of this thread: what could not be done is tried again
                self._failed = f"{type(wrong).__name__}: {wrong}"
                pause = _LONGEST_PAUSE_SECONDS
                _log.exception("custom resources could not be brought in line")

    # -- one round

    def _step(self) -> None:
        items = dict(self._objects())
        given = {key: self._given(key, item) for key, item in items.items()}
        remembered = self._planner.journal.states(_HELD)
        # what an object of another namespace put in force stays when the settings name another one
        held = {_key(one): int(value["generation"]) for one, value in remembered.items() if value["namespace"] == self._api.namespace}
        choice = choose(given, held, now := self._planner.specs)
        holding = self._put_in_force(items, choice, held, now)
        waiting = ""
        try:
            self._planner.follow_up()
        except Retryable as away:
            # the objects are told first; what follows is tried again after a pause
            waiting = str(away)
        self._untold += self._news.take()
        while self._untold:
            self._tell_action(items, self._untold[0])
            del self._untold[0]
        with self._lock:
            dirty, self._dirty = self._dirty, set()
        waiting = self._news.refresh([name for kind, name in items if kind == "Workflow"], dirty) or waiting
        for key in (("Workflow", name) for name in self._news.looked_at):
            if key in holding:
                self._ownership.take(items[key])
        for key, item in items.items():
            facts = self._news.facts(key, key in choice.models, holding.get(key))
            self._tell_status(key, item, choice.errors.get(key, ()), facts)
        # last: a planner that dies before tells all of it again, and an event that is there is told once
        self._news.commit()
        for known in (self._told, self._read):
            for gone in known.keys() - items.keys():
                del known[gone]
        if waiting:
            raise Retryable(waiting)

    def _objects(self) -> Iterator[tuple[Key, Object]]:
        for kind, watch in self._watches.items():
            for name, item in watch.all().items():
                # what is being deleted by someone who waits for its dependents is gone for us
                if not item["metadata"].get("deletionTimestamp"):
                    yield (kind, name), item

    def _given(self, key: Key, item: Object) -> Given:
        mark = _mark(item)
        known = self._read.get(key)
        if known is None or known[0] != mark:
            self._read[key] = known = (mark, read(item))
        return known[1]

    def _put_in_force(self, items: Mapping[Key, Object], choice: Choice, held: Mapping[Key, int], now: Specs) -> dict[Key, int]:
        """Makes what is in force what was chosen, and returns what is held by the cluster, with its generation."""
        force = in_force(now)
        models = [model for key, model in choice.models.items() if force.get(key) != model]
        removed = force.keys() - choice.models.keys()
        holding = {key: generation for key, generation in held.items() if key in items}
        holding |= {key: int(item["metadata"]["generation"]) for key, item in items.items() if key not in choice.errors}

        def also(transaction: Transaction) -> None:
            for key in held.keys() - holding.keys():
                transaction.delete_state(_state(key))
            for key, generation in holding.items():
                if held.get(key) != generation:
                    transaction.put_state(_state(key), {"generation": generation, "namespace": self._api.namespace})

        if models or removed:
            self._planner.put_in_force(models, {}, removed=removed, given=now, actor=ACTOR, also=also)
            _log.info("custom resources are in force", extra={"changed": len(models), "removed": sorted("/".join(key) for key in removed)})
        elif holding != held:
            with self._planner.journal.transaction() as transaction:
                also(transaction)
        return holding

    # -- what is told

    def _tell_action(self, items: Mapping[Key, Object], action: Action) -> None:
        workflow = action.target.partition("/")[0]
        for key in (("Workflow", workflow), ("Strategy", action.strategy)):
            if key in items:
                message = f"{action.target}: {action.result}: {action.why}"
                self._tell_event(items[key], action.key, action.primitive.capitalize(), message, good=action.good)

    def _tell_event(self, item: Object, key: str, reason: str, message: str, *, good: bool) -> None:
        body = event(item, telling.COMPONENT, key, reason, message, self._planner.clock.now(), good=good)
        try:
            self._api.create(EVENTS, body)
        except Conflict:
            _log.debug("this was told before", extra={"event": body["metadata"]["name"]})
        except Forbidden:
            raise
        except Permanent as refused:
            # what one object cannot be told must not keep the others from being told
            _log.error("an event was refused", extra={"event": body["metadata"]["name"], "detail": str(refused)})

    def _tell_status(self, key: Key, item: Object, errors: tuple[str, ...], facts: Facts) -> None:
        meta = item["metadata"]
        uid, known = self._told.get(key, ("", {}))
        if uid != meta["uid"]:
            known = item.get("status", {})
        status = telling.status(known, meta["generation"], errors, facts, self._news.last_action(key), self._planner.clock.now())
        if status == known:
            return
        body = {
            "apiVersion": item["apiVersion"],
            "kind": item["kind"],
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
            "status": status,
        }
        try:
            if self._api.apply_status(_OF_KIND[key[0]], body) is None:
                return
        except Forbidden:
            raise
        except Permanent as refused:
            _log.error("a status was refused", extra={"object": "/".join(key), "detail": str(refused)})
            return
        self._told[key] = (meta["uid"], status)
        if _accepted(known) != _accepted(status):
            reason, message = ("Refused", "; ".join(errors)) if errors else ("Accepted", f"generation {meta['generation']} is in force")
            self._tell_event(item, f"{meta['generation']}/{reason}", reason, message, good=not errors)


def _mark(item: Object) -> tuple[Any, ...]:
    """What changes when the document in an object does. Labels are a part of it, and count in no generation."""
    meta = item["metadata"]
    return meta["uid"], meta["generation"], tuple(sorted(meta.get("labels", {}).items())), meta.get("deletionTimestamp")


def _accepted(status: Mapping[str, Any]) -> tuple[Any, Any]:
    found = next((one for one in status.get("conditions", []) if one["type"] == "Accepted"), {})
    return found.get("status"), found.get("observedGeneration")


def _state(key: Key) -> str:
    return f"{_HELD}{key[0]}/{key[1]}"


def _key(state: str) -> Key:
    kind, _, name = state.removeprefix(_HELD).partition("/")
    return kind, name
