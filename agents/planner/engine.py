"""Events in, decisions and plans out: synchronous, driven by seams only, the same in the service and in simulation."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from autonomic.agents.planner.demotion import Demotion
from autonomic.agents.planner.interpreter import Judged as Checked
from autonomic.agents.planner.judging import Inputs, Judged, choose, judge, judge_by_hand, judge_revert_by_hand
from autonomic.agents.planner.people import Freezes, said
from autonomic.agents.planner.plan_store import PlanStore
from autonomic.agents.planner.suggestions import INPUTS, Suggestions
from autonomic.agents.planner.waiting import Waiting
from autonomic.agents.planner.worlds import Observe, Readings, Registry, Worlds, cuts_capacity
from autonomic.primitives import gate
from autonomic.primitives.base import revert_key
from autonomic.primitives.gate import Proposal, Snapshot
from autonomic.primitives.people import Freeze, overlap
from autonomic.primitives.table import PRIMITIVES
from autonomic.seams.clock import Clock
from autonomic.seams.decision import Action, Decision, DecisionRecord, Guard, Verdict
from autonomic.seams.errors import Permanent
from autonomic.seams.event import Event
from autonomic.seams.ids import Ids
from autonomic.seams.journal import Journal, Record, Transaction
from autonomic.seams.plan import Change, Irreversible, Outcome, Plan
from autonomic.seams.reading import Reading
from autonomic.seams.runner import ENDED, PlanRunner, PlanStatus
from autonomic.seams.target import Target
from autonomic.strategies.conditions import Condition
from autonomic.strategies.readings import fill_again
from autonomic.strategies.spec.strategy import Strategy
from autonomic.workflows.spec.workflow import Workflow

DECISION = "decision"

Also = Callable[[Transaction], None]
"""Something that has to be committed together with a decision."""


class Engine:
    """Decides on events and on what people ask for, one at a time per workflow."""

    def __init__(
        self, clock: Clock, ids: Ids, journal: Journal, readings: Readings, observe: Observe, registry: Registry, runner: PlanRunner
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._journal = journal
        self._readings = readings
        self._worlds = Worlds(clock, journal, readings, observe, registry)
        self._demotion = Demotion(journal)
        self._runner = runner
        self._plans = PlanStore(journal)
        self._freezes = Freezes(journal)
        self._suggestions = Suggestions(journal)
        self._strategies: Mapping[str, Strategy] = {}
        self._waiting = Waiting()
        self._locks: dict[str, threading.RLock] = {}
        self._lock = threading.Lock()

    def set_specs(self, workflows: Mapping[str, Workflow], strategies: Mapping[str, Strategy], packages: Mapping[str, str]) -> None:
        """What is in force from now on: documents by name, and the digests of the workflows' packed code."""
        self._strategies = dict(strategies)
        self._worlds.set_specs(workflows, strategies, packages)

    # -- decisions

    def handle(self, event: Event, also: Also | None = None) -> DecisionRecord:
        """Decides on an event, records it, and starts the plan if the gate lets it pass.

        Raises:
            NotYet: the event does not come again, and waits for another plan or a reading; nothing was recorded.
            Retryable: readings, platform or registry cannot be asked now; nothing was recorded.
        """
        now = self._clock.now()
        strategy = self._strategies.get(event.strategy)
        if strategy is None:
            return self._unknown(event, now, also)
        fresh = event.readings if now > event.expires_at else self._readings(strategy.name, event.by)
        inputs = Inputs(
            decision=self._ids.new("decision"),
            plan=self._ids.new("plan"),
            now=now,
            strategy=strategy,
            memory=self._state(f"memory/{strategy.name}"),
            event=event,
            readings=fill_again(strategy, fresh, event.readings, now),
            waited=self._waiting.waited(event.id),
        )
        _, decision, _ = choose(inputs)
        with self._alone(strategy.spec.target, decision.actions):
            inputs = inputs.model_copy(update={"world": self._worlds.look(strategy.name, strategy.spec.target, decision.actions)})
            judged = judge(inputs)
            if judged.proposal is not None and cuts_capacity(judged.proposal, inputs.world.snapshot):
                inputs = inputs.model_copy(update={"world": self._worlds.with_pressing(inputs.world, judged.proposal)})
                judged = judge(inputs)
            self._waiting.check(judged, inputs)
            record = self._commit(judged, inputs, also)
        self._start(judged, inputs.world.snapshot)
        return record

    def by_hand(
        self, action: Action, *, dry_run: bool = False, actor: str = "", reason: str = "", also: Also | None = None
    ) -> DecisionRecord:
        """Plans what a person asks for, and why; the gate judges it like any action. A dry run is not recorded.

        Raises:
            Retryable: platform or registry cannot be asked now.
        """
        now = self._clock.now()
        why = f"{actor or 'a person'} asked for it{f': {reason}' if reason else ''}"
        decision = Decision(strategy="", target=action.target, actions=(action,), why=why)
        event = Event(
            id=self._ids.new("event"), source=actor or "by hand", target=action.target, trigger="by hand", observed_at=now, expires_at=now
        )
        identifier, plan = self._ids.new("decision"), self._ids.new("plan")
        with self._alone(action.target, (action,)):
            world = self._worlds.look("", action.target, (action,))
            judged = judge_by_hand(decision, event, identifier, plan, world, now, dry_run)
            if dry_run:
                return judged.record
            self._commit(judged, None, also)
        self._start(judged, world.snapshot)
        return judged.record

    def dry_run(self, event: Event) -> Judged:
        """What would be decided on an event; nothing is recorded.

        Raises:
            Permanent: its strategy is not in force.
        """
        strategy = self._strategies.get(event.strategy)
        if strategy is None:
            raise Permanent(f"there is no strategy {event.strategy!r}; there are {', '.join(sorted(self._strategies)) or 'none'}")
        now = self._clock.now()
        readings = fill_again(strategy, self._readings(strategy.name, event.by), event.readings, now)
        inputs = Inputs(decision="dry-run", plan="dry-run", now=now, strategy=strategy, event=event, readings=readings)
        _, decision, _ = choose(inputs)
        return judge(inputs.model_copy(update={"world": self._worlds.look(strategy.name, strategy.spec.target, decision.actions)}))

    # -- people

    def pending(self) -> list[tuple[Plan, Proposal]]:
        """The plans that wait for approval, by id."""
        return self._suggestions.all()

    def approve(self, plan_id: str, actor: str = "", why: str = "") -> Verdict:
        """Starts the very plan that was shown, if the gate lets it pass now.

        Raises:
            Permanent: no such plan waits.
            Retryable: the platform cannot be asked now.
        """
        plan, proposal = self._suggestions.get(plan_id)
        now = self._clock.now()
        actions = tuple(Action(primitive=change.primitive, target=change.target) for change in plan.changes)
        # its time counts from the approval: a person may take longer than an effect is tried for
        plan = plan.model_copy(update={"created_at": now})
        with self._alone(plan.target, actions):
            snapshot = self._worlds.snapshot(proposal.strategy, proposal.target, {change.target for change in plan.changes})
            approved = proposal.model_copy(update={"approved": True, "observed_at": now})
            verdict = gate.judge(approved, snapshot, now)
            with self._journal.transaction() as transaction:
                said(transaction, plan, "approved", actor, why, now, verdict)
                if verdict.outcome == "go":
                    self._suggestions.close(transaction, plan_id)
                    self._acted(transaction, approved, now)
                    self._plans.open(transaction, plan, now)
        if verdict.outcome == "go":
            self._give_way(approved, snapshot)
            self._runner.start(plan)
        return verdict

    def reject(self, plan_id: str, actor: str = "", why: str = "", what: str = "rejected") -> None:
        """Turns down a plan that waits for approval; the same is not proposed again before its evidence changes.

        Raises:
            Permanent: no such plan waits.
        """
        plan, proposal = self._suggestions.get(plan_id)
        now = self._clock.now()
        with self._journal.transaction() as transaction:
            self._suggestions.close(transaction, plan_id)
            self._plans.put_away(transaction, plan, f"{actor or 'a person'} {what} it{f': {why}' if why else ''}", now)
            said(transaction, plan, what, actor, why, now)
            self._suggestions.hold(transaction, plan, proposal, what, actor, why, now)

    def cancel(self, plan_id: str, actor: str = "", why: str = "") -> bool:
        """Turns down a plan that waits for approval, or stops a running one before its next effect; False where it has ended."""
        if self._suggestions.waits(plan_id):
            self.reject(plan_id, actor, why, "cancelled")
            return True
        progress = self._plans.load(plan_id)
        reason = f"{actor or 'a person'} cancelled it{f': {why}' if why else ''}"
        if progress is None or not self._runner.cancel(plan_id, reason):
            return False
        with self._journal.transaction() as transaction:
            said(transaction, progress.status.plan, "cancelled", actor, why, self._clock.now())
        return True

    def revert(self, plan_id: str, actor: str = "", why: str = "") -> DecisionRecord:
        """Reverts what a finished plan did, by a plan of its own that passes the gate. What a strategy did is then held back:
        it is not proposed again before its evidence changes.

        Raises:
            Permanent: there is no such plan, it is not finished, or nothing of it can be reverted.
            Retryable: readings or platform cannot be asked now.
        """
        status = self._runner.status(plan_id)
        if status is None:
            raise Permanent(f"there is no plan {plan_id!r}")
        if status.phase not in ENDED:
            raise Permanent(f"{plan_id} is {status.phase}; cancel it first")
        changes = self._reverse(status)
        plan = status.plan
        now = self._clock.now()
        reason = f"{actor or 'a person'} reverts {plan_id}{f': {why}' if why else ''}"
        identifier, event_id = self._ids.new("decision"), self._ids.new("event")
        with self._alone(plan.target, tuple(Action(primitive=change.primitive, target=change.target) for change in changes)):
            snapshot = self._worlds.snapshot("", plan.target, {change.target for change in changes})
            proposal = self._reverting(plan, changes, now)
            judged = judge_revert_by_hand(plan, proposal, snapshot, identifier, self._ids.new("plan"), event_id, actor, reason)

            def held(transaction: Transaction) -> None:
                if judged.plan is not None:
                    said(transaction, plan, "reverted", actor, why, now)
                    if (before := self._suggestions.proposal(plan)) is not None:
                        self._suggestions.hold(transaction, plan, before, "reverted", actor, why, now)

            self._commit(judged, None, held)
        self._start(judged, snapshot)
        return judged.record

    def freeze(self, freeze: Freeze) -> list[str]:
        """Puts a freeze in force, stops what runs on its target before its next effect, and returns those plans."""
        self._freezes.put(freeze)
        # what was judged before the freeze is committed once its workflow's lock was free
        with self._lock:
            locks = [lock for name, lock in self._locks.items() if not freeze.target or overlap(freeze.target.partition("/")[0], name)]
        for lock in locks:
            with lock:
                pass
        stopped = [flight.plan for flight in self._worlds.flights() if any(map(freeze.covers, flight.targets))]
        return [plan_id for plan_id in stopped if self._runner.cancel(plan_id, freeze.words())]

    def unfreeze(self, target: str, actor: str = "", why: str = "") -> Freeze | None:
        """Lifts the freeze of a target ("" is everything); None where there is none."""
        return self._freezes.lift(target, actor, why, self._clock.now())

    def freezes(self) -> tuple[Freeze, ...]:
        """The freezes in force."""
        return self._freezes.at(self._clock.now())

    def reinstate(self, strategy: str, actor: str = "", why: str = "") -> bool:
        """Lets a strategy that demoted itself act again; False where it did not."""
        return self._demotion.reinstate(strategy, actor, why, self._clock.now())

    def demoted(self) -> dict[str, str]:
        """The strategies that demoted themselves, and why."""
        return self._demotion.demoted()

    # -- what plans ask while they run; see `plan_effects.PlanEffects`

    def take_back(self, plan: Plan, outcome: Outcome) -> Change | Irreversible:
        """The change that takes back an outcome."""
        return PRIMITIVES[outcome.primitive].revert(outcome)

    def judge_revert(self, plan: Plan, outcome: Outcome) -> Verdict:
        """The gate's verdict on taking an outcome back now.

        Raises:
            Retryable: readings or platform cannot be asked now.
        """
        change = self.take_back(plan, outcome)
        now = self._clock.now()
        if isinstance(change, Irreversible):
            return Verdict(outcome="refuse", guards=(Guard(name="irreversible", passed=False, detail=change.why),), why=change.why)
        proposal = self._reverting(plan, (change,), now)
        return gate.judge(proposal, self._worlds.snapshot(plan.strategy, plan.target, {change.target}), now)

    def check(self, plan: Plan) -> Checked:
        """Judges the plan's condition on fresh readings; a substitute verifies nothing.

        Raises:
            Retryable: the readings cannot be asked now.
        """
        strategy = self._strategies.get(plan.strategy)
        if plan.verify is None or strategy is None:
            return Checked(holds=None, detail=f"the strategy {plan.strategy!r} is not in force any more")
        readings = self._readings(strategy.name, self._labels(plan))
        condition = Condition.compile(plan.verify.that, strategy.spec.readings)
        told = ", ".join(f"{name} = {_value(readings.get(name))}" for name in sorted(condition.names))
        return Checked(holds=condition.judge({name: one for name, one in readings.items() if not one.substituted}), detail=told)

    def progressed(self, before: PlanStatus, after: PlanStatus) -> None:
        """Demotes a strategy whose plans were reverted too often. May be told the same twice."""
        self._demotion.progressed(before, after, self._clock.now())

    # -- inside

    def _unknown(self, event: Event, now: float, also: Also | None) -> DecisionRecord:
        why = f"no strategy {event.strategy!r} is in force"
        record = DecisionRecord(
            id=self._ids.new("decision"),
            time=now,
            event=event.model_dump(mode="json"),
            readings=event.readings,
            decision=Decision(strategy=event.strategy, target=event.target, why=why),
        )
        self._commit(Judged(record, None, None, None), None, also)
        return record

    def _commit(self, judged: Judged, inputs: Inputs | None, also: Also | None) -> DecisionRecord:
        record, proposal = judged.record, judged.proposal
        asks = record.verdict is not None and record.verdict.outcome == "ask"
        with self._journal.transaction() as transaction:
            known = self._suggestions.repeated(transaction, judged, asks)
            if known is not None:
                if also is not None:
                    also(transaction)
                return record.model_copy(update={"plan": known})
            transaction.append(Record(time=record.time, kind=DECISION, subject=record.id, data=record.model_dump(mode="json")))
            if inputs is not None:
                data = inputs.model_dump(mode="json", by_alias=True)
                transaction.append(Record(time=record.time, kind=INPUTS, subject=record.id, data=data))
                if judged.memory != inputs.memory:
                    transaction.put_state(f"memory/{inputs.strategy.name}", judged.memory)
            shadowed = record.verdict is not None and record.verdict.outcome == "log"
            if proposal is not None and shadowed:
                # its cooldown and limit count what it would have done
                self._acted(transaction, proposal, proposal.observed_at)
            if judged.plan is not None and proposal is not None and not asks:
                self._acted(transaction, proposal, proposal.observed_at)
                self._plans.open(transaction, judged.plan, record.time)
            if also is not None:
                also(transaction)
        return record

    def _acted(self, transaction: Transaction, proposal: Proposal, at: float) -> None:
        if not proposal.strategy:
            return
        key = f"acted/{proposal.strategy}/{proposal.target}"
        count, seconds = proposal.limit or (1, 0.0)
        times: list[float] = [*(transaction.state(key)[0] or []), at]
        recent = [time for time in times if at - time <= max(seconds, proposal.cooldown_seconds)]
        transaction.put_state(key, recent[-max(1, count) :])

    def _start(self, judged: Judged, snapshot: Snapshot) -> None:
        asks = judged.record.verdict is not None and judged.record.verdict.outcome == "ask"
        if judged.plan is None or judged.proposal is None or asks:
            return
        self._give_way(judged.proposal, snapshot)
        self._runner.start(judged.plan)

    def _give_way(self, proposal: Proposal, snapshot: Snapshot) -> None:
        targets = gate.targets_of(proposal.changes)
        for flight in snapshot.flights:
            if any(overlap(one, other) for one in targets for other in flight.targets) and gate.gives_way(flight, proposal):
                self._runner.cancel(flight.plan)

    def _reverting(self, plan: Plan, changes: tuple[Change, ...], now: float) -> Proposal:
        strategy = self._strategies.get(plan.strategy)
        holds = self._worlds.holds(strategy, self._labels(plan)) if strategy is not None else False
        return Proposal(
            strategy=plan.strategy, target=plan.target, changes=changes, observed_at=now, reverts=plan.id, holds=holds, priority=100
        )

    def _reverse(self, status: PlanStatus) -> tuple[Change, ...]:
        changes: list[Change] = []
        taken_back = {outcome.key for outcome in status.reverts if outcome.status in ("done", "unchanged")}
        for outcome in reversed(status.outcomes):
            if outcome.status != "done" or revert_key(outcome.key) in taken_back:
                continue
            change = self.take_back(status.plan, outcome)
            if isinstance(change, Irreversible):
                raise Permanent(f"{outcome.primitive} of {outcome.target} cannot be taken back: {change.why}")
            changes.append(change)
        if not changes:
            raise Permanent(f"{status.plan.id} has done nothing that could be taken back")
        return tuple(changes)

    def _labels(self, plan: Plan) -> dict[str, str]:
        found = self._journal.latest(kinds=[DECISION], subject=plan.decision, limit=1)
        return dict(found[0].data["event"].get("by", {})) if found else {}

    def _state(self, key: str) -> Any:
        return self._journal.states(key).get(key)

    @contextmanager
    def _alone(self, target: str, actions: Sequence[Action]) -> Iterator[None]:
        names = sorted({Target.parse(one).workflow for one in (target, *(action.target for action in actions))})
        with self._lock:
            locks = [self._locks.setdefault(name, threading.RLock()) for name in names]
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            yield


def _value(reading: Reading | None) -> str:
    if reading is None:
        return "not read"
    if reading.status != "ok" or reading.value is None or reading.substituted:
        return f"{'missing' if reading.substituted else reading.status} ({reading.detail})"
    return f"{reading.value:.6g}"
