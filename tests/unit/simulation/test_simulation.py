"""Strategies over virtual time, under the production evaluator, engine and plan runner."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from autonomic.agents.planner.demotion import DEMOTED
from autonomic.agents.simulation import Simulation
from autonomic.platforms.simulated import Batch, Load
from autonomic.seams.decision import Action, DecisionRecord
from autonomic.seams.errors import Permanent
from autonomic.strategies.spec.strategy import Strategy

TARGET = "online/predictor"
MakeStrategy = Callable[..., Strategy]
Simulate = Callable[..., Simulation]
SURGE = Load(rate=[(0, 8), (60, 48), (300, 8)])


def wanted(simulation: Simulation, role: str = "champion") -> int:
    service = simulation.platform.observe(TARGET).service
    assert service is not None
    return service.roles[role].wanted


def outcomes(simulation: Simulation, strategy: str) -> list[str]:
    return [record.verdict.outcome if record.verdict else "none" for record in simulation.decisions(strategy)]


def test_a_surge_is_scaled_out_and_verified(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(strategy(), load=SURGE)
    simulation.run(seconds=60)
    assert simulation.decisions("keep-latency") == []
    simulation.run(seconds=200)
    assert wanted(simulation) >= 3
    assert simulation.platform.service(TARGET).quantile(0.99, 15) <= 0.5
    assert "verified" in [plan.phase for plan in simulation.plans()]
    first = simulation.decisions("keep-latency")[0]
    assert first.changes[0].to == {"role": "champion", "replicas": 2}
    assert first.verdict is not None
    assert [guard.passed for guard in first.verdict.guards] == [True] * len(first.verdict.guards)


def test_a_surge_is_answered_the_same_way_each_time(strategy: MakeStrategy, simulate: Simulate) -> None:
    def run() -> list[DecisionRecord]:
        simulation = simulate(strategy(), load=SURGE)
        simulation.run(seconds=600)
        return simulation.decisions()

    first = run()
    assert [record.model_dump_json() for record in first] == [record.model_dump_json() for record in run()]


def test_nothing_is_done_while_nothing_is_wrong(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(strategy(), load=Load(rate=4))
    simulation.run(seconds=600)
    assert simulation.decisions("keep-latency") == []
    assert wanted(simulation) == 1


def test_silent_sources_hold_everything(strategy: MakeStrategy, simulate: Simulate) -> None:
    save = strategy("save", when="p99 < 0.2 && replicas > 1", do=[{"rescale": {"by": -1}}])
    simulation = simulate(strategy(), save, load=SURGE, replicas=1)
    simulation.run(seconds=150)
    grown = wanted(simulation)
    assert grown > 1
    before = len(simulation.decisions())
    simulation.signal.silence(simulation.clock.now(), 120)
    simulation.run(seconds=119)
    assert wanted(simulation) == grown
    assert len(simulation.decisions()) == before


def test_an_unreachable_platform_loses_nothing(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(strategy(), load=SURGE)
    simulation.at(61, lambda: simulation.platform.lose(30))
    simulation.run(seconds=90)
    assert [record.changes for record in simulation.decisions("keep-latency") if record.changes] == []
    simulation.run(seconds=60)
    assert wanted(simulation) > 1


@pytest.mark.parametrize(
    ("autonomy", "outcome", "replicas"), [("auto", "go", 2), ("suggest", "ask", 1), ("approve", "ask", 1), ("shadow", "log", 1)]
)
def test_autonomy_decides_who_acts(autonomy: str, outcome: str, replicas: int, strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(strategy(guard={"autonomy": autonomy}, constraint="replicas < 2"), load=Load(rate=30))
    simulation.run(seconds=60)
    assert outcomes(simulation, "keep-latency")[0] == outcome
    assert wanted(simulation) == replicas
    assert len(simulation.engine.pending()) == (1 if outcome == "ask" else 0)


def test_an_approval_starts_the_plan_that_was_shown(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(strategy(guard={}), load=Load(rate=30))
    simulation.run(seconds=60)
    ((plan, _),) = simulation.engine.pending()
    assert simulation.engine.approve(plan.id, "ada").outcome == "go"
    status = simulation.runner.status(plan.id)
    assert status is not None
    assert status.plan.changes == plan.changes
    assert wanted(simulation) == 2
    with pytest.raises(Permanent, match="waits for approval"):
        simulation.engine.approve(plan.id)


def test_a_person_may_take_longer_to_approve_than_an_effect_is_tried_for(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(strategy(guard={"cooldown": "2h"}), load=Load(rate=30))
    simulation.run(seconds=60)
    ((plan, _),) = simulation.engine.pending()
    simulation.clock.advance(600)
    assert simulation.engine.approve(plan.id).outcome == "go"
    status = simulation.runner.status(plan.id)
    assert status is not None
    assert [outcome.status for outcome in status.outcomes] == ["done"]


def test_a_suggestion_whose_target_moved_on_is_refused_by_the_platform(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(strategy(guard={"cooldown": "10m"}), load=Load(rate=30))
    simulation.run(seconds=60)
    ((plan, _),) = simulation.engine.pending()
    simulation.engine.by_hand(to(4))
    assert simulation.engine.approve(plan.id).outcome == "go"
    status = simulation.runner.status(plan.id)
    assert status is not None
    assert status.phase == "refused"
    assert wanted(simulation) == 4


def to(replicas: int) -> Action:
    return Action(primitive="rescale", target=TARGET, args={"to": replicas})


def test_cooldown_and_limit_bound_what_is_done(strategy: MakeStrategy, simulate: Simulate) -> None:
    guard = {"autonomy": "auto", "cooldown": "20s", "limit": "2/h"}
    simulation = simulate(strategy(guard=guard), load=Load(rate=100))
    simulation.run(seconds=300)
    assert outcomes(simulation, "keep-latency")[:3] == ["go", "go", "refuse"]
    assert wanted(simulation) == 3
    times = [record.time for record in simulation.decisions("keep-latency")]
    assert min(later - earlier for earlier, later in pairwise(times)) >= 20


def test_a_wrong_scale_in_is_reverted_and_after_three_the_strategy_only_suggests(strategy: MakeStrategy, simulate: Simulate) -> None:
    eager = strategy(
        "eager",
        when="replicas > 1 && p99 > 0",
        constraint=None,
        do=[{"rescale": {"by": -1}}],
        verify={"that": "p99 < 0.2", "after": "10s", "within": "30s", "else": "revert"},
        guard={"autonomy": "auto", "cooldown": "2m"},
    )
    simulation = simulate(eager, replicas=1, load=Load(rate=30))
    simulation.engine.by_hand(to(2))
    simulation.run(seconds=900)
    assert [plan.phase for plan in simulation.plans() if plan.plan.strategy] == ["reverted"] * 3
    assert "its last 3 plans were reverted" in simulation.engine.demoted()["eager"]
    assert simulation.journal.read(kinds=[DEMOTED])
    assert outcomes(simulation, "eager")[-1] == "ask"
    assert wanted(simulation) == 2
    simulation.engine.reinstate("eager")
    assert simulation.engine.demoted() == {}


def test_a_scale_out_that_does_not_help_is_not_taken_back_while_it_is_needed(strategy: MakeStrategy, simulate: Simulate) -> None:
    verify = {"that": "p99 <= 0.2", "within": "20s", "else": "revert"}
    simulation = simulate(strategy(verify=verify, guard={"autonomy": "auto", "cooldown": "10m"}), load=Load(rate=200))
    simulation.run(seconds=120)
    (plan,) = [plan for plan in simulation.plans() if plan.plan.strategy]
    assert plan.phase == "escalated"
    assert "would cut capacity while the trigger still holds" in plan.detail
    assert wanted(simulation) == 2


def test_scaling_in_waits_while_another_strategy_wants_more(strategy: MakeStrategy, simulate: Simulate) -> None:
    less = {"do": [{"rescale": {"by": -1}}], "verify": None, "constraint": None}
    save = strategy("save", when="replicas > 1", for_="0s", priority=90, **less)
    keep = strategy(guard={"autonomy": "shadow"})
    simulation = simulate(save, keep, load=Load(rate=100))
    simulation.run(seconds=30)
    simulation.engine.by_hand(to(2))
    simulation.run(seconds=30)
    record = simulation.decisions("save")[0]
    assert record.verdict is not None
    assert record.verdict.outcome == "refuse"
    assert "keep-latency wants more" in record.verdict.why
    assert wanted(simulation) == 2


def test_a_failed_effect_ends_the_plan_and_says_why(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(strategy(guard={"autonomy": "auto", "cooldown": "10m"}), load=Load(rate=30))
    simulation.platform.fail("rescale", "no room for another replica")
    simulation.run(seconds=60)
    (plan,) = [plan for plan in simulation.plans() if plan.plan.strategy]
    assert (plan.phase, wanted(simulation)) == ("failed", 1)
    assert "no room for another replica" in plan.detail


def test_an_event_that_comes_too_late_is_recorded_and_not_acted_on(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(strategy(), load=Load(rate=30))
    simulation.run(seconds=20)
    event = simulation.inputs()[simulation.decisions("keep-latency")[0].id].event
    simulation.run(seconds=60)
    record = simulation.engine.handle(event)
    assert "expired" in record.decision.why
    assert (record.verdict, record.plan) == (None, "")


def occupied(strategy: MakeStrategy, simulate: Simulate, **late: Any) -> Simulation:
    """A service whose replica is being verified, to 30 seconds from now, and an event for a strategy of lower priority."""
    once = {"on": {"call": True}, "when": None, "for_": "0s", "constraint": None, "verify": None, "priority": 40, **late}
    checks = strategy(
        "checks", verify={"that": "p99 > 100", "within": "30s", "else": "keep"}, priority=90, guard={"autonomy": "auto", "limit": "1/h"}
    )
    simulation = simulate(checks, strategy("late", **once), load=Load(rate=30))
    while not simulation.decisions("checks"):
        simulation.run(seconds=1)
    assert wanted(simulation) == 2
    assert simulation.plans()[-1].phase == "verifying"
    simulation.fire("late")
    return simulation


def test_an_event_that_will_not_come_again_waits_until_no_other_plan_changes_its_target(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = occupied(strategy, simulate, guard={"autonomy": "auto"}, expires="2m")
    simulation.run(seconds=25)
    assert simulation.decisions("late") == []
    assert wanted(simulation) == 2
    simulation.run(seconds=10)
    (record,) = simulation.decisions("late")
    assert "it had to wait" in record.considered[0]
    assert "of checks is verifying on online/predictor" in record.considered[0]
    assert wanted(simulation) == 3
    simulation.run(seconds=120)
    assert len(simulation.decisions("late")) == 1


def test_an_event_that_waits_in_vain_is_recorded_as_expired(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = occupied(strategy, simulate, guard={"autonomy": "auto"}, expires="10s")
    simulation.run(seconds=9)
    assert simulation.decisions("late") == []
    simulation.run(seconds=60)
    (record,) = simulation.decisions("late")
    assert "expired" in record.decision.why
    assert "it had to wait" in record.considered[0]
    assert wanted(simulation) == 2


def test_what_would_only_be_written_down_does_not_wait(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = occupied(strategy, simulate, guard={"autonomy": "shadow"}, expires="2m")
    assert outcomes(simulation, "late") == ["log"]
    simulation.run(seconds=120)
    assert outcomes(simulation, "late") == ["log"]


def test_an_event_of_an_unknown_strategy_is_recorded(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(strategy(), load=Load(rate=30))
    simulation.run(seconds=20)
    event = simulation.inputs()[simulation.decisions("keep-latency")[0].id].event
    record = simulation.engine.handle(event.model_copy(update={"strategy": "gone"}))
    assert record.decision.why == "no strategy 'gone' is in force"


def test_by_hand_a_dry_run_shows_and_leaves_no_trace(simulate: Simulate) -> None:
    simulation = simulate()
    before = len(simulation.decisions())
    record = simulation.engine.by_hand(to(3), dry_run=True)
    assert record.changes[0].to == {"role": "champion", "replicas": 3}
    assert record.verdict is not None
    assert record.verdict.outcome == "log"
    assert (wanted(simulation), len(simulation.decisions())) == (1, before)


def test_a_finished_plan_is_taken_back_by_hand_through_the_gate(simulate: Simulate) -> None:
    simulation = simulate()
    plan = simulation.engine.by_hand(to(3)).plan
    record = simulation.engine.revert(plan, "ada")
    assert record.verdict is not None
    assert record.verdict.outcome == "go"
    assert wanted(simulation) == 1
    assert simulation.plans()[-1].plan.reverts == plan
    with pytest.raises(Permanent, match="no plan"):
        simulation.engine.revert("plan-x")


GOOD = {
    "drifted_accuracy": "0.9",
    "champion_drifted_accuracy": "0.6",
    "clean_accuracy": "0.97",
    "champion_clean_accuracy": "0.97",
    "judge_trusted": "true",
}


BETTER = {"metric": "drifted_accuracy", "against": "champion_drifted_accuracy"}


@pytest.mark.parametrize(
    ("tags", "champion", "quarantined"),
    [
        (GOOD, "3", ""),
        ({**GOOD, "drifted_accuracy": "0.5"}, "2", "it must be higher"),
        ({**GOOD, "judge_trusted": "false"}, "2", "judge_trusted is 'false'"),
    ],
)
def test_drift_is_answered_by_retraining_and_only_a_better_model_goes_into_service(
    tags: dict[str, str], champion: str, quarantined: str, strategy: MakeStrategy, simulate: Simulate
) -> None:
    retrain = strategy(
        "retrain",
        readings={"drifted": {"drift": "drifted"}},
        when="drifted > 0",
        for_="0s",
        constraint=None,
        do=[{"retrain": {"from": "models:/mnist@champion", "points": TARGET}, "target": "training"}],
        verify=None,
        guard={"autonomy": "auto", "cooldown": "1h"},
    )
    promote = strategy(
        "promote",
        readings={"judged": {"mlflow": {"model": "mnist", "alias": "candidate", "metric": "drifted_accuracy"}}},
        when="judged >= 0",
        for_="0s",
        constraint=None,
        do=[{"promote": {**BETTER, "guards": [{"tag": "judge_trusted", "is": "true"}]}}],
        verify=None,
    )
    simulation: Simulation = simulate(
        retrain,
        promote,
        scripted={"drifted": lambda seconds: 1.0 if seconds > 30 else 0.0},
        batches={"training": Batch(seconds=60, outputs=lambda run: {"version": simulation.registry.register("mnist", tags, "candidate")})},
    )
    simulation.run(seconds=600)
    (run,) = simulation.platform.runs()
    assert (run.status, run.parameters) == ("succeeded", {"base_model": "models:/mnist/2", "points": TARGET})
    assert simulation.registry.aliases("mnist")["champion"].version == champion
    assert "candidate" not in simulation.registry.aliases("mnist")
    assert quarantined in simulation.registry.tags("mnist", "3").get("quarantined", "")
    service = simulation.platform.observe(TARGET).service
    assert service is not None
    assert service.roles["champion"].model == f"models:/mnist/{champion}"
    (decision,) = simulation.decisions("promote")
    assert decision.verdict is not None
    assert (decision.verdict.outcome == "refuse") == bool(quarantined)


def test_a_dead_champion_is_answered_by_the_backup(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(load=Load(rate=10, startup_seconds=20))
    simulation.run(seconds=30)
    queue = simulation.platform.service(TARGET)
    simulation.platform.kill(TARGET)
    lost = queue.lost
    simulation.run(seconds=10)
    simulation.platform.service(TARGET)
    assert queue.ready("champion") == 0
    assert queue.throughput(5, "backup") > 5
    simulation.run(seconds=30)
    simulation.platform.service(TARGET)
    assert queue.throughput(5, "backup") == 0
    assert queue.lost == lost


def test_cron_and_dates_come_at_their_times(strategy: MakeStrategy, simulate: Simulate) -> None:
    free = {"readings": {}, "when": None, "for_": "0s", "constraint": None, "verify": None, "guard": {"autonomy": "auto"}}
    tell = {"do": [{"notify": {"message": "now"}}], **free}
    cron = strategy("cron", on={"cron": "*/15 * * * *", "timezone": "Europe/Madrid"}, **tell)
    date = strategy("date", on={"at": "2023-11-14T22:30:00+00:00"}, **tell)
    called = strategy("called", on={"call": True}, **tell)
    simulation = simulate(cron, date, called)
    simulation.run(hours=1)
    assert len(simulation.decisions("cron")) == 4
    assert [record.time for record in simulation.decisions("date")] == [1_700_001_000.0]
    assert simulation.decisions("called") == []
    simulation.fire("called")
    assert len(simulation.decisions("called")) == 1
    assert len(simulation.messages.changes) == 6


def test_a_strategy_acts_for_each_label_value_that_all_its_readings_have(strategy: MakeStrategy, simulate: Simulate) -> None:
    readings = {name: {"promql": name, "by": "node"} for name in ("online", "batch")}
    tell = strategy(
        "per-node",
        readings=readings,
        when="online > 1 && batch > 1",
        for_="5s",
        constraint=None,
        verify=None,
        do=[{"notify": {"message": "${by.node} has ${reading.batch}"}}],
    )
    scripted = {"online": lambda _: {"a": 2.0, "b": 2.0, "c": 0.0}, "batch": lambda seconds: {"b": 2.0, "c": 2.0, "d": 2.0}}
    simulation = simulate(tell, scripted=scripted)
    simulation.run(seconds=15)
    assert [change.to["message"] for change in simulation.messages.changes] == ["b has 2.0"]
    assert simulation.decisions("per-node")[0].event["by"] == {"node": "b"}
