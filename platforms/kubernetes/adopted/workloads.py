"""Workloads that somebody else made: targets like any other, of which only the field that is changed becomes ours."""

import threading
from collections.abc import Collection, Mapping
from typing import Any

from autonomic.platforms.host import records
from autonomic.platforms.host.intents import Prepared, Refused
from autonomic.platforms.host.records import parse_online
from autonomic.platforms.host.services import Tell
from autonomic.platforms.host.store import Store
from autonomic.platforms.kubernetes.adopted import ownership
from autonomic.platforms.kubernetes.adopted import size as adopted_size
from autonomic.platforms.kubernetes.adopted.scalers import Scaler, Scalers
from autonomic.platforms.kubernetes.adopted.taken import Owned, Taken, TakenFields
from autonomic.platforms.kubernetes.events import Events
from autonomic.platforms.kubernetes.objects import names
from autonomic.platforms.kubernetes.objects.api import DEPLOYMENTS, JOBS, STATEFUL_SETS, Api, Resource
from autonomic.primitives.table import ADOPTED
from autonomic.seams.errors import Permanent
from autonomic.seams.plan import Change
from autonomic.seams.state import RoleState, ServiceState, State
from autonomic.seams.word import Word
from autonomic.workflows.spec.faults import listed
from autonomic.workflows.spec.workflow import Adopt, OnlineSpec

_ROLE = "champion"
Object = dict[str, Any]


class Kind(Word):
    """A kind of workload: where the number of its replicas stands, and where the number of those that are ready."""

    kind: str
    version: str
    resource: Resource
    replicas: ownership.Path
    ready: ownership.Path


_DONE = {"rescale": "rescaled", "resize": "resized", "retarget": "retargeted"}
_READY = ("status", "readyReplicas")
KINDS = {
    "deployment": Kind(kind="Deployment", version="apps/v1", resource=DEPLOYMENTS, replicas=("spec", "replicas"), ready=_READY),
    "statefulset": Kind(kind="StatefulSet", version="apps/v1", resource=STATEFUL_SETS, replicas=("spec", "replicas"), ready=_READY),
    "job": Kind(kind="Job", version="batch/v1", resource=JOBS, replicas=("spec", "parallelism"), ready=("status", "ready")),
}


class AdoptedRecord(Word):
    """An adopted workflow: its document, and what we took of the cluster's objects for it."""

    spec: dict[str, Any]
    taken: tuple[Taken, ...] = ()

    @property
    def adopt(self) -> Adopt:
        """What is adopted."""
        spec = parse_online(self.spec).spec
        assert isinstance(spec, OnlineSpec)
        assert spec.adopt is not None
        return spec.adopt


class Adopted:
    """The adopted workloads of one installation; `perform` is called under the lock of a workflow."""

    def __init__(self, api: Api, store: Store, tell: Tell, events: Events) -> None:
        self._api = api
        self._events = events
        self._store = store
        self._tell = tell
        self._scalers = Scalers(api)
        self._fields = TakenFields(api)
        self._lock = threading.Lock()
        self._records = {key.removeprefix("adopted/"): AdoptedRecord.model_validate(store.get(key)) for key in store.keys("adopted/")}

    def concerns(self, change: Change) -> bool:
        """Whether a change is of a workload that is adopted, or adopts one."""
        return change.target.partition("/")[0] in self._records or (change.primitive == "deploy" and _adopts(change.to.get("spec")))

    # -- changes

    def prepare(self, change: Change) -> Prepared:
        """See `intents.Effects.prepare`."""
        workflow, _, part = change.target.partition("/")
        record = self._records.get(workflow)
        before = {"spec": record.spec, "package": ""} if record else {}
        if change.primitive == "delete":
            return Prepared(to={}, before=before, moves=self._moves(change, record))
        if change.primitive == "deploy":
            return self._prepare_adopt(change, record, before)
        if record is None or part != record.adopt.name:
            known = f"; {workflow} has {workflow}/{record.adopt.name}" if record else ""
            raise Refused(f"{change.target} is not adopted here{known}")
        if change.primitive not in ADOPTED:
            raise Refused(f"{change.target} was made by somebody else: it takes {listed(sorted(ADOPTED))}, and not {change.primitive}")
        prepare = {"rescale": self._prepare_rescale, "resize": self._prepare_resize, "retarget": self._prepare_retarget}
        return prepare[change.primitive](change, record)

    def _prepare_adopt(self, change: Change, record: AdoptedRecord | None, before: dict[str, Any]) -> Prepared:
        workflow = parse_online(change.to.get("spec"))
        if workflow.name != change.target:
            raise Refused(f"The target is {change.target!r} and the workflow to adopt is named {workflow.name!r}; they must be the same")
        wanted = AdoptedRecord(spec=workflow.model_dump(mode="json", by_alias=True))
        adopt = wanted.adopt
        if record is not None and record.taken and (record.adopt.kind, record.adopt.name) != (adopt.kind, adopt.name):
            raise Refused(f"{change.target} holds fields of the {record.adopt.kind} {record.adopt.name}; delete the workflow first")
        item = self._item(adopt)
        if item is None:
            raise Refused(
                f"There is no {KINDS[adopt.kind].kind} {adopt.name} in the namespace {self._api.namespace}, so that none is adopted"
            )
        if item["metadata"].get("labels", {}).items() >= names.MANAGED.items():
            raise Refused(f"The {KINDS[adopt.kind].kind} {adopt.name} is one of autonomic's own; it is a target already")
        container = self._container(change, adopt, item)
        if unsaid := adopted_size.unbound(adopt, adopted_size.amounts_of(container)):
            raise Refused(
                f"adopt.resources has bounds of {listed(unsaid)}, and the container {container['name']} of the {KINDS[adopt.kind].kind} "
                f"{adopt.name} says nothing of it; take them away, or have it request some"
            )
        for name, other in self._records.items():
            if name != change.target and (other.adopt.kind, other.adopt.name) == (adopt.kind, adopt.name):
                raise Refused(f"The {KINDS[adopt.kind].kind} {adopt.name} is adopted by {name}; one workflow may have it")
        # adopting again takes back what somebody else changed by hand meanwhile
        unchanged = record is not None and record.spec == wanted.spec and not self._fields.lost(record.taken)
        return Prepared(to={"spec": wanted.spec, "package": ""}, before=before, unchanged=unchanged, moves=self._moves(change, wanted))

    def _container(self, change: Change, adopt: Adopt, item: Object) -> Object:
        container = adopted_size.container_of(adopt, item)
        if container is None:
            known = [each["name"] for each in item["spec"]["template"]["spec"]["containers"]]
            raise Refused(
                f"{change.target}: the {KINDS[adopt.kind].kind} {adopt.name} has no container {adopt.container}; it has {listed(known)}"
            )
        return container

    def _there(self, adopt: Adopt) -> Object:
        item = self._item(adopt)
        if item is None:
            raise Refused(f"The {KINDS[adopt.kind].kind} {adopt.name} is not there any more")
        return item

    def _prepare_resize(self, change: Change, record: AdoptedRecord) -> Prepared:
        adopt = record.adopt
        if adopt.kind == "job":
            raise Refused(f"{change.target} is a Job, whose pods keep the size that it was made with")
        container = self._container(change, adopt, self._there(adopt))
        now = adopted_size.amounts_of(container)
        bounds = adopted_size.resources_of(adopt, now)
        if "amounts" in change.to:
            # a revert brings back what was there before we came, as it was written
            amounts = adopted_size.checked(change.to["amounts"], now)
        else:
            amounts = adopted_size.resized(now, records.check_size(bounds, bounds.size, change))
        self._check_ours(change, record, adopted_size.fields(container["name"], amounts))
        before = {part: {name: now[part][name] for name in each} for part, each in amounts.items()}
        made, there = ({"resources": adopted_size.size_of(each), "amounts": each} for each in (amounts, before))
        return Prepared(to=made, before=there, unchanged=adopted_size.same(amounts, now), moves=(change.target,))

    def _prepare_rescale(self, change: Change, record: AdoptedRecord) -> Prepared:
        adopt = record.adopt
        item = self._there(adopt)
        role, replicas = change.to.get("role", _ROLE), change.to.get("replicas")
        if role != _ROLE:
            raise Refused(f"{change.target} has no role {role!r}; what is adopted is its {_ROLE}")
        low, high = adopt.replicas.min, adopt.replicas.max
        now = ownership.value_of(item, KINDS[adopt.kind].replicas) or 0
        scaler = self._scalers.of(KINDS[adopt.kind].kind, adopt.name)
        # a revert brings back what was there before we came, also where that is outside of the bounds
        reverts = "bounds" in change.to or replicas in [one.before for one in record.taken if one.path == KINDS[adopt.kind].replicas]
        if not isinstance(replicas, int) or isinstance(replicas, bool) or (not reverts and not low <= replicas <= high):
            raise Refused(f"{change.target} cannot have {replicas!r} replicas; {low} to {high} are allowed (adopt.replicas)")
        # where something scales the workload, the number of its replicas is not ours to keep
        self._check_ours(change, record, scaler.paths.values() if scaler else (KINDS[adopt.kind].replicas,))
        if scaler is None:
            before = {"role": role, "replicas": now}
            return Prepared(to={"role": role, "replicas": replicas}, before=before, unchanged=replicas == now, moves=(change.target,))
        bounds = scaler.checked(change.to["bounds"]) if "bounds" in change.to else scaler.bounds_for(replicas, now)
        before = {"role": role, "replicas": now, "bounds": scaler.bounds}
        to = {"role": role, "replicas": replicas, "bounds": bounds}
        return Prepared(to=to, before=before, unchanged=bounds == scaler.bounds, moves=(change.target,))

    def _prepare_retarget(self, change: Change, record: AdoptedRecord) -> Prepared:
        scaler = self._scalers.of(KINDS[record.adopt.kind].kind, record.adopt.name)
        metric, value = change.to.get("metric"), change.to.get("value")
        known = scaler.targets if scaler else {}
        if metric not in known:
            raise Refused(f"{change.target} is not scaled by {metric!r}; it is scaled by {', '.join(known) or 'no metric'}")
        if not isinstance(value, int | float) or isinstance(value, bool) or known[metric].rounded(value) <= 0:
            raise Refused(f"retarget got the value {value!r} for {metric} of {change.target}; give a number greater than 0")
        self._check_ours(change, record, (scaler.metrics_path,) if scaler else ())
        to, before = {"metric": metric, "value": known[metric].rounded(value)}, {"metric": metric, "value": known[metric].value}
        return Prepared(to=to, before=before, unchanged=to == before, moves=(change.target,))

    def _check_ours(self, change: Change, record: AdoptedRecord, paths: Collection[ownership.Path]) -> None:
        for taken in self._fields.lost(record.taken):
            if taken.path in paths:
                field = f"{ownership.words(taken.path)} of the {taken.of.kind} {taken.of.name}"
                raise Refused(
                    f"{change.target}: {self._fields.changed_by(taken)} changed {field} after us, and that stays; "
                    "adopt it again (the primitive deploy) to take it back"
                )

    def perform(self, change: Change) -> dict[str, Any]:
        """See `intents.Effects.perform`."""
        workflow, _, _ = change.target.partition("/")
        record = self._records.get(workflow)
        if change.primitive == "deploy":
            taken = record.taken if record else ()
            lost = self._fields.lost(taken)
            self._put(workflow, AdoptedRecord(spec=change.to["spec"], taken=tuple(one for one in taken if one not in lost)))
            self._tell("adopted", change.target, {})
        elif change.primitive == "delete":
            if record is not None:
                self._fields.release(record.taken)
            self._forget(workflow)
            self._tell("released", change.target, {})
        else:
            if record is None:
                raise Permanent(f"{change.target} is not adopted any more")
            perform = {"rescale": self._rescale, "resize": self._resize, "retarget": self._retarget}
            perform[change.primitive](workflow, record, change)
            self._tell(_DONE[change.primitive], change.target, change.to)
        self._tell_event(change, record or self._records.get(workflow))
        return change.to

    def _tell_event(self, change: Change, record: AdoptedRecord | None) -> None:
        """An Event on the object says what was done with it."""
        if record is not None:
            self._events.tell(self._item(record.adopt), change.key, *event_words(change))

    def _rescale(self, workflow: str, record: AdoptedRecord, change: Change) -> None:
        if "bounds" not in change.to:
            self._write(workflow, _object(record.adopt), {KINDS[record.adopt.kind].replicas: change.to["replicas"]})
            return
        scaler = self._scaler_of(record, change)
        self._write(workflow, scaler.object, {path: change.to["bounds"][bound] for bound, path in scaler.paths.items()})

    def _resize(self, workflow: str, record: AdoptedRecord, change: Change) -> None:
        item = self._item(record.adopt)
        container = adopted_size.container_of(record.adopt, item) if item else None
        if container is None:
            raise Permanent(f"{change.target} is not there any more, or has no such container; plan it again")
        self._write(workflow, _object(record.adopt), adopted_size.fields(container["name"], change.to["amounts"]))

    def _retarget(self, workflow: str, record: AdoptedRecord, change: Change) -> None:
        scaler = self._scaler_of(record, change)
        metric = change.to["metric"]
        if metric not in scaler.targets:
            raise Permanent(f"{change.target}: the {scaler.kind} {scaler.name} has no metric {metric} any more; plan it again")
        self._write(workflow, scaler.object, {scaler.metrics_path: scaler.retargeted(metric, change.to["value"])})

    def _scaler_of(self, record: AdoptedRecord, change: Change) -> Scaler:
        kind, name = KINDS[record.adopt.kind].kind, record.adopt.name
        scaler = self._scalers.of(kind, name)
        if scaler is None:
            raise Permanent(f"{change.target}: what scaled the {kind} {name} is not there any more; plan it again")
        return scaler

    def _write(self, workflow: str, of: Owned, fields: Mapping[ownership.Path, Any]) -> None:
        record = self._records[workflow]
        self._fields.write(record.taken, of, fields, lambda taken: self._put(workflow, record.model_copy(update={"taken": taken})))

    # -- what is there

    def observe(self, target: str, revision: int) -> State | None:
        """An adopted workload as it is now; None where the target is none, or its object is gone."""
        workflow, _, part = target.partition("/")
        record = self._records.get(workflow)
        if record is None:
            return None
        adopt = record.adopt
        if not part:
            return State(target=target, kind="online", revision=revision, spec=record.spec)
        item = self._item(adopt) if part == adopt.name else None
        if item is None:
            return None
        kind = KINDS[adopt.kind]
        wanted, ready = (int(ownership.value_of(item, path) or 0) for path in (kind.replicas, kind.ready))
        roles = {_ROLE: RoleState(model="", wanted=wanted, ready=min(ready, wanted))}
        bounds = adopt.replicas
        service = ServiceState(roles=roles, weights={_ROLE: 100}, min_replicas=bounds.min, max_replicas=bounds.max)
        scaler = self._scalers.of(kind.kind, adopt.name)
        targets = {metric: one.value for metric, one in scaler.targets.items()} if scaler else {}
        container = adopted_size.container_of(adopt, item)
        size = adopted_size.resources_of(adopt, adopted_size.amounts_of(container or {})).model_dump(mode="json")
        spec = {**adopt.model_dump(mode="json"), "targets": targets, "resources": size}
        return State(target=target, kind="online", revision=revision, spec=spec, service=service)

    def _item(self, adopt: Adopt) -> Object | None:
        return self._api.get(KINDS[adopt.kind].resource, adopt.name)

    def _moves(self, change: Change, record: AdoptedRecord | None) -> tuple[str, ...]:
        return (change.target, f"{change.target}/{record.adopt.name}") if record else (change.target,)

    def _put(self, workflow: str, record: AdoptedRecord) -> None:
        with self._lock:
            self._store.put(f"adopted/{workflow}", record.model_dump(mode="json"))
            self._records = {**self._records, workflow: record}

    def _forget(self, workflow: str) -> None:
        with self._lock:
            self._store.delete(f"adopted/{workflow}")
            self._records = {name: record for name, record in self._records.items() if name != workflow}


def _object(adopt: Adopt) -> Owned:
    kind = KINDS[adopt.kind]
    return Owned(resource=kind.resource, kind=kind.kind, version=kind.version, name=adopt.name)


def event_words(change: Change) -> tuple[str, str]:
    """Reason and message of the Event about a change of an adopted object. Pure."""
    by = f"(change {change.key})"
    if change.primitive == "deploy":
        return "Adopted", f"adopted by the workflow {change.target} of autonomic, which changes nothing of it by that {by}"
    if change.primitive == "delete":
        return "Released", f"released by the workflow {change.target} of autonomic: its fields are its owners' again {by}"
    told = ", ".join(f"{name} {value}" for name, value in change.to.items() if name != "role")
    return change.primitive.capitalize(), f"{change.primitive} of {change.target}: {told} {by}"


def _adopts(document: Any) -> bool:
    spec = document.get("spec") if isinstance(document, dict) else None
    return isinstance(spec, dict) and spec.get("adopt") is not None
