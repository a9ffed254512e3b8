"""Every primitive on its whole way: it says what it would do, does it through gate and plan, and goes back or says that it cannot."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from autonomic.agents.simulation import Simulation
from autonomic.primitives.table import PRIMITIVES
from autonomic.seams.decision import Action
from autonomic.seams.errors import Permanent
from autonomic.seams.runner import PlanStatus

TARGET = "online/predictor"
JUDGED = {
    "drifted_accuracy": "0.9",
    "champion_drifted_accuracy": "0.6",
    "clean_accuracy": "0.97",
    "champion_clean_accuracy": "0.97",
    "judge_trusted": "true",
}
SPACE = {"metric": "accuracy", "space": {"points": {"choice": ["a", "b"]}}}
# primitive: (target, arguments, why it cannot be taken back, "" where it can)
CASES: dict[str, tuple[str, Mapping[str, Any], str]] = {
    "call": (TARGET, {"to": "https://example.org/hook", "type": "x.y"}, "a request that was sent"),
    "delete": ("online", {}, "the requests that came while it was away are lost"),
    "deploy": ("online", {}, ""),
    "notify": (TARGET, {"message": "look"}, "a message that was sent"),
    "promote": (TARGET, {"metric": "drifted_accuracy", "against": "champion_drifted_accuracy"}, ""),
    "reroute": (TARGET, {"backup": "20%"}, ""),
    "rescale": (TARGET, {"to": 3}, ""),
    "reschedule": (TARGET, {"avoid": {"node": "node1"}}, ""),
    "resize": (TARGET, {"times": {"cpu": 2}}, ""),
    "retrain": ("training", {"from": "models:/mnist@champion", "points": TARGET}, ""),
    "rollback": (TARGET, {}, ""),
    "run": ("training", {"parameters": {"points": "file:///p.db"}}, ""),
    "stop": ("training", {}, "a run that was stopped cannot go on"),
    "tune": ("training", SPACE, "a search changes nothing that could be put back"),
    "upgrade": (TARGET, {"champion": "models:/mnist/1"}, ""),
}


def look(simulation: Simulation) -> dict[str, Any]:
    """The simulated world as far as primitives change it, without what only counts upwards."""
    found = simulation.platform.observe(TARGET)
    state, resources = found.service, found.spec.get("resources", {})
    return {
        "shape": ({name: resources.get(name) for name in ("cpu", "memory", "gpu")}, found.spec.get("rescheduled")),
        "service": state and {"roles": {name: (one.model, one.wanted) for name, one in state.roles.items()}, "weights": state.weights},
        "runs": [run.status for run in simulation.platform.runs() if run.status == "running"],
        "aliases": {alias: version.version for alias, version in simulation.registry.aliases("mnist").items()},
        "quarantined": [simulation.registry.tags("mnist", version).get("quarantined", "") for version in ("1", "2", "3")],
        "sent": [change.primitive for change in (*simulation.messages.changes, *simulation.searches.changes)],
    }


def plan_of(simulation: Simulation, identifier: str) -> PlanStatus:
    found = simulation.runner.status(identifier)
    assert found is not None
    return found


def test_what_nobody_else_scales_is_not_retargeted(simulate: Callable[..., Simulation]) -> None:
    simulation = simulate()
    told = simulation.engine.by_hand(Action(primitive="retarget", target=TARGET, args={"to": 50}))
    assert told.plan == ""
    assert "is not scaled by a metric" in str(told.model_dump())


# nothing is adopted on the simulated platform
@pytest.mark.parametrize("name", sorted(set(PRIMITIVES) - {"retarget"}))
def test_it_says_what_it_would_do_does_it_and_goes_back_or_says_that_it_cannot(name: str, simulate: Callable[..., Simulation]) -> None:
    target, args, irreversible = CASES[name]
    simulation = simulate()
    simulation.registry.register("mnist", JUDGED, "candidate")
    if name == "stop":
        simulation.engine.by_hand(Action(primitive="run", target="training"))
    if name == "deploy":
        simulation.engine.by_hand(Action(primitive="delete", target="online"))
    before = look(simulation)
    action = Action(primitive=name, target=target, args=dict(args))

    told = simulation.engine.by_hand(action, dry_run=True)
    assert told.verdict is not None
    assert told.verdict.outcome == "log"
    assert told.considered
    assert all(told.considered)
    assert look(simulation) == before

    record = simulation.engine.by_hand(action)
    assert record.considered == told.considered or name in ("run", "retrain"), "what creates something names it after its plan"
    plan = plan_of(simulation, record.plan)
    assert plan.phase == "kept"
    assert [outcome.status for outcome in plan.outcomes] == ["done"] * len(plan.plan.changes)
    after = look(simulation)
    assert after != before

    if irreversible:
        assert not PRIMITIVES[name].reversible
        with pytest.raises(Permanent, match=irreversible):
            simulation.engine.revert(record.plan)
        assert look(simulation) == after
    else:
        assert PRIMITIVES[name].reversible
        back = simulation.engine.revert(record.plan)
        assert plan_of(simulation, back.plan).phase == "kept"
        assert look(simulation) == before


def test_doing_it_again_under_its_key_is_doing_it_once(simulate: Callable[..., Simulation]) -> None:
    for name, (target, args, _) in CASES.items():
        simulation = simulate()
        simulation.registry.register("mnist", JUDGED, "candidate")
        if name == "stop":
            simulation.engine.by_hand(Action(primitive="run", target="training"))
        if name == "deploy":
            simulation.engine.by_hand(Action(primitive="delete", target="online"))
        plan = plan_of(simulation, simulation.engine.by_hand(Action(primitive=name, target=target, args=dict(args))).plan)
        after = look(simulation)
        effectors = {"platform": simulation.platform, "registry": simulation.registry}
        effectors |= {"agents": simulation.messages, "tuner": simulation.searches}
        for change, outcome in zip(plan.plan.changes, plan.outcomes, strict=True):
            assert effectors[change.effector].apply(change, 1) == outcome
        assert look(simulation) == after, name
