from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.primitives.gate import GUARDS, Flight, Proposal, Snapshot, judge
from autonomic.seams.plan import Change
from autonomic.seams.state import RoleState, ServiceState, State

NOW = 1000.0
TARGET = "online/predictor"


def change(primitive: str = "rescale", target: str = TARGET, **to: Any) -> Change:
    effector: Any = "agents" if primitive in ("notify", "call") else "platform"
    return Change(key="p.0", primitive=primitive, target=target, effector=effector, to=to or {"role": "champion", "replicas": 3})


def proposal(*changes: Change, **fields: Any) -> Proposal:
    given: dict[str, Any] = {"strategy": "keep-latency", "target": TARGET, "observed_at": NOW, **fields}
    return Proposal(changes=changes or (change(),), **given)


def snapshot(wanted: int = 2, **fields: Any) -> Snapshot:
    service = ServiceState(
        roles={"champion": RoleState(model="m", wanted=wanted, ready=wanted)}, weights={"champion": 100}, min_replicas=1, max_replicas=4
    )
    return Snapshot(states={TARGET: State(target=TARGET, kind="online", service=service)}, **fields)


def failed(asked: Proposal, seen: Snapshot | None = None) -> tuple[str, list[str]]:
    verdict = judge(asked, seen or snapshot(), NOW)
    return verdict.outcome, [guard.name for guard in verdict.guards if not guard.passed]


def test_all_guards_are_told_in_their_order() -> None:
    verdict = judge(proposal(), snapshot(), NOW)
    assert verdict.outcome == "go"
    assert [guard.name for guard in verdict.guards] == list(GUARDS)


@pytest.mark.parametrize(("autonomy", "outcome"), [("auto", "go"), ("approve", "ask"), ("suggest", "ask"), ("shadow", "log")])
def test_the_autonomy_level_decides_who_acts(autonomy: str, outcome: str) -> None:
    assert failed(proposal(autonomy=autonomy))[0] == outcome
    assert failed(proposal(autonomy=autonomy, strategy=""))[0] == "go"


def test_an_approval_lets_a_suggestion_pass_but_not_a_shadow() -> None:
    assert failed(proposal(autonomy="suggest", approved=True)) == ("go", [])
    assert failed(proposal(autonomy="shadow", approved=True)) == ("log", ["autonomy"])


def test_a_demoted_strategy_asks() -> None:
    assert failed(proposal(), snapshot(demoted="its plans were reverted")) == ("ask", ["autonomy"])


def test_a_dry_run_is_only_recorded() -> None:
    assert failed(proposal(dry_run=True)) == ("log", ["dry run"])


def test_the_cooldown_counts_from_event_to_event() -> None:
    seen = snapshot(acted_at=(NOW - 30,))
    assert failed(proposal(cooldown_seconds=30.0), seen) == ("go", [])
    assert failed(proposal(cooldown_seconds=31.0), seen) == ("refuse", ["cooldown"])
    assert failed(proposal(cooldown_seconds=31.0, strategy=""), seen) == ("go", [])


def test_the_rate_is_limited_over_its_own_time() -> None:
    seen = snapshot(acted_at=(NOW - 3700, NOW - 50, NOW - 20))
    assert failed(proposal(limit=(3, 3600.0)), seen) == ("go", [])
    assert failed(proposal(limit=(2, 3600.0)), seen) == ("refuse", ["rate limit"])


def flight(**fields: Any) -> Snapshot:
    given: dict[str, Any] = {"plan": "plan-0", "strategy": "other", "targets": (TARGET,), "phase": "applying", "priority": 50, **fields}
    return snapshot(flights=(Flight(**given),))


@pytest.mark.parametrize("target", [TARGET, "online"])
def test_two_plans_do_not_change_one_target(target: str) -> None:
    assert failed(proposal(), flight(targets=(target,))) == ("refuse", ["conflict"])


def test_other_targets_and_messages_do_not_conflict() -> None:
    assert failed(proposal(), flight(targets=("online/other", "onlineb"))) == ("go", [])
    assert failed(proposal(change("notify", message="x")), flight()) == ("go", [])


def test_a_plan_that_waits_for_its_check_gives_way_to_its_own_strategy_and_to_a_higher_priority() -> None:
    assert failed(proposal(), flight(phase="verifying")) == ("refuse", ["conflict"])
    assert failed(proposal(), flight(phase="verifying", strategy="keep-latency")) == ("go", [])
    assert failed(proposal(priority=60), flight(phase="verifying")) == ("go", [])
    assert failed(proposal(priority=60), flight(phase="reverting")) == ("refuse", ["conflict"])


def test_substituted_readings_never_scale_in_retrain_or_promote() -> None:
    assert failed(proposal(substituted=("p99",))) == ("go", [])
    for risky in (change(role="champion", replicas=1), change("retrain"), change("promote")):
        assert failed(proposal(risky, substituted=("p99",))) == ("refuse", ["substitutes"])


def test_capacity_is_not_cut_while_another_strategy_wants_more() -> None:
    seen = snapshot(pressing=("keep-latency",))
    assert failed(proposal(change(role="champion", replicas=1), strategy="save"), seen) == ("refuse", ["capacity"])
    assert failed(proposal(change(role="champion", replicas=3), strategy="save"), seen) == ("go", [])


@pytest.mark.parametrize(("holds", "outcome"), [(True, "refuse"), (None, "refuse"), (False, "go")])
def test_a_revert_does_not_cut_capacity_while_its_trigger_holds_or_is_unknown(holds: bool | None, outcome: str) -> None:
    assert failed(proposal(change(role="champion", replicas=1), reverts="plan-1", holds=holds))[0] == outcome
    assert failed(proposal(change(role="champion", replicas=3), reverts="plan-1", holds=holds)) == ("go", [])


def test_a_revert_needs_no_second_permission_but_meets_other_plans() -> None:
    asked = proposal(reverts="plan-0", autonomy="suggest", cooldown_seconds=60.0, limit=(1, 60.0), holds=True)
    assert failed(asked, snapshot(acted_at=(NOW,))) == ("go", [])
    assert failed(asked, flight()) == ("go", [])
    assert failed(asked, flight(plan="plan-9")) == ("refuse", ["conflict"])


def test_what_cannot_be_taken_back_waits_for_a_person() -> None:
    stop = change("stop", "training", run_ids=["a"])
    assert failed(proposal(stop)) == ("ask", ["irreversible"])
    assert failed(proposal(stop, approved=True)) == ("go", [])
    assert failed(proposal(stop, strategy="")) == ("go", [])
    assert failed(proposal(change("notify", message="x"))) == ("go", [])


def test_the_strictest_answer_counts() -> None:
    asked = proposal(change("delete", "online"), autonomy="suggest", cooldown_seconds=60.0, dry_run=True)
    outcome, names = failed(asked, snapshot(acted_at=(NOW,)))
    assert outcome == "refuse"
    assert names == ["autonomy", "dry run", "cooldown", "irreversible"]


@given(
    st.integers(0, 6),
    st.integers(0, 6),
    st.sampled_from([True, False, None]),
    st.sampled_from(["auto", "suggest", "approve", "shadow"]),
    st.booleans(),
)
def test_no_revert_ever_cuts_capacity_while_the_trigger_holds(
    wanted: int, replicas: int, holds: bool | None, autonomy: str, hand: bool
) -> None:
    asked = proposal(
        change(role="champion", replicas=replicas),
        reverts="plan-1",
        holds=holds,
        autonomy=autonomy,
        strategy="" if hand else "keep-latency",
    )
    verdict = judge(asked, snapshot(wanted), NOW)
    assert (verdict.outcome == "go") == (replicas >= wanted or holds is False)
    assert verdict == judge(asked, snapshot(wanted), NOW)
