"""Why something was done, or not: a decision told in words and as JSON."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from autonomic.seams.decision import DecisionRecord
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.reading import Reading
from autonomic.seams.runner import PlanStatus


def explain(record: DecisionRecord, plan: PlanStatus | None, approvals: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The explanation of a decision.

    Args:
        record: the decision as it was recorded.
        plan: how far its plan is, None where there is none.
        approvals: what people said to it, the newest first: `people.said`.

    Returns:
        Trigger, readings, what was considered, guards, plan, outcomes and verification, and under `words` the same
        as text.
    """
    story: dict[str, Any] = {
        "decision": record.id,
        "time": _time(record.time),
        "strategy": record.decision.strategy or "by hand",
        "target": record.decision.target,
        "trigger": _trigger(record.event),
        "readings": {name: _reading(reading) for name, reading in sorted(record.readings.items())},
        "readings_at_trigger": {
            name: _reading(Reading.model_validate(value)) for name, value in sorted(record.event.get("readings", {}).items())
        },
        "considered": list(record.considered),
        "decided": {
            "why": record.decision.why,
            "actions": [
                {"primitive": action.primitive, "target": action.target, "args": action.args} for action in record.decision.actions
            ],
        },
        "verdict": None,
        "people": [
            {"actor": one["actor"] or "a person", "what": one["what"], "why": one["why"], "verdict": one["verdict"]}
            for one in reversed(approvals)
        ],
        "plan": None,
    }
    if record.verdict is not None:
        story["verdict"] = {
            "outcome": record.verdict.outcome,
            "why": record.verdict.why,
            "guards": [guard.model_dump(mode="json") for guard in record.verdict.guards],
        }
    if plan is not None:
        story["plan"] = _plan(plan)
    elif record.changes:
        story["would_do"] = [_change(change) for change in record.changes]
    story["words"] = words(story)
    return story


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trigger(event: Mapping[str, Any]) -> dict[str, Any]:
    trigger = {key: event[key] for key in ("id", "type", "source", "trigger", "by") if event.get(key)}
    if "observed_at" in event:
        trigger["observed_at"] = _time(event["observed_at"])
    return trigger


def _reading(reading: Reading) -> dict[str, Any]:
    told: dict[str, Any] = {"status": reading.status, "value": reading.value, "time": _time(reading.time), "source": reading.source}
    return {**told, "detail": reading.detail} if reading.detail else told


def _change(change: Change) -> dict[str, Any]:
    return {"key": change.key, "primitive": change.primitive, "target": change.target, "to": change.to}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    told = outcome.model_dump(mode="json", include={"key", "primitive", "target", "status", "detail", "before", "after"})
    return {**told, "seconds": round(outcome.finished_at - outcome.started_at, 3)}


def _plan(status: PlanStatus) -> dict[str, Any]:
    verify = status.plan.verify
    return {
        "id": status.plan.id,
        "phase": status.phase,
        "detail": status.detail,
        "changes": [_change(change) for change in status.plan.changes],
        "outcomes": [_outcome(outcome) for outcome in status.outcomes],
        "reverts": [_outcome(outcome) for outcome in status.reverts],
        "verification": verify.model_dump(mode="json") if verify else None,
        "updated_at": _time(status.updated_at),
    }


_VERDICTS = {
    "go": "The gate let it pass",
    "ask": "The gate asks a person to approve it",
    "log": "The gate lets it be recorded only",
    "refuse": "The gate refused it",
}
_PHASES = {
    "waiting": "it has not begun",
    "applying": "it is being carried out",
    "verifying": "it was carried out and is being verified",
    "reverting": "it is being taken back",
    "kept": "it was carried out and stays",
    "verified": "it was carried out and verified",
    "reverted": "it was taken back",
    "escalated": "a person has to look at it",
    "failed": "it failed",
    "refused": "it was refused",
    "cancelled": "it was cancelled",
}


def words(story: Mapping[str, Any]) -> str:
    """The explanation as text for people, a few lines."""
    trigger = story["trigger"]
    fired = trigger.get("trigger") or trigger.get("type") or "a request"
    lines = [
        f"{story['time']}: {story['strategy']} on {story['target']}, because of {fired}"
        + (f" from {trigger['source']}" if "source" in trigger else "")
        + "."
    ]
    if story["readings"]:
        lines.append("Readings: " + ", ".join(_said(name, reading) for name, reading in story["readings"].items()) + ".")
    lines += [f"Considered: {thought}" for thought in story["considered"]]
    actions = story["decided"]["actions"]
    doing = ", ".join(f"{action['primitive']} {action['target']} {action['args'] or ''}".strip() for action in actions)
    lines.append(f"Decided: {doing or 'to do nothing'}: {story['decided']['why']}.")
    verdict = story["verdict"]
    if verdict is not None:
        lines.append(f"{_VERDICTS[verdict['outcome']]}: {verdict['why']}.")
        lines += [f"  {'passed' if guard['passed'] else 'FAILED'} {guard['name']}: {guard['detail']}" for guard in verdict["guards"]]
    for one in story["people"]:
        line = f"{one['actor']} {one['what']} it" + (f" ({one['why']})" if one["why"] else "")
        verdict = one["verdict"]
        lines.append(line + (f"; the gate then said {verdict['outcome']}: {verdict['why']}." if verdict else "."))
    for change in story.get("would_do", ()):
        lines.append(f"Would do: {change['primitive']} of {change['target']} to {change['to']}.")
    plan = story["plan"]
    if plan is not None:
        lines.append(f"Plan {plan['id']}: {_PHASES[plan['phase']]}" + (f" ({plan['detail']})" if plan["detail"] else "") + ".")
        lines += [f"  {_done(outcome)}" for outcome in plan["outcomes"]]
        lines += [f"  taken back: {_done(outcome)}" for outcome in plan["reverts"]]
        verify = plan["verification"]
        if verify is not None:
            lines.append(f"  to be true within {verify['within_seconds']:g} s: {verify['that']}, else {verify['otherwise']}")
    return "\n".join(lines)


def _said(name: str, reading: Mapping[str, Any]) -> str:
    if reading["status"] == "ok":
        return f"{name} = {reading['value']:.6g}"
    return f"{name} is {reading['status']} ({reading.get('detail', '')})"


def _done(outcome: Mapping[str, Any]) -> str:
    detail = f": {outcome['detail']}" if outcome["detail"] else ""
    moved = f" {outcome['before']} → {outcome['after']}" if outcome["before"] or outcome["after"] else ""
    return f"{outcome['primitive']} of {outcome['target']} was {outcome['status']} in {outcome['seconds']:g} s{detail}{moved}"
