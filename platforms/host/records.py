"""What the host keeps of online workflows, and what each change wants of it. Pure."""

import hashlib
import json
from typing import Any

from pydantic import ValidationError

from autonomic.platforms.host.intents import Refused
from autonomic.seams.plan import Change
from autonomic.seams.word import Word
from autonomic.workflows.spec.placement_override import PlacementOverride
from autonomic.workflows.spec.units import format_amount
from autonomic.workflows.spec.workflow import OnlineSpec, Resources, Service, Size, Workflow

ROLES = ("champion", "canary", "backup")
# what replicas are started with; the bounds of a resize are not
_STARTED_WITH: dict[str, Any] = {
    **dict.fromkeys(("batching", "max_in_flight", "max_rows", "device_time", "timeout", "token", "log", "placement", "volumes"), True),
    "resources": {*Size.model_fields, "accelerator"},
}


class RoleRecord(Word):
    """One model in service: its Serve application and how many replicas are wanted (standby not counted)."""

    model: str
    app: str
    replicas: int
    # of everything that a replica is started with: where it differs, the application is another one
    fingerprint: str


class ServiceRecord(Word):
    """A service as it is wanted. `since` is when its champion went into service.

    `size` and `placement` are what it was resized and rescheduled to, None where it is as declared. `lacking` says by role why
    the model that is declared was not to be had when it was deployed.
    """

    spec: Service
    roles: dict[str, RoleRecord]
    weights: dict[str, int]
    since: float
    size: dict[str, Any] | None = None
    placement: PlacementOverride | None = None
    lacking: dict[str, str] = {}

    @property
    def resources(self) -> Resources:
        """What each replica gets, with the bounds of it."""
        return self.spec.resources.resized(self.size or self.spec.resources.size)

    @property
    def variation(self) -> dict[str, Any]:
        """`{resources, placement}`, as JSON."""
        size = {**self.resources.size, "accelerator": self.resources.accelerator}
        return {"resources": size, "placement": self.placement.said() if self.placement else {}}


class WorkflowRecord(Word):
    """An online workflow as it is wanted."""

    spec: dict[str, Any]
    package: str = ""
    services: dict[str, ServiceRecord]


class ReplicaRecord(Word):
    """A replica that announced itself: where its model server listens."""

    id: str
    app: str
    host: str
    port: int
    pid: int
    node: str
    started_at: float


def parse_online(document: Any) -> Workflow:
    """The online workflow of a change.

    Raises:
        Refused: it is not one.
    """
    try:
        workflow = Workflow.model_validate(document)
    except ValidationError as invalid:
        raise Refused(f"The workflow to deploy is not valid: {invalid}") from None
    if not isinstance(workflow.spec, OnlineSpec):
        raise Refused(f"{workflow.name} is a batch workflow: it is run, not deployed")
    return workflow


def wanted_models(service: Service) -> dict[str, str]:
    """The model of each role that a service declares."""
    declared = {"champion": service.model, "canary": service.canary, "backup": service.backup}
    return {role: str(model) for role, model in declared.items() if model}


def role_record(workflow: str, service: Service, role: str, model: str, replicas: int, key: str, current: RoleRecord | None) -> RoleRecord:
    """The record of a role with `model`: the application that runs it already, else one named after the change's key."""
    spec = service.model_dump(mode="json", include=_STARTED_WITH)
    fingerprint = hashlib.sha256(json.dumps([spec, model], sort_keys=True).encode()).hexdigest()[:16]
    if current is not None and current.fingerprint == fingerprint:
        return current.model_copy(update={"replicas": replicas})
    app = f"{workflow}--{service.name}--{role}--{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    return RoleRecord(model=model, app=app, replicas=replicas, fingerprint=fingerprint)


def seen(record: ServiceRecord) -> dict[str, Any]:
    """What is told of a service's declaration: with the size that it has now, and what it was rescheduled to."""
    declared = record.spec.model_copy(update={"resources": record.resources}).model_dump(mode="json", by_alias=True)
    return {**declared, "rescheduled": record.variation["placement"]}


def first_replicas(service: Service, role: str) -> int:
    """How many replicas a role starts with."""
    return service.replicas.min if role == "champion" else 1


def serve_target(service: Service, role: str, replicas: int) -> int:
    """How many replicas Serve runs: those wanted and the champion's standby."""
    return replicas + (service.replicas.standby if role == "champion" else 0)


def after_rescale(record: ServiceRecord, role: str, replicas: int) -> ServiceRecord:
    """The service with another number of replicas."""
    return record.model_copy(update={"roles": {**record.roles, role: record.roles[role].model_copy(update={"replicas": replicas})}})


def after_resize(record: ServiceRecord, size: dict[str, Any]) -> ServiceRecord:
    """The service with another size of its replicas."""
    return record.model_copy(update={"size": None if size == record.spec.resources.size else size})


def after_reschedule(record: ServiceRecord, placement: dict[str, Any]) -> ServiceRecord:
    """The service with its replicas elsewhere."""
    return record.model_copy(update={"placement": PlacementOverride.model_validate(placement) if placement else None})


def after_upgrade(workflow: str, record: ServiceRecord, models: dict[str, str], key: str, now: float) -> ServiceRecord:
    """The service with other models behind its roles; a role with "" is taken away and its traffic goes to the champion."""
    roles = dict(record.roles)
    for role, model in models.items():
        if model:
            current = roles.get(role)
            replicas = current.replicas if current else first_replicas(record.spec, role)
            roles[role] = role_record(workflow, record.spec, role, model, replicas, key, current)
        else:
            roles.pop(role, None)
    changed = roles["champion"].model != record.roles["champion"].model
    lacking = {role: why for role, why in record.lacking.items() if role not in models}
    update = {"roles": roles, "weights": fitting_weights(record.weights, roles), "since": now if changed else record.since}
    return record.model_copy(update={**update, "lacking": lacking})


def after_deploy(
    workflow: str, service: Service, models: dict[str, str], current: ServiceRecord | None, kept: dict[str, Any], key: str, now: float
) -> ServiceRecord:
    """A service as its declaration says.

    What runs already keeps its number of replicas and its size (within the new bounds), its placement and its weights. `kept`
    is what a revert brings back: `{replicas: {role: n}, weights: {role: percent}, size, placement}`, and what is `lacking`.
    """
    roles: dict[str, RoleRecord] = {}
    for role, model in models.items():
        there = current.roles.get(role) if current else None
        replicas = kept.get("replicas", {}).get(role, there.replicas if there else first_replicas(service, role))
        if role == "champion":
            replicas = min(max(replicas, service.replicas.min), service.replicas.max)
        roles[role] = role_record(workflow, service, role, model, replicas, key, there)
    canary = round(service.traffic.canary) if "canary" in roles else 0
    weights = kept.get("weights") or (current.weights if current else {"champion": 100 - canary, "canary": canary})
    same = current is not None and current.roles["champion"].model == roles["champion"].model
    size = kept.get("size", current.size if current else None)
    given = kept.get("placement", current.placement.said() if current and current.placement else None)
    return ServiceRecord(
        spec=service,
        roles=roles,
        weights=fitting_weights(weights, roles),
        since=current.since if current and same else now,
        size=size if size and not outside(service.resources, size) else None,
        placement=PlacementOverride.model_validate(given) if given else None,
        lacking=kept.get("lacking", {}),
    )


def fitting_weights(weights: dict[str, int], roles: dict[str, RoleRecord]) -> dict[str, int]:
    """Weights of the roles that are there; what the others had goes to the champion."""
    fitting = {role: weights.get(role, 0) for role in ROLES if role in roles}
    fitting["champion"] += 100 - sum(fitting.values())
    return fitting


def check_weights(record: ServiceRecord, weights: Any) -> dict[str, int]:
    """Weights of a `reroute`.

    Raises:
        Refused: they name a role that is not there, are not whole percents, or do not add up to 100.
    """
    if not isinstance(weights, dict) or not all(
        isinstance(value, int | float) and value >= 0 and value == int(value) for value in weights.values()
    ):
        raise Refused(f"reroute got the weights {weights!r}; give whole percents by role, such as {{'champion': 90, 'canary': 10}}")
    strange = sorted(set(weights) - set(record.roles))
    if any(weights[role] for role in strange):
        raise Refused(f"reroute names {', '.join(strange)}; {record.spec.name} has {', '.join(sorted(record.roles))}")
    if sum(weights.values()) != 100:
        raise Refused(f"reroute got the weights {weights!r}, which add up to {sum(weights.values())}; they must add up to 100")
    return {role: int(weights.get(role, 0)) for role in record.roles}


def check_replicas(record: ServiceRecord, change: Change) -> tuple[str, int]:
    """Role and replicas of a `rescale`.

    Raises:
        Refused: there is no such role, or the number is outside of the service's bounds.
    """
    role, replicas = change.to.get("role", "champion"), change.to.get("replicas")
    if role not in record.roles:
        raise Refused(f"{change.target} has no role {role!r}; it has {', '.join(sorted(record.roles))}")
    low = record.spec.replicas.min if role == "champion" else 0
    high = record.spec.replicas.max
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not low <= replicas <= high:
        raise Refused(f"{change.target} cannot have {replicas!r} replicas of {role}; {low} to {high} are allowed")
    return role, replicas


def check_models(record: ServiceRecord, change: Change) -> dict[str, str]:
    """Models by role of an `upgrade`.

    Raises:
        Refused: there is no such role, or the champion would be taken away.
    """
    models = change.to.get("models")
    if not isinstance(models, dict) or not models or not all(isinstance(model, str) for model in models.values()):
        raise Refused(f"upgrade got {models!r}; give models by role, such as {{'champion': 'models:/mnist/3'}}")
    strange = sorted(set(models) - set(ROLES))
    if strange:
        raise Refused(f"upgrade names {', '.join(strange)}; roles are {', '.join(ROLES)}")
    if models.get("champion") == "":
        raise Refused(f"upgrade would take the champion of {change.target} away; delete the workflow instead")
    return models


def outside(declared: Resources, size: dict[str, Any]) -> str:
    """What of a size is outside of the bounds that are declared, "" where nothing is."""
    for name, value in size.items():
        low, high = declared.bounds(name)
        if value is None and low is None:
            continue
        if low is None or high is None:
            return f"{value!r} of {name}; none of it is declared"
        if value is None or not low <= value <= high:
            asked = "nothing" if value is None else format_amount(name, value)
            least, most = format_amount(name, low), format_amount(name, high)
            return f"{asked} of {name}; {least} to {most} are allowed (resources.min and resources.max)"
    return ""


def check_size(declared: Resources, now: dict[str, Any], change: Change) -> dict[str, Any]:
    """The size of a `resize`; what it does not name stays as it is `now`.

    Raises:
        Refused: it is no size, or outside of the bounds that are declared.
    """
    given = change.to.get("resources")
    try:
        size = Size.model_validate(given)
    except ValidationError:
        raise Refused(f"resize got {given!r}; give amounts of cpu, memory and gpu, such as {{'cpu': 2, 'memory': 1073741824}}") from None
    wanted = {**now, **{name: value for name, value in size.model_dump().items() if value is not None}}
    if wrong := outside(declared, wanted):
        raise Refused(f"{change.target} cannot have {wrong}")
    return wanted


def check_placement(change: Change) -> dict[str, Any]:
    """The placement of a `reschedule`.

    Raises:
        Refused: it is none.
    """
    given = change.to.get("placement")
    try:
        return PlacementOverride.model_validate(given).said()
    except ValidationError:
        raise Refused(f"reschedule got {given!r}; give nodes, avoid or spread, such as {{'avoid': [{{'node': 'node1'}}]}}") from None
