"""From an event to a decision, a plan and a verdict: pure, from recorded inputs, so that it can be judged again byte for byte."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from autonomic.primitives import gate
from autonomic.primitives.base import Context, Refused, Unneeded
from autonomic.primitives.gate import Proposal, Snapshot
from autonomic.primitives.table import ARGUMENTS, PRIMITIVES
from autonomic.seams.decision import Action, Decision, DecisionRecord, Guard, Verdict
from autonomic.seams.event import Event
from autonomic.seams.plan import Change, Plan, VerifySpec
from autonomic.seams.reading import Reading
from autonomic.seams.state import ModelVersion, State
from autonomic.seams.word import Word
from autonomic.strategies.decide import decide
from autonomic.strategies.spec.strategy import Strategy
from autonomic.strategies.triggers import fires_again


class World(Word):
    """What is looked at beside the readings; `snapshot.states` are the states of the targets."""

    workflows: dict[str, dict[str, Any]] = {}
    packages: dict[str, str] = {}
    registry: dict[str, dict[str, ModelVersion]] = {}
    snapshot: Snapshot = Snapshot()


class Inputs(Word):
    """All that a decision is made of. `memory` is the state of the strategy's `decide:` function.

    `waited` is for what the event had to wait, "" where it was decided on at once.
    """

    decision: str
    plan: str
    now: float
    strategy: Strategy
    memory: Any = None
    event: Event
    readings: dict[str, Reading]
    world: World = World()
    waited: str = ""


class Judged(NamedTuple):
    """A decision, the plan that it would start (None: nothing), and the proposal that the gate judged."""

    record: DecisionRecord
    memory: Any
    plan: Plan | None
    proposal: Proposal | None


class Planned(NamedTuple):
    """The changes of actions, or why there are none and which changes come instead."""

    changes: tuple[Change, ...]
    refusal: str = ""


def choose(inputs: Inputs) -> tuple[Any, Decision, tuple[str, ...]]:
    """What the strategy says, before it is known which states its actions need."""
    return decide(inputs.strategy, inputs.memory, inputs.event, inputs.readings, inputs.now)


def judge(inputs: Inputs) -> Judged:
    """Decides, plans and asks the gate."""
    memory, decision, considered = choose(inputs)
    if inputs.waited:
        if not decision.actions:
            decision = decision.model_copy(update={"why": f"{decision.why}; until then it waited: {inputs.waited}"})
        considered = (f"it had to wait: {inputs.waited}", *considered)
    spec = inputs.strategy.spec
    used = sorted(name for name, reading in inputs.readings.items() if reading.substituted)

    def proposal(changes: tuple[Change, ...]) -> Proposal:
        return Proposal(
            strategy=inputs.strategy.name,
            target=spec.target,
            changes=changes,
            autonomy=spec.guard.autonomy,
            cooldown_seconds=spec.guard.cooldown,
            limit=spec.guard.limit,
            priority=spec.priority,
            observed_at=inputs.event.observed_at,
            holds=True,
            substituted=tuple(used),
            evidence=evidence(inputs, changes),
        )

    record = DecisionRecord(
        id=inputs.decision,
        time=inputs.now,
        event=inputs.event.model_dump(mode="json"),
        readings=inputs.readings,
        decision=decision,
        considered=considered,
    )
    if not decision.actions:
        return Judged(record, memory, None, None)
    verify = spec.verify
    check = (
        VerifySpec(that=verify.that, within_seconds=verify.within, after_seconds=verify.after, otherwise=verify.else_) if verify else None
    )
    return _gated(record, memory, inputs.plan, proposal, inputs.readings, inputs.world, check)


def evidence(inputs: Inputs, changes: tuple[Change, ...]) -> str:
    """What a strategy's changes rest on, as a digest: its document, and the versions that they move with their tags; without any,
    the breach that goes on, or the event where it is of a kind that comes once."""
    moved: list[Any] = []
    for change in changes:
        if change.effector == "registry":
            named = set(change.to["aliases"].values()) | set(change.to["tags"])
            versions = inputs.world.registry.get(change.to["model"], {}).values()
            moved += sorted([one.version, sorted(one.tags.items())] for one in versions if one.version in named)
    event = inputs.event
    began = [event.since, "" if fires_again(inputs.strategy, event.trigger) else event.id]
    document = inputs.strategy.spec.model_dump(mode="json", by_alias=True)
    return hashlib.sha256(json.dumps([document, moved or began], sort_keys=True).encode()).hexdigest()[:16]


def judge_by_hand(decision: Decision, event: Event, identifier: str, plan: str, world: World, now: float, dry_run: bool) -> Judged:
    """Plans what a person asks for and asks the gate."""

    def proposal(changes: tuple[Change, ...]) -> Proposal:
        return Proposal(strategy="", target=decision.target, changes=changes, observed_at=now, priority=100, dry_run=dry_run)

    record = DecisionRecord(id=identifier, time=now, event=event.model_dump(mode="json"), readings={}, decision=decision)
    return _gated(record, None, plan, proposal, {}, world, None)


def judge_revert_by_hand(
    plan: Plan, proposal: Proposal, snapshot: Snapshot, identifier: str, plan_id: str, event_id: str, actor: str, why: str
) -> Judged:
    """The plan that reverts what `plan` did, as a person asks for it, and the gate's verdict on it."""
    now = proposal.observed_at
    verdict = gate.judge(proposal, snapshot, now)
    reverting = Plan(
        id=plan_id, decision=identifier, strategy="", target=plan.target, changes=proposal.changes, reverts=plan.id, created_at=now
    )
    event = Event(id=event_id, source=actor or "by hand", target=plan.target, trigger="revert", observed_at=now, expires_at=now)
    record = DecisionRecord(
        id=identifier,
        time=now,
        event=event.model_dump(mode="json"),
        readings={},
        decision=Decision(strategy="", target=plan.target, why=why),
        considered=tuple(PRIMITIVES[change.primitive].describe(change) for change in proposal.changes),
        changes=proposal.changes,
        verdict=verdict,
        plan=plan_id if verdict.outcome == "go" else "",
    )
    return Judged(record, None, reverting if verdict.outcome == "go" else None, proposal)


def _gated(
    record: DecisionRecord,
    memory: Any,
    plan_id: str,
    proposal: Callable[[tuple[Change, ...]], Proposal],
    readings: Mapping[str, Reading],
    world: World,
    check: VerifySpec | None,
) -> Judged:
    planned = plan_actions(record.decision, record.id, plan_id, readings, world)
    proposed = proposal(planned.changes)
    plan: Plan | None = Plan(
        id=plan_id,
        decision=record.id,
        strategy=record.decision.strategy,
        target=record.decision.target,
        changes=planned.changes,
        verify=None if planned.refusal else check,
        created_at=record.time,
    )
    if planned.refusal:
        instead = gate.judge(proposed, world.snapshot, record.time) if planned.changes else None
        verdict = Verdict(outcome="refuse", guards=(Guard(name="primitive", passed=False, detail=planned.refusal),), why=planned.refusal)
        if instead is None or instead.outcome != "go":
            plan = None
    else:
        verdict = gate.judge(proposed, world.snapshot, record.time)
        if verdict.outcome in ("log", "refuse"):
            plan = None
    words = tuple(PRIMITIVES[change.primitive].describe(change) for change in planned.changes)
    record = record.model_copy(
        update={
            "considered": (*record.considered, *words),
            "changes": planned.changes,
            "verdict": verdict,
            "plan": plan.id if plan is not None else "",
        }
    )
    return Judged(record, memory, plan, proposed)


def plan_actions(decision: Decision, cause: str, plan_id: str, readings: Mapping[str, Reading], world: World) -> Planned:
    """The changes of all actions, numbered through. One that is refused refuses all; one that is not needed is left out."""
    changes: list[Change] = []
    needless: list[str] = []
    for action in decision.actions:
        context = Context(
            plan=plan_id,
            first=len(changes),
            cause=cause,
            why=decision.why,
            readings=dict(readings),
            workflows=world.workflows,
            packages=world.packages,
            states=world.snapshot.states,
            registry=world.registry,
        )
        try:
            changes += _plan_action(action, context, world.snapshot.states)
        except Unneeded as unneeded:
            needless.append(str(unneeded))
        except Refused as refused:
            return Planned(refused.instead, str(refused))
        except ValidationError as invalid:
            return Planned((), f"{action.primitive}: its arguments {action.args!r} are not valid: {invalid.errors()[0]['msg']}")
    return Planned(_expecting_once(changes), "" if changes else "; ".join(needless))


def _plan_action(action: Action, context: Context, states: Mapping[str, State]) -> tuple[Change, ...]:
    args = ARGUMENTS[action.primitive].model_validate(action.args)
    state = states.get(action.target, State(target=action.target, kind="absent"))
    return PRIMITIVES[action.primitive].plan(args, state, context)


def _expecting_once(changes: list[Change]) -> tuple[Change, ...]:
    # the first change of a target moves its revision, so that only it can expect the one that was seen
    seen: set[str] = set()
    expecting: list[Change] = []
    for change in changes:
        first = change.target not in seen
        if change.effector == "platform":
            seen.add(change.target)
        expecting.append(change if first else change.model_copy(update={"expect": None}))
    return tuple(expecting)
