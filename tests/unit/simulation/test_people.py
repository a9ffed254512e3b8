"""What people say stands: freezes, rejections, reverts; and it is told whose word it was, and why."""

from collections.abc import Callable

import pytest

from autonomic.agents.planner.explain import explain
from autonomic.agents.planner.people import WORD
from autonomic.agents.simulation import Simulation
from autonomic.platforms.simulated import Load
from autonomic.primitives.people import Freeze
from autonomic.seams.decision import Action
from autonomic.seams.errors import Permanent
from autonomic.strategies.spec.strategy import Strategy

TARGET = "online/predictor"
WON = {
    "drifted_accuracy": "0.91",
    "champion_drifted_accuracy": "0.62",
    "clean_accuracy": "0.97",
    "champion_clean_accuracy": "0.98",
    "judge_trusted": "true",
}
BETTER = {"metric": "drifted_accuracy", "against": "champion_drifted_accuracy"}
MakeStrategy = Callable[..., Strategy]
Simulate = Callable[..., Simulation]


def wanted(simulation: Simulation) -> int:
    service = simulation.platform.observe(TARGET).service
    assert service is not None
    return service.roles["champion"].wanted


def champion(simulation: Simulation) -> str:
    return simulation.registry.aliases("mnist")["champion"].version


def frozen(simulation: Simulation, target: str = "", seconds: float | None = None) -> Freeze:
    now = simulation.clock.now()
    return Freeze(target=target, why="incident 7", by="ada", since=now, until=None if seconds is None else now + seconds)


def words(simulation: Simulation, decision: str) -> str:
    (record,) = [one for one in simulation.decisions() if one.id == decision]
    plan = simulation.runner.status(record.plan)
    said = [one.data for one in simulation.journal.latest(kinds=[WORD], subject=decision)]
    return explain(record, plan, said)["words"]


@pytest.mark.parametrize("target", ["", "online", TARGET])
def test_nothing_starts_while_a_freeze_holds_and_its_end_needs_nobody(target: str, strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(strategy(), load=Load(rate=30))
    simulation.engine.freeze(frozen(simulation, target, seconds=120))
    simulation.run(seconds=119)
    assert wanted(simulation) == 1
    refused = simulation.decisions("keep-latency")[-1]
    assert refused.verdict is not None
    assert "ada froze" in refused.verdict.why
    assert "until" in refused.verdict.why
    assert "incident 7" in words(simulation, refused.id)
    by_hand = simulation.engine.by_hand(Action(primitive="rescale", target=TARGET, args={"to": 3}))
    assert by_hand.verdict is not None
    assert by_hand.verdict.outcome == "refuse"
    simulation.run(seconds=60)
    assert wanted(simulation) > 1


def test_a_freeze_of_one_workflow_leaves_others_and_messages_alone(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(strategy("tells", do=[{"notify": {"message": "slow"}}], constraint=None), strategy(), load=Load(rate=300))
    simulation.engine.freeze(frozen(simulation, "training"))
    simulation.run(seconds=60)
    assert wanted(simulation) > 1
    simulation.engine.freeze(frozen(simulation))
    before = len(simulation.messages.changes)
    simulation.run(seconds=60)
    assert len(simulation.messages.changes) > before


def test_a_plan_that_runs_stops_before_its_next_effect_and_says_who_froze(strategy: MakeStrategy, simulate: Simulate) -> None:
    verify = {"that": "p99 < 0", "within": "60s", "else": "revert"}
    simulation = simulate(strategy(do=[{"reroute": {"backup": "10%"}}], verify=verify), load=Load(rate=30))
    simulation.run(seconds=30)
    (running,) = [status for status in simulation.plans() if status.phase == "verifying"]
    assert simulation.engine.freeze(frozen(simulation, "online")) == [running.plan.id]
    simulation.run(seconds=120)
    status = simulation.runner.status(running.plan.id)
    assert status is not None
    assert (status.phase, status.reverts) == ("cancelled", ())
    assert "ada froze online" in status.detail
    assert "incident 7" in words(simulation, running.plan.decision)


def test_a_freeze_is_lifted_once_and_by_its_own_target(simulate: Simulate) -> None:
    simulation = simulate()
    simulation.engine.freeze(frozen(simulation, "online"))
    assert simulation.engine.unfreeze("", "bob") is None
    assert simulation.engine.unfreeze("online", "bob", "over") is not None
    assert simulation.engine.unfreeze("online", "bob") is None
    assert simulation.engine.freezes() == ()


def test_a_plan_that_waits_is_one_decision_however_often_its_strategy_looks(strategy: MakeStrategy, simulate: Simulate) -> None:
    simulation = simulate(strategy(guard={}), load=Load(rate=30))
    simulation.run(seconds=150)
    assert len(simulation.engine.pending()) == 1
    assert len(simulation.decisions("keep-latency")) == 1


def test_what_was_rejected_comes_back_only_with_other_evidence(strategy: MakeStrategy, simulate: Simulate) -> None:
    load = Load(rate=[(0, 30), (300, 1), (500, 30)])
    simulation = simulate(strategy(guard={"cooldown": "20s"}, clear="p99 < 0.2"), load=load)
    simulation.run(seconds=60)
    ((plan, _),) = simulation.engine.pending()
    simulation.engine.reject(plan.id, "ada", "two are enough")
    with pytest.raises(Permanent, match="waits for approval"):
        simulation.engine.reject(plan.id, "ada", "again")
    assert "ada rejected it (two are enough)" in words(simulation, plan.decision)
    simulation.run(seconds=240)
    assert simulation.engine.pending() == []
    # that it is held back is told once
    (_, held) = simulation.decisions("keep-latency")
    assert held.verdict is not None
    assert "ada rejected" in held.verdict.why
    simulation.run(seconds=300)
    assert len(simulation.engine.pending()) == 1, "the condition ended and came back"


def test_a_promotion_that_a_person_reverted_waits_for_another_version(strategy: MakeStrategy, simulate: Simulate) -> None:
    judged = {"judged": {"mlflow": {"model": "mnist", "alias": "candidate", "metric": "drifted_accuracy"}}}
    promote = strategy(
        "promote", readings=judged, when="judged >= 0", for_="0s", do=[{"promote": BETTER}],
        guard={"autonomy": "auto", "cooldown": "5s"}, constraint=None, verify=None,
    )  # fmt: skip
    simulation = simulate(promote)
    simulation.registry.register("mnist", WON, "candidate")
    simulation.run(seconds=20)
    assert champion(simulation) == "3"
    (done,) = [status for status in simulation.plans() if status.plan.strategy == "promote"]
    simulation.engine.revert(done.plan.id, "ada", "complaints")
    simulation.run(seconds=300)
    assert champion(simulation) == "2"
    assert "ada reverted it (complaints)" in words(simulation, done.plan.decision)
    simulation.registry.register("mnist", WON, "candidate")
    simulation.run(seconds=20)
    assert champion(simulation) == "4"


def test_a_shadow_beside_a_live_strategy_says_what_it_would_have_done(strategy: MakeStrategy, simulate: Simulate) -> None:
    long = {"that": "p99 < 0", "within": "2m", "else": "keep"}
    simulation = simulate(
        strategy("live", verify=long, priority=90, constraint=None), strategy("shadow", guard={"autonomy": "shadow", "cooldown": "20s"}),
        load=Load(rate=30),
    )  # fmt: skip
    simulation.run(seconds=60)
    found = [record.verdict for record in simulation.decisions("shadow") if record.verdict is not None]
    assert {verdict.outcome for verdict in found} == {"log"}
    assert all("rescale the champion of online/predictor to" in verdict.why for verdict in found)
    # it keeps the pace that it would keep
    assert len(found) <= 4
