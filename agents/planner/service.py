"""The planner put together: inbox, workers, engine, runner, effectors, mirror."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from autonomic.agents.auth import Tokens
from autonomic.agents.bus import HttpBus
from autonomic.agents.journal import SqlJournal
from autonomic.agents.leases import SqlLeases, process_holder
from autonomic.agents.logs import logger
from autonomic.agents.planner import mirror
from autonomic.agents.planner import specs as documents
from autonomic.agents.planner.aliases import ACTOR as ALIAS
from autonomic.agents.planner.aliases import LOOK_SECONDS as ALIAS_SECONDS
from autonomic.agents.planner.aliases import AliasWorld
from autonomic.agents.planner.declared import ACTOR, DeclaredLoop, DeclaredWorld
from autonomic.agents.planner.dispatcher import Dispatcher
from autonomic.agents.planner.effectors import AgentsEffector, TunerEffector
from autonomic.agents.planner.engine import DECISION, Also, Engine
from autonomic.agents.planner.explain import explain
from autonomic.agents.planner.inbox import Arrived, Inbox
from autonomic.agents.planner.leadership import TARGET, Leadership
from autonomic.agents.planner.metrics import Metrics
from autonomic.agents.planner.mirror import RunMirror
from autonomic.agents.planner.monitor_client import MonitorReadings
from autonomic.agents.planner.people import WORD
from autonomic.agents.planner.plan_effects import PlanEffects
from autonomic.agents.planner.plan_store import PlanStore
from autonomic.agents.planner.registry import Registry
from autonomic.agents.planner.retention import Retention
from autonomic.agents.planner.runner import JournalRunner
from autonomic.agents.planner.specs import Difference, Specs
from autonomic.agents.planner.waiting import NotYet
from autonomic.agents.settings import Settings
from autonomic.platforms.host.client import HostPlatform
from autonomic.platforms.table import platforms
from autonomic.primitives.gate import targets_of
from autonomic.primitives.people import Freeze
from autonomic.seams.clock import SystemClock
from autonomic.seams.decision import Action, DecisionRecord, Verdict
from autonomic.seams.errors import AutonomicError, Retryable
from autonomic.seams.event import SPECS_APPLIED, CloudEvent, Event
from autonomic.seams.ids import RandomIds
from autonomic.seams.journal import Record, Transaction
from autonomic.seams.platform import Notice
from autonomic.seams.runner import PlanStatus
from autonomic.seams.state import RunState
from autonomic.strategies.spec.strategy import Strategy
from autonomic.strategies.triggers import fires_again
from autonomic.workflows.spec.workflow import Workflow

if TYPE_CHECKING:
    from autonomic.agents.planner.custom_resources.controller import CustomResources

APPLIED = "specs.applied"
_ATTEMPTS = 5
_FOLLOW = "follow/"
_log = logger(__name__)


class Planner:
    """Everything between an event and its verified effect. `start` and `stop` once each."""

    def __init__(self, settings: Settings, tokens: Tokens, metrics: Metrics) -> None:
        self.metrics = metrics
        self.clock = SystemClock()
        self.ids = RandomIds()
        self.journal = SqlJournal(settings.journal("planner"))
        self.platform = HostPlatform(settings.host_url, tokens["host"])
        self.platforms = platforms(settings.platform)
        self._plans = PlanStore(self.journal)
        self._inbox = Inbox(self.journal, self.clock)
        self._bus = HttpBus(self.journal, self.clock, {"monitor": settings.monitor_url, "tuner": settings.tuner_url}, tokens["act"])
        keep_seconds = settings.keep_days * 86400.0
        self._mirror = RunMirror(self.journal, self.clock, self.platform, keep_seconds)
        self._readings = MonitorReadings(settings.monitor_url, tokens["act"])
        self._registry = Registry(settings.mlflow_url)
        self._tuner = TunerEffector(settings.tuner_url, tokens["act"])
        self._pool = ThreadPoolExecutor(32, thread_name_prefix="plan")
        self._leases = SqlLeases(self.journal, process_holder())
        self._leadership = Leadership(self._leases, self._gained, self._lost)
        self._own = AgentsEffector(self.journal, frozenset({"monitor", "tuner"}))
        self.runner = self._make_runner()
        self._retention = Retention(
            self.clock,
            keep_seconds,
            lambda: self._active,
            (self.runner.forget, self._own.forget, lambda before: mirror.forget(self.journal, before), self.journal.prune),
        )
        self.engine = Engine(self.clock, self.ids, self.journal, self._readings, self.platform.observe, self._registry.aliases, self.runner)
        self._dispatcher: Dispatcher[Arrived] = Dispatcher(self._handle)
        metrics.waiting.set_function(self._dispatcher.waiting)
        self._attempts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._applying = threading.RLock()
        self._active = False
        self.specs = documents.load(self.journal)
        self._put_in_force(self.specs)
        self._declared = DeclaredWorld(
            lambda: self.specs, self.platform.observe, self.platform.observe_all, self.plans, self._deploy_again, self._is_decided
        )
        self._declared_loop = DeclaredLoop(self._declared, self.clock, self._tell_gap, lambda: self._active)
        self._aliases = AliasWorld(
            lambda: self.specs,
            self.platform.observe,
            self._registry.named,
            lambda: {target for status in self._in_flight() for target in targets_of(status.plan.changes)},
            self.engine.freezes,
            self._follow_alias,
        )
        self._alias_loop = DeclaredLoop(self._aliases, self.clock, self._tell_gap, lambda: self._active, ALIAS_SECONDS)
        self._custom_resources = self._make_custom_resources(settings)

    def _make_runner(self) -> JournalRunner:
        effects = PlanEffects(
            effectors={
                "platform": self.platform,
                "registry": self._registry,
                "tuner": self._tuner,
                "agents": self._own,
            },
            fence=self._leadership.fence,
            # the engine is made with the runner, so that it is only known when the first plan runs
            take_back=lambda plan, outcome: self.engine.take_back(plan, outcome),
            judge_revert=lambda plan, outcome: self.engine.judge_revert(plan, outcome),
            check=lambda plan: self.engine.check(plan),
            progressed=self._progressed,
        )
        return JournalRunner(self.journal, self.clock, effects, submit=self._submit)

    def _make_custom_resources(self, settings: Settings) -> "CustomResources | None":
        if not settings.custom_resources:
            return None
        # the client of Kubernetes is only there where it is asked for
        from autonomic.agents.planner.custom_resources.controller import CustomResources
        from autonomic.agents.planner.custom_resources.credentials import cluster_of

        return CustomResources(self, cluster_of(settings))  # pyright: ignore[reportArgumentType] this file has two paths

    def _submit(self, work: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # an alarm may go off after the stop
            self._pool.submit(work)

    def _progressed(self, before: PlanStatus, after: PlanStatus) -> None:
        self.metrics.progressed(before, after)
        self.engine.progressed(before, after)

    def start(self) -> None:
        """Begins to ask for the lease; events are accepted at once and acted on when it is held."""
        self._bus.start()
        self._mirror.start()
        self._retention.start()
        self._leadership.start()
        self._declared_loop.start()
        self._alias_loop.start()

    def stop(self) -> None:
        """Ends after the effects that are under way; everything open goes on with the next start."""
        with self._lock:
            self._active = False
        if self._custom_resources is not None:
            self._custom_resources.close()
        self._declared_loop.stop()
        self._alias_loop.stop()
        self._dispatcher.stop()
        if self._leadership.held:
            self.runner.stop()
        # an effect may take minutes at its effector: what came of it is asked by its key after the next start
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._leadership.stop()
        self._mirror.stop()
        self._bus.stop()
        self._readings.close()
        self._tuner.close()
        self._registry.close()
        self.platform.close()
        self.journal.close()

    def missing(self) -> dict[str, str]:
        """What keeps the planner from its work."""
        parts: dict[str, str] = {}
        if not self._active:
            holder = self._leases.holder(TARGET)
            parts["lease"] = f"held by {holder.holder}" if holder else "not acquired yet"
        if self._mirror.missing:
            parts["platform"] = self._mirror.missing
        if self._active and self._custom_resources is not None and self._custom_resources.missing:
            parts["custom resources"] = self._custom_resources.missing
        return parts

    def accept(self, events: Sequence[CloudEvent]) -> int:
        """Commits events and hands the new ones to the workers; returns how many were new."""
        with self._lock:
            arrived = self._inbox.accept(events)
            if self._active:
                for item in arrived:
                    if item.is_trigger:
                        self._dispatcher.put(item.target, item)
        for item in arrived:
            self.metrics.events.labels(item.event.type if item.is_trigger else "other").inc()
        return len(arrived)

    def by_hand(self, action: Action, *, dry_run: bool, actor: str = "", why: str = "") -> DecisionRecord:
        """Judges and, if the gate agrees, plans what a person asks for.

        Raises:
            Retryable: this planner does not hold the lease, or the platform cannot be asked; nothing was done.
        """
        self._must_lead()
        record = self.engine.by_hand(action, dry_run=dry_run, actor=actor, reason=why)
        if not dry_run:
            self.metrics.decided(record)
        return record

    def approve(self, plan_id: str, actor: str, why: str) -> Verdict:
        """Starts a plan that waits for a person, if the gate lets it pass now."""
        self._must_lead()
        return self.engine.approve(plan_id, actor, why)

    def reject(self, plan_id: str, actor: str, why: str) -> None:
        """Turns down a plan that waits for a person."""
        self._must_lead()
        self.engine.reject(plan_id, actor, why)

    def cancel(self, plan_id: str, actor: str, why: str) -> bool:
        """Stops a plan; False where it has ended."""
        self._must_lead()
        return self.engine.cancel(plan_id, actor, why)

    def revert(self, plan_id: str, actor: str, why: str) -> DecisionRecord:
        """Reverts what an ended plan did, by a plan of its own."""
        self._must_lead()
        record = self.engine.revert(plan_id, actor, why)
        self.metrics.decided(record)
        return record

    def freeze(self, freeze: Freeze) -> list[str]:
        """Puts a freeze in force; returns the plans that it stops."""
        self._must_lead()
        return self.engine.freeze(freeze)

    def unfreeze(self, target: str, actor: str, why: str) -> Freeze | None:
        """Lifts a freeze; None where there is none."""
        self._must_lead()
        return self.engine.unfreeze(target, actor, why)

    def delete(self, removed: Collection[tuple[str, str]], actor: str, why: str) -> tuple[list[Difference], list[DecisionRecord]]:
        """Takes documents (kind, name) out of force, and online workflows out of service.

        Raises:
            Retryable: this planner does not hold the lease, or the platform cannot be asked; nothing was done.
        """
        with self._applying:
            changes = self.put_in_force((), {}, removed=removed, actor=actor, why=why, asking=True)
            return changes, self.follow_up()

    def decision(self, decision_id: str) -> DecisionRecord | None:
        """A recorded decision, None where it is unknown."""
        found = self.journal.latest(kinds=[DECISION], subject=decision_id, limit=1)
        return DecisionRecord.model_validate(found[0].data) if found else None

    def plan(self, plan_id: str) -> PlanStatus | None:
        """A plan, also one that waits for a person; None where it is unknown."""
        progress = self._plans.load(plan_id)
        if progress is not None:
            return progress.status
        return next((status for status in self._pending() if status.plan.id == plan_id), None)

    def plans(self) -> list[PlanStatus]:
        """All plans, the newest first, with those that wait for a person."""
        return sorted([*self._pending(), *self._plans.all()], key=lambda status: (status.plan.created_at, status.plan.id), reverse=True)

    def _pending(self) -> list[PlanStatus]:
        return [
            PlanStatus(plan=plan, phase="waiting", detail="it waits for a person: autonomic approve", updated_at=plan.created_at)
            for plan, _ in self.engine.pending()
        ]

    def story(self, record: DecisionRecord) -> dict[str, Any]:
        """The explanation of a decision."""
        plan = self.plan(record.plan) if record.plan else None
        return explain(record, plan, [found.data for found in self.journal.latest(kinds=[WORD], subject=record.id, limit=20)])

    def brief(self, record: DecisionRecord) -> dict[str, Any]:
        """What is answered to who asked for a decision."""
        return {
            "decision": record.id,
            "plan": record.plan,
            "verdict": record.verdict.outcome if record.verdict else None,
            "why": record.verdict.why if record.verdict else record.decision.why,
            "changes": [change.model_dump(mode="json") for change in record.changes],
            "explanation": self.story(record),
        }

    def told_of_strategy(self, name: str) -> dict[str, Any]:
        """A strategy in force, and whether it demoted itself."""
        strategy = self.specs.strategies[name]
        demoted = self.engine.demoted().get(name, "")
        autonomy = "suggest" if demoted and strategy.spec.guard.autonomy == "auto" else strategy.spec.guard.autonomy
        target, priority = strategy.spec.target, strategy.spec.priority
        return {
            "name": name, "target": target, "autonomy": autonomy, "demoted": demoted, "priority": priority, "spec": documents.dump(strategy)
        }  # fmt: skip

    def reinstate(self, name: str, actor: str, why: str) -> bool:
        """Lets a strategy that demoted itself act again; False where it did not."""
        self._must_lead()
        return self.engine.reinstate(name, actor, why)

    def apply(
        self, models: Sequence[Workflow | Strategy], packages: Mapping[str, str], *, prune: bool, actor: str = ""
    ) -> tuple[list[Difference], list[DecisionRecord]]:
        """Puts documents in force, and deploys online workflows that changed; all was validated before.

        Raises:
            Retryable: this planner does not hold the lease, or the platform of a workflow that is to be deployed or
                deleted cannot be asked; nothing was done.
        """
        with self._applying:
            restored = self.not_running(models, packages)
            changes = [*self.put_in_force(models, packages, prune=prune, actor=actor, asking=True), *restored]
            decisions = self.follow_up()
            under_way = {status.plan.target for status in self._in_flight()}
            for one in restored:
                if one.name in under_way:
                    continue
                moved = self._aliases.gaps(one.name)
                decisions += [self._aliases.upgrade(gap) for gap in moved]
                if not moved:
                    decisions.append(self.by_hand(Action(primitive="deploy", target=one.name), dry_run=False, actor=actor))
            return changes, decisions

    def not_running(self, models: Sequence[Workflow | Strategy], packages: Mapping[str, str]) -> list[Difference]:
        """Of documents to apply those that are in force as they are, and do not run as they say.

        Raises:
            Retryable: the platform cannot be asked now.
        """
        found: list[Difference] = []
        for model in models:
            code = self.specs.packages.get(model.name, "")
            if self.specs.workflows.get(model.name) == model and packages.get(model.name, code) == code:
                words = [self._declared.lacking(model.name), *map(str, self._aliases.gaps(model.name))]
                if words := "; ".join(filter(None, words)):
                    found.append(Difference(kind=model.kind, name=model.name, change="restored", text=f"{words}\n"))
        return found

    def faults(self, models: Sequence[Workflow | Strategy]) -> list[str]:
        """What fails by itself in those of the workflows that are in force as they are given.

        Raises:
            Retryable: the platform cannot be asked now.
        """
        return self._declared.faults([model.name for model in models if self.specs.workflows.get(model.name) == model])

    def differs(self, name: str) -> list[str]:
        """How what the platform has of a workflow differs from its document, and what came of closing it."""
        return [str(standing) for loop in (self._declared_loop, self._alias_loop) for standing in loop.standing(name)]

    def _follow_alias(self, action: Action, reason: str) -> DecisionRecord:
        self._must_lead()
        record = self.engine.by_hand(action, actor=ALIAS, reason=reason)
        self.metrics.decided(record)
        return record

    def _deploy_again(self, name: str) -> DecisionRecord:
        self._must_lead()
        with self._applying:
            record = self.engine.by_hand(Action(primitive="deploy", target=name), actor=ACTOR)
        self.metrics.decided(record)
        return record

    def _is_decided(self, name: str) -> bool:
        return f"{_FOLLOW}{name}" in self.journal.states(f"{_FOLLOW}{name}")

    def _tell_gap(self, kind: str, target: str, data: dict[str, Any]) -> None:
        told = Notice(cursor=0, time=self.clock.now(), kind=kind, target=target, data=data)
        with self.journal.transaction() as transaction:
            transaction.append(Record(time=told.time, kind=mirror.NOTICE, subject=target, data=told.model_dump(mode="json")))

    def put_in_force(
        self,
        models: Sequence[Workflow | Strategy],
        packages: Mapping[str, str],
        *,
        prune: bool = False,
        removed: Collection[tuple[str, str]] = (),
        given: Specs | None = None,
        actor: str = "",
        why: str = "",
        also: Also | None = None,
        asking: bool = False,
    ) -> list[Difference]:
        """Puts documents in force and tells the monitor; what follows from it is for `follow_up`.

        `removed` (kind, name) leave force. `given` are the documents that it was validated beside. `also` is committed with it.
        `asking` the platform first leaves everything as it is while it is away, for those who would not come back for the rest.

        Raises:
            Retryable: this planner does not hold the lease, the platform cannot be asked, or what is in force is not what was
                `given`; nothing was done.
        """
        self._must_lead()
        with self._applying:
            before = self.specs
            if given is not None and given is not before:
                raise Retryable("what is in force has changed meanwhile; it is judged again", 0.1)
            after = documents.merge(before, models, packages, prune, removed)
            changes = [difference for difference in documents.differences(before, after) if difference.change != "unchanged"]
            following = documents.following(changes, before, after)
            if asking:
                for name in following:
                    self.platform.observe(name)
            with self.journal.transaction() as transaction:
                documents.save(transaction, before, after)
                self._tell_monitor(transaction, after)
                summary = [change.model_dump(mode="json", exclude={"text"}) for change in changes]
                transaction.append(Record(time=self.clock.now(), kind=APPLIED, data={"changes": summary}))
                for name, primitive in following.items():
                    transaction.put_state(f"{_FOLLOW}{name}", {"primitive": primitive, "actor": actor, "why": why, "patient": not asking})
                if also is not None:
                    also(transaction)
            self._put_in_force(after)
        return changes

    def follow_up(self) -> list[DecisionRecord]:
        """Decides on what has still to follow from documents that were put in force; each once, whenever this process ends.

        Raises:
            Retryable: the platform cannot be asked now; what is left is decided on by the next call.
        """
        with self._applying:
            found = [self._follow(key, value) for key, value in self.journal.states(_FOLLOW).items()]
        return [record for record in found if record is not None]

    def _follow(self, key: str, value: Mapping[str, Any]) -> DecisionRecord | None:
        self._must_lead()
        action = Action(primitive=value["primitive"], target=key.removeprefix(_FOLLOW))
        if action.primitive == "delete" and self.platform.observe(action.target).kind == "absent":
            with self.journal.transaction() as transaction:
                transaction.delete_state(key)
            return None
        if value["patient"] and any(status.plan.target == action.target for status in self._in_flight()):
            # the gate would refuse it, and nobody is there who would ask for it again
            raise Retryable(f"another plan changes {action.target}; what follows from its document waits for that", 0.5)
        actor, why = value["actor"], value["why"]
        record = self.engine.by_hand(action, actor=actor, reason=why, also=lambda transaction: transaction.delete_state(key))
        self.metrics.decided(record)
        return record

    def _in_flight(self) -> list[PlanStatus]:
        found = (self._plans.load(plan_id) for plan_id in self._plans.open_plans())
        return [progress.status for progress in found if progress is not None and progress.status.phase != "verifying"]

    def _put_in_force(self, specs: Specs) -> None:
        self.specs = specs
        self.engine.set_specs(specs.workflows, specs.strategies, specs.packages)

    def _tell_monitor(self, transaction: Transaction, specs: Specs) -> None:
        data = {
            "strategies": [documents.dump(strategy) for strategy in specs.strategies.values()],
            "workflows": [documents.dump(workflow) for workflow in specs.workflows.values()],
        }
        transaction.send("monitor", CloudEvent(id=self.ids.new("specs"), source="planner", type=SPECS_APPLIED, data=data))

    def run(self, run_id: str) -> RunState | None:
        """A run: as the platform tells it now, else as it was heard of last."""
        try:
            found = self.platform.run(run_id)
        except AutonomicError:
            found = None
        return found or mirror.run(self.journal, run_id)

    def _must_lead(self) -> None:
        if not self._active:
            raise Retryable("this planner does not hold the lease yet; try again", 1.0)

    def _gained(self) -> None:
        try:
            resumed = self.runner.resume_all()
        except Exception:  # noqa: BLE001 the boundary of this thread: a planner without a runner must not stay
            _log.exception("the plan runner does not start")
            self._lost()
            return
        with self._lock:
            waiting = list(self._inbox.waiting())
            for item in waiting:
                self._dispatcher.put(item.target, item)
            self._active = True
        if self._custom_resources is not None:
            self._custom_resources.start()
        self.metrics.leader.set(1)
        _log.info("the planner acts", extra={"resumed_plans": len(resumed), "waiting_events": len(waiting)})

    def _lost(self) -> None:
        # another planner acts now: what is under way here is refused by its fence, and a clean start is the simplest way back
        self._active = False
        self.metrics.leader.set(0)
        os.kill(os.getpid(), signal.SIGTERM)

    def _handle(self, item: Arrived) -> None:
        event = Event.model_validate(item.event.data)
        line = f"strategy {event.strategy}"
        strategy = self.specs.strategies.get(event.strategy)
        if not item.in_line and strategy and not fires_again(strategy, event.trigger) and self._dispatcher.holds(line):
            self._dispatcher.put(line, item._replace(in_line=True))
            return
        try:
            record = self.engine.handle(event, lambda transaction: self._inbox.done(transaction, item))
        except NotYet:
            if item.in_line:
                raise
            self._dispatcher.put(line, item._replace(in_line=True))
            return
        except Retryable:
            raise
        except Exception as wrong:
            attempts = self._attempts[item.key] = self._attempts.get(item.key, 0) + 1
            if attempts < _ATTEMPTS:
                raise
            _log.exception("an event is given up", extra={"event": event.id})
            self._inbox.failed(item, f"{type(wrong).__name__}: {wrong}")
        else:
            self.metrics.decided(record)
            if record.plan and not item.in_line:
                self.metrics.reaction.observe(max(0.0, self.clock.now() - item.committed_at))
        self._attempts.pop(item.key, None)
