"""What a change wants, looked at against what stands: the checks and the wanted records of every platform. Pure."""

from collections.abc import Callable, Iterable
from typing import Any

from autonomic.platforms.host import records
from autonomic.platforms.host.intents import Prepared, Refused
from autonomic.platforms.host.records import ServiceRecord, WorkflowRecord
from autonomic.seams.abilities import Abilities
from autonomic.seams.plan import Change
from autonomic.seams.state import FINISHED, RunState
from autonomic.workflows.spec.workflow import BatchSpec, OnlineSpec, Service, Workflow

ONLINE = frozenset({"deploy", "delete", "rescale", "reroute", "upgrade"})
BATCH = frozenset({"run", "stop", "retrain"})
SHAPING = frozenset({"resize", "reschedule"})
"""What changes how much replicas and steps get, and where they run."""

Available = Callable[[str, Service], str]
"""Resolves a model of a service and makes sure that it can be had; raises `Refused` where it cannot."""


def check_known(change: Change, abilities: Abilities) -> None:
    """Whether a platform may carry out a change at all.

    Raises:
        Refused: it is another effector's, or the primitive is not known.
    """
    if change.effector != "platform":
        raise Refused(f"{change.key} is for the effector {change.effector!r}; this one is the platform")
    if change.primitive not in abilities.primitives:
        known = ", ".join(sorted(abilities.primitives))
        raise Refused(f"The platform {abilities.platform} does not know the primitive {change.primitive!r}; it knows {known}")


def prepare_online(change: Change, current: WorkflowRecord | None, available: Available, now: float) -> Prepared:
    """Looks at a change of an online workflow.

    Raises:
        Refused: it cannot be done, and why.
    """
    name, _, service = change.target.partition("/")
    if change.primitive == "deploy":
        return _prepare_deploy(change, current, available, now)
    if change.primitive == "delete":
        before = deployment(current) if current else {}
        return Prepared(to={}, before=before, unchanged=current is None, moves=_targets(name, current))
    record = current.services.get(service) if current else None
    if record is None:
        known = ", ".join(sorted(f"{name}/{step}" for step in current.services)) if current else ""
        raise Refused(f"{change.target} is not a service that is deployed here" + (f"; {name} has {known}" if known else ""))
    to: dict[str, Any]
    before: dict[str, Any]
    if change.primitive == "rescale":
        role, replicas = records.check_replicas(record, change)
        before = {"role": role, "replicas": record.roles[role].replicas}
        to = {"role": role, "replicas": replicas}
    elif change.primitive == "reroute":
        before = {"weights": dict(record.weights)}
        to = {"weights": records.check_weights(record, change.to.get("weights"))}
    elif change.primitive == "resize":
        before = {"resources": record.resources.size}
        to = {"resources": records.check_size(record.spec.resources, record.resources.size, change)}
    elif change.primitive == "reschedule":
        before = {"placement": record.variation["placement"]}
        to = {"placement": records.check_placement(change)}
    else:
        models = {role: available(uri, record.spec) if uri else "" for role, uri in records.check_models(record, change).items()}
        before = {"models": {role: record.roles[role].model if role in record.roles else "" for role in models}}
        to = {"models": models}
    return Prepared(to=to, before=before, unchanged=to == before, moves=(change.target,))


def _prepare_deploy(change: Change, current: WorkflowRecord | None, available: Available, now: float) -> Prepared:
    workflow = records.parse_online(change.to.get("spec"))
    if workflow.name != change.target:
        raise Refused(f"The target is {change.target!r} and the workflow to deploy is named {workflow.name!r}; they must be the same")
    if isinstance(workflow.spec, OnlineSpec) and workflow.spec.adopt is not None:
        raise Refused(f"{workflow.name} adopts a workload of Kubernetes, and this platform is another one")
    given: dict[str, Any] = change.to.get("services", {})
    services: dict[str, Any] = {}
    for service in _services(workflow):
        kept = given.get(service.name, {})
        there = current.services.get(service.name) if current else None
        models, lacking = _resolved(kept.get("models") or records.wanted_models(service), service, there, available)
        services[service.name] = {**kept, "models": models, **({"lacking": lacking} if lacking else {})}
    to = {"spec": workflow.model_dump(mode="json", by_alias=True), "package": change.to.get("package", ""), "services": services}
    wanted = _after_deploy(to, change.key, current, now)
    before = deployment(current) if current else {}
    return Prepared(to=to, before=before, unchanged=wanted == current, moves=_targets(change.target, current, wanted))


def _resolved(
    wanted: dict[str, str], service: Service, there: ServiceRecord | None, available: Available
) -> tuple[dict[str, str], dict[str, str]]:
    """The model of each role, and by role why one is not to be had: an alias that the registry has not is no reason to deploy nothing."""
    models: dict[str, str] = {}
    lacking: dict[str, str] = {}
    for role, uri in wanted.items():
        try:
            models[role] = available(uri, service)
        except Refused as absent:
            serves = there.roles.get(role) if there else None
            if "@" not in uri or (role == "champion" and serves is None):
                raise
            lacking[role] = f"{uri} cannot be had: {absent}"
            if serves is not None:
                models[role] = serves.model
    return models, lacking


def wanted_record(change: Change, current: WorkflowRecord | None, now: float) -> WorkflowRecord | None:
    """The online workflow after a prepared change; the same whether or not the change was done before. None: it is deleted."""
    name, _, service = change.target.partition("/")
    if change.primitive == "deploy":
        return _after_deploy(change.to, change.key, current, now)
    if change.primitive == "delete" or current is None or service not in current.services:
        return None
    record = current.services[service]
    if change.primitive == "rescale":
        changed = records.after_rescale(record, change.to["role"], change.to["replicas"])
    elif change.primitive == "reroute":
        changed = record.model_copy(update={"weights": change.to["weights"]})
    elif change.primitive == "resize":
        changed = records.after_resize(record, change.to["resources"])
    elif change.primitive == "reschedule":
        changed = records.after_reschedule(record, change.to["placement"])
    else:
        changed = records.after_upgrade(name, record, change.to["models"], change.key, now)
    return current.model_copy(update={"services": {**current.services, service: changed}})


def _after_deploy(to: dict[str, Any], key: str, current: WorkflowRecord | None, now: float) -> WorkflowRecord:
    workflow = records.parse_online(to["spec"])
    services: dict[str, ServiceRecord] = {}
    for service in _services(workflow):
        given = to["services"][service.name]
        there = current.services.get(service.name) if current else None
        services[service.name] = records.after_deploy(workflow.name, service, given["models"], there, given, key, now)
    return WorkflowRecord(spec=to["spec"], package=to["package"], services=services)


def deployment(workflow: WorkflowRecord) -> dict[str, Any]:
    """The `to` of a deploy that brings a workflow back exactly as it is."""
    services = {
        service: {
            "models": {role: entry.model for role, entry in record.roles.items()},
            "replicas": {role: entry.replicas for role, entry in record.roles.items()},
            "weights": record.weights,
            "size": record.size,
            "placement": record.variation["placement"],
        }
        for service, record in workflow.services.items()
    }
    return {"spec": workflow.spec, "package": workflow.package, "services": services}


def prepare_batch(change: Change, runs: Iterable[RunState]) -> Prepared:
    """Looks at a change of a batch workflow, of which these are the runs.

    Raises:
        Refused: it cannot be done, and why.
    """
    active = [run.id for run in runs if run.status not in FINISHED]
    if change.primitive == "stop":
        wanted = [str(run) for run in change.to.get("run_ids", [])]
        stopping = [run for run in wanted if run in active]
        return Prepared(to={"run_ids": wanted}, before={"run_ids": stopping}, unchanged=not stopping, moves=(change.target,))
    try:
        workflow = Workflow.model_validate(change.to.get("spec"))
    except ValueError as invalid:
        raise Refused(f"The workflow to run is not valid: {invalid}") from None
    if not isinstance(workflow.spec, BatchSpec):
        raise Refused(f"{workflow.name} is an online workflow: it is deployed, not run")
    if workflow.name != change.target:
        raise Refused(f"The target is {change.target!r} and the workflow to run is named {workflow.name!r}; they must be the same")
    if not change.to.get("run_id"):
        raise Refused(f"{change.primitive} needs a run_id")
    others = [run for run in active if run != change.to["run_id"]]
    if change.primitive == "retrain" and others:
        raise Refused(f"{change.target} is in flight already (run {others[0]}); a second retraining is not started beside it")
    return Prepared(to=change.to, before={"run_ids": []}, moves=(change.target,))


def _services(workflow: Workflow) -> tuple[Service, ...]:
    return workflow.spec.services if isinstance(workflow.spec, OnlineSpec) else ()


def _targets(name: str, *workflows: WorkflowRecord | None) -> tuple[str, ...]:
    services = {service for workflow in workflows if workflow for service in workflow.services}
    return (name, *sorted(f"{name}/{service}" for service in services))
