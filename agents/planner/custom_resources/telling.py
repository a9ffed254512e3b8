"""What is told of documents on their Kubernetes objects: the status, and Events. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from autonomic.platforms.kubernetes.events import timestamp
from autonomic.seams.plan import Outcome
from autonomic.seams.state import State

Object = Mapping[str, Any]
_MOST_ERRORS = 50
COMPONENT = "autonomic-planner"


class Ready(NamedTuple):
    """The condition Ready: `status` is True, False or Unknown."""

    status: str
    reason: str
    message: str


class Action(NamedTuple):
    """Something that was done, or that waits for a person. `key` names it for ever."""

    key: str
    primitive: str
    target: str
    strategy: str
    result: str
    why: str
    time: float
    good: bool = True


class Facts(NamedTuple):
    """What a status says beside Accepted."""

    state: str
    ready: Ready
    more: Mapping[str, str] = {}


def of_service(states: Mapping[str, State]) -> Facts:
    """The facts of an online workflow of the states of its services, by service."""
    served = {name: state.service for name, state in states.items() if state.service is not None}
    champions = {name: service.roles["champion"] for name, service in served.items() if "champion" in service.roles}
    if len(champions) < len(states) or not champions:
        missing = ", ".join(sorted(states.keys() - champions.keys())) or "all services"
        return Facts("absent", Ready("False", "NotDeployed", f"not in service: {missing}"), {"replicas": "0/0"})
    ready, wanted = (sum(getattr(role, field) for role in champions.values()) for field in ("ready", "wanted"))
    versions = {name: role.model.rstrip("/").rpartition("/")[2] for name, role in sorted(champions.items())}
    version = next(iter(versions.values())) if len(versions) == 1 else ", ".join(f"{name}={one}" for name, one in versions.items())
    more = {"replicas": f"{ready}/{wanted}", "version": version}
    if ready >= wanted:
        return Facts("serving", Ready("True", "Serving", f"{ready} of {wanted} replicas are ready"), more)
    state = "degraded" if ready else "down"
    why = "; ".join(dict.fromkeys(role.why for role in champions.values() if role.why))
    return Facts(state, Ready("False", "ReplicasMissing", f"{ready} of {wanted} replicas are ready{f': {why}' if why else ''}"), more)


def status(before: Object, generation: int, errors: Sequence[str], facts: Facts, action: Action | None, now: float) -> dict[str, Any]:
    """The status of an object, of which `before` is what it says now. What has not changed keeps its time."""
    conditions = {one["type"]: one for one in before.get("conditions", [])}
    shown = [f"{len(errors)} errors: " if len(errors) > 1 else "", "\n".join(errors[:_MOST_ERRORS])]
    hidden = f"\nand {len(errors) - _MOST_ERRORS} more: autonomic validate tells all" if len(errors) > _MOST_ERRORS else ""
    accepted = ("False", "Invalid", "".join(shown) + hidden) if errors else ("True", "Valid", "it is in force as it is written")
    told: dict[str, Any] = {
        "observedGeneration": generation,
        "state": facts.state,
        **facts.more,
        "conditions": [
            _condition(conditions, name, generation, *said, now) for name, said in (("Accepted", accepted), ("Ready", facts.ready))
        ],
    }
    if action is not None:
        told |= {"lastAction": f"{action.primitive} {action.result}", "lastActionTime": timestamp(action.time)}
    else:
        told |= {key: before[key] for key in ("lastAction", "lastActionTime") if key in before}
    return told


def _condition(
    before: Mapping[str, Object], name: str, generation: int, value: str, reason: str, message: str, now: float
) -> dict[str, Any]:
    known = before.get(name, {})
    since = known["lastTransitionTime"] if known.get("status") == value else timestamp(now)
    return {
        "type": name,
        "status": value,
        "reason": reason,
        "message": message[:32768],
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


def action_of(outcome: Outcome, strategy: str, why: str) -> Action:
    """What an outcome did, in the words of an Event."""
    good = outcome.status in ("done", "unchanged")
    result = outcome.status if good or not outcome.detail else f"{outcome.status}: {outcome.detail}"
    return Action(outcome.key, outcome.primitive, outcome.target, strategy, result, why, outcome.finished_at, good)
