"""Strategies under a virtual clock: the production evaluator, engine and plan runner over the simulated platform.

    simulation = Simulation(load("examples/mnist"), loads={"mnist-online/predictor": Load(rate=[(0, 10), (600, 60)])})
    simulation.run(hours=1)
    assert simulation.platform.service("mnist-online/predictor").quantile(0.99, 60) < 0.1

A virtual hour takes a second or two, and the same seed gives the same decisions.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from autonomic.agents.journal import SqlJournal
from autonomic.agents.monitor.schedule import next_time
from autonomic.agents.planner.engine import DECISION, Engine
from autonomic.agents.planner.judging import Inputs
from autonomic.agents.planner.plan_effects import PlanEffects
from autonomic.agents.planner.plan_store import PlanStore
from autonomic.agents.planner.runner import JournalRunner
from autonomic.agents.planner.suggestions import INPUTS
from autonomic.agents.planner.waiting import NotYet
from autonomic.platforms.simulated import Batch, Load, SimulatedPlatform, SimulatedRecorder, SimulatedRegistry, SimulatedSignal
from autonomic.platforms.simulated.signal import Scripted
from autonomic.seams.clock import VirtualClock
from autonomic.seams.decision import Action, DecisionRecord
from autonomic.seams.errors import Retryable
from autonomic.seams.event import Event
from autonomic.seams.ids import SeededIds
from autonomic.seams.reading import Reading
from autonomic.seams.runner import PlanStatus
from autonomic.seams.signal import Answer
from autonomic.strategies.evaluator import EvaluatorState, evaluate
from autonomic.strategies.readings import queries_of
from autonomic.strategies.spec.strategy import On, Strategy
from autonomic.strategies.triggers import Trigger, triggers_of
from autonomic.workflows.spec.workflow import OnlineSpec, Workflow


class Simulation:
    """Runs strategies on simulated workflows.

    Args:
        documents: the workflows and strategies; online workflows are deployed at the start.
        loads: what each service is asked for, by `workflow/service`.
        batches: how each batch workflow goes, by its name.
        models: the registered models to begin with: name -> alias -> tags of the version.
        scripted: readings of their own making, by `strategy/reading` or `reading`; called with the seconds since the start.
        seed: of the ids; each load has a seed of its own.
    """

    def __init__(
        self,
        documents: Iterable[Workflow | Strategy],
        loads: Mapping[str, Load] | None = None,
        batches: Mapping[str, Batch] | None = None,
        models: Mapping[str, Mapping[str, Mapping[str, str]]] | None = None,
        scripted: Mapping[str, Scripted] | None = None,
        seed: int = 0,
    ) -> None:
        self.clock = VirtualClock()
        self.start = self.clock.now()
        self.registry = SimulatedRegistry(self.clock)
        for model, versions in (models or {}).items():
            for alias, tags in versions.items():
                self.registry.register(model, dict(tags), alias)
        self.platform = SimulatedPlatform(self.clock, self.registry, loads, batches)
        self.signal = SimulatedSignal(self.platform, self.start, scripted)
        self.messages = SimulatedRecorder(self.clock)
        self.searches = SimulatedRecorder(self.clock)
        self.journal = SqlJournal("sqlite://", self.clock.now)
        self._ids = SeededIds(seed)
        effects = PlanEffects(
            {"platform": self.platform, "registry": self.registry, "agents": self.messages, "tuner": self.searches},
            lambda: 1,
            lambda plan, outcome: self.engine.take_back(plan, outcome),
            lambda plan, outcome: self.engine.judge_revert(plan, outcome),
            lambda plan: self.engine.check(plan),
            lambda before, after: self.engine.progressed(before, after),
        )
        self.runner = JournalRunner(self.journal, self.clock, effects)
        self.engine = Engine(self.clock, self._ids, self.journal, self._readings, self.platform.observe, self.registry.aliases, self.runner)
        documents = list(documents)
        workflows = {document.name: document for document in documents if isinstance(document, Workflow)}
        self._strategies = {document.name: document for document in documents if isinstance(document, Strategy)}
        self._queries = {name: queries_of(strategy) for name, strategy in self._strategies.items()}
        self._states = {name: EvaluatorState() for name in self._strategies}
        self.engine.set_specs(workflows, self._strategies, {})
        for name, workflow in workflows.items():
            if isinstance(workflow.spec, OnlineSpec):
                self.engine.by_hand(Action(primitive="deploy", target=name), actor="simulation")
        for name, strategy in self._strategies.items():
            for trigger in triggers_of(strategy):
                self._plan_next(name, trigger, self.start)

    def run(self, hours: float = 0.0, seconds: float = 0.0) -> None:
        """Lets virtual time pass."""
        self.clock.advance(hours * 3600.0 + seconds)

    def at(self, seconds: float, function: Callable[[], None]) -> None:
        """Calls `function` at that many seconds since the start, for faults and people."""
        self.clock.call_at(self.start + seconds, function)

    def fire(self, strategy: str, data: Mapping[str, Any] | None = None) -> list[DecisionRecord]:
        """Asks a strategy to look now, as `autonomic fire` does."""
        return self._look(strategy, "call", data)

    def decisions(self, strategy: str | None = None) -> list[DecisionRecord]:
        """What was decided, in order."""
        found = [DecisionRecord.model_validate(record.data) for record in self.journal.read(kinds=[DECISION], limit=1_000_000)]
        return [record for record in found if strategy in (None, record.decision.strategy)]

    def inputs(self) -> dict[str, Inputs]:
        """What each decision was made of, by its id."""
        return {record.subject: Inputs.model_validate(record.data) for record in self.journal.read(kinds=[INPUTS], limit=1_000_000)}

    def plans(self) -> list[PlanStatus]:
        """All plans, the oldest first."""
        return list(reversed(PlanStore(self.journal).all()))

    def _plan_next(self, strategy: str, trigger: Trigger, after: float) -> None:
        when = _next_time(trigger.on, after)
        if when is not None:
            self.clock.call_at(when, lambda: self._tick(strategy, trigger, when))

    def _tick(self, strategy: str, trigger: Trigger, when: float) -> None:
        self._look(strategy, trigger.name, None)
        self._plan_next(strategy, trigger, when)

    def _look(self, name: str, trigger: str, data: Mapping[str, Any] | None) -> list[DecisionRecord]:
        strategy = self._strategies[name]
        now = self.clock.now()
        self._states[name], events = evaluate(strategy, self._states[name], self._answers(name), now, self._ids, trigger, data)
        return [record for event in events if (record := self._handle(event)) is not None]

    def _handle(self, event: Event) -> DecisionRecord | None:
        def again() -> None:
            self._handle(event)

        try:
            return self.engine.handle(event)
        except NotYet as later:
            self.clock.call_at(self.clock.now() + later.delay_seconds, again)
        except Retryable:
            # the service's dispatcher keeps an event and tries again; here its breach fires again
            pass
        return None

    def _readings(self, strategy: str, by: Mapping[str, str]) -> dict[str, Reading]:
        wanted = set(by.items())
        found = {name: [answer] if isinstance(answer, Reading) else answer for name, answer in self._answers(strategy).items()}
        chosen = {
            name: next((one for one in several if not one.labels or wanted & set(one.labels.items())), None)
            for name, several in found.items()
        }
        return {name: reading for name, reading in chosen.items() if reading is not None}

    def _answers(self, strategy: str) -> dict[str, Answer]:
        queries = self._queries[strategy]
        answers = self.signal.read(queries, self.clock.now())
        return {query.name: answer for query, answer in zip(queries, answers, strict=True)}


def _next_time(on: On, after: float) -> float | None:
    """When a trigger comes next, None where it comes only on request or never again."""
    return after + on.every if on.every is not None else next_time(on, after)
