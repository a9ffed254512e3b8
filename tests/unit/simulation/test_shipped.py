"""Every strategy that is shipped for any platform acts in the situation that it is for, and keeps still in one in which it must not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from autonomic.agents.simulation import Simulation
from autonomic.platforms.simulated import Batch, Load
from autonomic.seams.decision import Action
from autonomic.strategies.validation import load_specs

ROOT = Path(__file__).parents[3]
TARGET = "mnist-online/predictor"
SPECS = load_specs([ROOT / "examples" / "mnist", ROOT / "examples" / "hello", ROOT / "strategies" / "library"])
JUDGED = {
    "drifted_accuracy": "0.91",
    "champion_drifted_accuracy": "0.62",
    "clean_accuracy": "0.97",
    "champion_clean_accuracy": "0.98",
    "judge_trusted": "true",
}
Arrange = Callable[[Simulation], Any]


class Case(NamedTuple):
    """A situation: the load, readings of its own, what is done first, how long it lasts, and what must have been done."""

    does: tuple[str, ...]
    load: Any = 7
    scripted: dict[str, Any] = {}
    arrange: Arrange = lambda simulation: None
    seconds: float = 120


def labelled(count: float, drifted: float = 1.0) -> dict[str, Any]:
    return {"drifted": lambda _: drifted, "labelled": lambda _: count}


def candidate(**tags: str) -> Arrange:
    return lambda simulation: simulation.registry.register("mnist", {**JUDGED, **tags}, "candidate")


def dies(simulation: Simulation) -> None:
    simulation.at(30, lambda: simulation.platform.kill(TARGET))


def by_hand(primitive: str, target: str, at: float = 1, **args: Any) -> Arrange:
    action = Action(primitive=primitive, target=target, args=args)
    return lambda simulation: simulation.at(at, lambda: simulation.engine.by_hand(action))


def silent(simulation: Simulation) -> None:
    simulation.engine.by_hand(Action(primitive="rescale", target=TARGET, args={"to": 3}))
    simulation.signal.silence(simulation.clock.now(), 1000)


SITUATIONS: dict[tuple[str, str], Case] = {
    ("keep-latency", "requests wait"): Case(("rescale",), load=[(0, 7), (30, 60)], seconds=60),
    ("keep-latency", "few requests"): Case(()),
    ("keep-latency", "there is no replica more"): Case((), load=400, arrange=by_hand("rescale", TARGET, 0, to=4), seconds=60),
    ("save-replicas", "more replicas than requests"): Case(("rescale",), arrange=by_hand("rescale", TARGET, to=3), seconds=40),
    ("save-replicas", "one is left"): Case(()),
    ("save-replicas", "nothing can be read"): Case((), arrange=silent),
    ("drift-retrain", "drift and enough labels"): Case(("retrain",), scripted=labelled(200)),
    ("drift-retrain", "too few labels"): Case((), scripted=labelled(50)),
    ("drift-retrain", "labels without drift"): Case((), scripted=labelled(500, drifted=0.0)),
    ("promote-better", "a better candidate"): Case(("promote", "upgrade"), arrange=candidate()),
    ("promote-better", "a worse candidate is only quarantined"): Case(("promote",), arrange=candidate(drifted_accuracy="0.5")),
    ("promote-better", "labels that nobody trusts"): Case(("promote",), arrange=candidate(judge_trusted="false")),
    ("promote-better", "no candidate"): Case(()),
    ("fail-over", "the champion is gone"): Case(("rescale", "notify"), arrange=dies, seconds=33),
    ("fail-over", "only the backup is gone"): Case(
        (), arrange=lambda simulation: simulation.at(30, lambda: simulation.platform.kill(TARGET, "backup"))
    ),
    ("fail-back", "the champion is back"): Case(("rescale", "notify"), arrange=by_hand("rescale", TARGET, role="backup", to=2)),
    ("fail-back", "the backup is as small as it was"): Case(()),
    ("hello-hourly", "it never ran"): Case(("run",), seconds=3700),
    ("hello-hourly", "a run is active"): Case((), arrange=by_hand("run", "hello", 3000), seconds=3700),
}


def test_every_strategy_is_seen_in_both() -> None:
    shipped = {strategy.name for strategy in SPECS.strategies}
    acting = {name for (name, _), case in SITUATIONS.items() if case.does}
    still = {name for (name, _), case in SITUATIONS.items() if not case.does}
    assert (acting, still) == (shipped, shipped)


@pytest.mark.parametrize(("name", "situation"), SITUATIONS)
def test_a_shipped_strategy_acts_where_it_should_and_only_there(name: str, situation: str) -> None:
    case = SITUATIONS[name, situation]
    strategies = [strategy for strategy in SPECS.strategies if strategy.name == name]
    simulation = Simulation(
        [*SPECS.workflows, *strategies],
        loads={TARGET: Load(rate=case.load, service_seconds=0.04, startup_seconds=4)},
        models={"mnist": {"backup": {}, "champion": {}}},
        batches={"hello": Batch(seconds=1800)},
        scripted={"drifted": lambda _: 0.0, "labelled": lambda _: 0.0, **case.scripted},
    )
    case.arrange(simulation)
    simulation.run(seconds=case.seconds)
    pending = [plan for plan, _ in simulation.engine.pending()]
    planned = [plan for plan in (*pending, *(status.plan for status in simulation.plans())) if plan.strategy == name]
    assert {change.primitive for plan in planned for change in plan.changes} == set(case.does)
    alive = {version.version for version in simulation.registry.aliases("mnist").values()}
    if name == "promote-better" and case.does == ("promote",):
        assert alive == {"1", "2"}
