"""What decisions look at beside readings: states, plans in flight, what was done before, who wants more capacity."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from autonomic.agents.planner.judging import World
from autonomic.agents.planner.people import Freezes, Holds
from autonomic.agents.planner.plan_store import PlanStore
from autonomic.primitives import gate
from autonomic.primitives.base import model_name
from autonomic.primitives.gate import Flight, Proposal, Snapshot
from autonomic.primitives.people import overlap
from autonomic.primitives.table import PRIMITIVES
from autonomic.seams.clock import Clock
from autonomic.seams.decision import Action
from autonomic.seams.journal import Journal
from autonomic.seams.reading import Reading
from autonomic.seams.runner import ENDED
from autonomic.seams.state import ModelVersion, State
from autonomic.seams.target import Target
from autonomic.strategies.conditions import Condition
from autonomic.strategies.readings import fill_again, label_of
from autonomic.strategies.spec.strategy import Strategy
from autonomic.workflows.spec.workflow import Workflow

Readings = Callable[[str, Mapping[str, str]], Mapping[str, Reading]]
"""Fresh readings of a strategy for label values, by name; raises `Retryable` where they cannot be asked."""
Observe = Callable[[str], State]
"""The state of a target; raises `Retryable` where the platform cannot be asked."""
Registry = Callable[[str], Mapping[str, ModelVersion]]
"""alias -> version of a registered model; raises `Retryable` where the registry cannot be asked."""


class Worlds:
    """Looks at the world. Every method raises `Retryable` where a part of it cannot be asked."""

    def __init__(self, clock: Clock, journal: Journal, readings: Readings, observe: Observe, registry: Registry) -> None:
        self._clock = clock
        self._journal = journal
        self._readings = readings
        self._observe = observe
        self._registry = registry
        self._plans = PlanStore(journal)
        self._freezes = Freezes(journal)
        self._holds = Holds(journal)
        self._workflows: Mapping[str, Workflow] = {}
        self._strategies: Mapping[str, Strategy] = {}
        self._packages: Mapping[str, str] = {}

    def set_specs(self, workflows: Mapping[str, Workflow], strategies: Mapping[str, Strategy], packages: Mapping[str, str]) -> None:
        """What is in force from now on."""
        self._workflows, self._strategies, self._packages = dict(workflows), dict(strategies), dict(packages)

    def look(self, strategy: str, target: str, actions: Sequence[Action]) -> World:
        """All that actions of a strategy ("" by hand) on `target` are judged by."""
        targets = {action.target for action in actions}
        snapshot = self.snapshot(strategy, target, targets)
        named = {Target.parse(one).workflow for one in targets}
        return World(
            workflows={name: self._workflows[name].model_dump(mode="json", by_alias=True) for name in sorted(named & set(self._workflows))},
            packages={name: self._packages[name] for name in sorted(named & set(self._packages))},
            registry={model: dict(self._registry(model)) for model in sorted(_models(actions, snapshot.states))},
            snapshot=snapshot,
        )

    def snapshot(self, strategy: str, target: str, targets: set[str]) -> Snapshot:
        """What the gate judges a strategy's changes of `targets` by."""
        return Snapshot(
            acted_at=tuple(self._state(f"acted/{strategy}/{target}") or ()),
            flights=tuple(self.flights()),
            states={one: self._observe(one) for one in sorted(targets)},
            demoted=str(self._state(f"demoted/{strategy}") or ""),
            freezes=self._freezes.at(self._clock.now()),
            held=self._holds.of(strategy, target) if strategy else (),
        )

    def flights(self) -> Iterator[Flight]:
        """The plans that have not ended."""
        for plan_id in self._plans.open_plans():
            progress = self._plans.load(plan_id)
            if progress is None or progress.status.phase in ENDED:
                continue
            plan = progress.status.plan
            strategy = self._strategies.get(plan.strategy)
            yield Flight(
                plan=plan_id,
                strategy=plan.strategy,
                targets=gate.targets_of(plan.changes),
                phase=progress.status.phase,
                priority=strategy.spec.priority if strategy else 100,
            )

    def with_pressing(self, world: World, proposal: Proposal) -> World:
        """The world with the other strategies that want more capacity where `proposal` cuts some."""
        targets = gate.targets_of(proposal.changes)
        pressing = [
            name
            for name, strategy in sorted(self._strategies.items())
            if name != proposal.strategy
            and _wants_more(strategy)
            # what fires per label value has no condition of its own
            and not any(label_of(spec) for spec in strategy.spec.readings.values())
            and any(overlap(strategy.spec.target, target) for target in targets)
            and self.holds(strategy, {})
        ]
        return world.model_copy(update={"snapshot": world.snapshot.model_copy(update={"pressing": tuple(pressing)})})

    def holds(self, strategy: Strategy, by: Mapping[str, str]) -> bool | None:
        """Whether a strategy's condition holds now; None where it is not known."""
        if strategy.spec.when is None:
            return False
        now = self._clock.now()
        readings = fill_again(strategy, self._readings(strategy.name, by), {}, now)
        return Condition.compile(strategy.spec.when, strategy.spec.readings).judge(readings)

    def _state(self, key: str) -> Any:
        return self._journal.states(key).get(key)


def cuts_capacity(proposal: Proposal, snapshot: Snapshot) -> bool:
    """Whether any of the changes would cut capacity."""
    return any(gate.cuts_capacity(change, snapshot) for change in proposal.changes)


def _models(actions: Sequence[Action], states: Mapping[str, State]) -> set[str]:
    """The registered models that actions name, or move between roles."""
    found: set[str] = set()
    for action in actions:
        found |= {model_name(value) for value in action.args.values() if isinstance(value, str)}
        state = states.get(action.target)
        if PRIMITIVES[action.primitive].moves_models and state is not None and state.service is not None:
            found |= {model_name(role.model) for role in state.service.roles.values()}
    return found - {""}


def _wants_more(strategy: Strategy) -> bool:
    return any(PRIMITIVES[action.primitive].wants_more(action.args) for action in strategy.spec.do)
