from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from autonomic.agents.planner.effects import perform
from autonomic.agents.planner.interpreter import (
    PATIENCE_SECONDS,
    Apply,
    Check,
    End,
    Judged,
    Lookup,
    Progress,
    Result,
    Revert,
    Unreachable,
    Wait,
    begin,
    cancel,
    next_step,
    record,
    resumed,
    revert_key,
    to_revert,
)
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.plan import Change, Outcome, Plan, VerifySpec
from autonomic.seams.runner import ENDED, PlanStatus

START = 1_700_000_000.0


def plan_of(changes: int, verify: VerifySpec | None = None) -> Plan:
    made = tuple(Change(key=f"k{number}", primitive="rescale", target="web/api", to={"replicas": number}) for number in range(changes))
    return Plan(id="p", decision="d", strategy="s", target="web/api", changes=made, verify=verify, created_at=START)


def outcome_of(key: str, status: str = "done", now: float = START) -> Outcome:
    return Outcome.model_validate(
        {"key": key, "primitive": "rescale", "target": "web/api", "status": status, "started_at": now, "finished_at": now}
    )


def advance(progress: Progress, result: Result, now: float) -> Progress:
    step = next_step(progress, now)
    assert step is not None
    return record(progress, step, result, now)


def test_a_plan_without_changes_ends_at_once() -> None:
    step = next_step(begin(plan_of(0), START), START)
    assert isinstance(step, End)
    assert step.phase == "kept"


def test_an_unanswered_effect_is_looked_up_before_it_is_tried_again() -> None:
    progress = advance(begin(plan_of(1), START), Unreachable(detail="away", delay_seconds=2.0), START)
    assert next_step(progress, START + 1) == Wait(until=START + 2)
    assert isinstance(next_step(progress, START + 2), Lookup)
    progress = advance(progress, None, START + 2)
    assert isinstance(next_step(progress, START + 2), Apply)


def test_a_lookup_that_finds_the_effect_replaces_it() -> None:
    progress = advance(begin(plan_of(1), START), Unreachable(detail="away"), START)
    progress = advance(progress, outcome_of("k0"), START + 1)
    assert [outcome.key for outcome in progress.status.outcomes] == ["k0"]
    assert isinstance(next_step(progress, START + 1), End)


def test_waits_grow_up_to_a_bound() -> None:
    progress, now, waits = begin(plan_of(1), START), START, []
    for _ in range(8):
        progress = advance(progress, Unreachable(detail="away", delay_seconds=1.0), now)
        waits.append(progress.not_before - now)
        now = progress.not_before
    assert waits == [1, 2, 4, 8, 15, 15, 15, 15]


def test_a_change_that_was_not_carried_out_in_its_time_is_given_up_and_not_tried() -> None:
    progress = advance(begin(plan_of(1), START), Unreachable(detail="away"), START)
    progress = advance(progress, None, START + PATIENCE_SECONDS + 1)
    assert progress.status.phase == "failed"
    assert "away" in progress.status.detail


def test_an_effect_of_unknown_fate_is_settled_before_a_cancel_ends_the_plan() -> None:
    progress = cancel(advance(begin(plan_of(2), START), Unreachable(detail="away", delay_seconds=60.0), START))
    assert isinstance(next_step(progress, START), Lookup)
    progress = advance(progress, outcome_of("k0"), START)
    step = next_step(progress, START)
    assert isinstance(step, End)
    assert step.phase == "cancelled"
    assert len(progress.status.outcomes) == 1


def test_what_was_unchanged_is_not_taken_back() -> None:
    progress = begin(plan_of(2, VerifySpec(that="x", within_seconds=0)), START)
    progress = advance(progress, outcome_of("k0", "unchanged"), START)
    progress = advance(progress, outcome_of("k1"), START)
    progress = advance(progress, Judged(holds=False), START)
    step = next_step(progress, START)
    assert isinstance(step, Revert)
    assert step.outcome.key == "k1"
    progress = advance(progress, outcome_of("k1.revert"), START)
    step = next_step(progress, START)
    assert isinstance(step, End)
    assert step.phase == "reverted"


def test_a_check_is_made_once_more_when_its_time_is_over() -> None:
    progress = advance(begin(plan_of(1, VerifySpec(that="x", within_seconds=10)), START), outcome_of("k0"), START)
    progress = advance(progress, Judged(holds=False), START + 9.9)
    step = next_step(progress, START + 9.9)
    assert step == Wait(until=START + 10)
    assert isinstance(next_step(progress, START + 10), Check)
    assert advance(progress, Judged(holds=True), START + 10).status.phase == "verified"


def test_nothing_to_take_back_after_a_missed_check_is_escalated() -> None:
    progress = advance(begin(plan_of(1, VerifySpec(that="x", within_seconds=0)), START), outcome_of("k0", "unchanged"), START)
    assert advance(progress, Unreachable(detail="the monitor is away"), START).status.phase == "escalated"


class _Effects:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def apply(self, plan: Plan, change: Change) -> Outcome:
        raise self.error

    def revert(self, plan: Plan, outcome: Outcome) -> Outcome:
        raise self.error

    def lookup(self, key: str, target: str, effector: str) -> Outcome | None:
        raise self.error

    def check(self, plan: Plan) -> Judged:
        raise self.error

    def progressed(self, before: PlanStatus, after: PlanStatus) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Retryable("away", 3.0), Unreachable(detail="away", delay_seconds=3.0)),
        (ValueError("bug"), Unreachable(detail="ValueError: bug", delay_seconds=5.0)),
    ],
)
def test_an_effect_that_raises_is_of_unknown_fate(error: Exception, expected: Unreachable) -> None:
    progress = begin(plan_of(1), START)
    assert perform(_Effects(error), progress, Apply(change=progress.status.plan.changes[0]), START) == expected


def test_an_error_that_will_not_pass_fails_the_change() -> None:
    progress = begin(plan_of(1), START)
    result = perform(_Effects(Permanent("no such effector")), progress, Apply(change=progress.status.plan.changes[0]), START)
    assert isinstance(result, Outcome)
    assert (result.status, result.detail) == ("failed", "no such effector")


class PlanMachine(RuleBasedStateMachine):
    """Any plan, against a world that fails in any way, with the runner crashing between an effect and its record."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.world: dict[str, Outcome] = {}
        self.tried: list[str] = []
        self.taken: list[Callable[[Progress], Progress]] = []
        self.progress: Progress | None = None

    @precondition(lambda self: self.progress is None)
    @rule(changes=st.integers(0, 4), within=st.sampled_from([None, 0.0, 5.0]), otherwise=st.sampled_from(["keep", "revert", "escalate"]))
    def start(self, changes: int, within: float | None, otherwise: str) -> None:
        verify = None if within is None else VerifySpec.model_validate({"that": "x", "within_seconds": within, "otherwise": otherwise})
        self.plan = plan_of(changes, verify)
        self.progress = begin(self.plan, START)

    @precondition(lambda self: self.progress is not None and self.progress.status.phase not in ENDED)
    @rule(
        fate=st.sampled_from(["done", "done", "done", "unchanged", "refused", "failed", "away", "answer lost", "crash"]),
        holds=st.sampled_from([True, False, None]),
        passes=st.floats(0, 20),
    )
    def step(self, fate: str, holds: bool | None, passes: float) -> None:
        assert self.progress is not None
        step = next_step(self.progress, self.now)
        assert step is not None
        result: Result = None
        match step:
            case Wait(until=until):
                assert until > self.now
                self.now = until
            case Check():
                result = Judged(holds=holds)
            case Lookup(key=key):
                result = Unreachable(detail="away") if fate == "away" else self.world.get(key)
            case Apply(change=change):
                result = self.effect(change.key, fate)
            case Revert(outcome=outcome):
                result = self.effect(revert_key(outcome.key), fate)
            case End():
                pass
        self.now += passes
        now = self.now
        self.take(resumed if fate == "crash" else lambda progress: record(progress, step, result, now))

    def take(self, move: Callable[[Progress], Progress]) -> None:
        assert self.progress is not None
        self.taken.append(move)
        self.progress = move(self.progress)

    def effect(self, key: str, fate: str) -> Result:
        if fate == "away":
            return Unreachable(detail="away")
        if key not in self.world:
            self.tried.append(key)
            status = "done" if fate in ("answer lost", "crash") else fate
            self.world[key] = outcome_of(key, status, self.now)
        return Unreachable(detail="answer lost") if fate == "answer lost" else self.world[key]

    @precondition(lambda self: self.progress is not None)
    @rule()
    def cancel(self) -> None:
        self.take(cancel)

    @precondition(lambda self: self.progress is not None)
    @rule()
    def restart(self) -> None:
        """What was written down reads back as the same, and a replay of the results comes to the same place."""
        assert self.progress is not None
        assert Progress.model_validate_json(self.progress.model_dump_json()) == self.progress
        replayed = begin(self.plan, START)
        for move in self.taken:
            replayed = move(replayed)
        assert replayed == self.progress

    @invariant()
    def no_effect_twice_and_all_in_order(self) -> None:
        if self.progress is None:
            return
        assert len(self.tried) == len(set(self.tried))
        forward = [key for key in self.tried if not key.endswith(".revert")]
        assert forward == [f"k{number}" for number in range(len(forward))]
        backward = [key for key in self.tried if key.endswith(".revert")]
        assert self.tried == [*forward, *backward]
        status = self.progress.status
        assert backward == [revert_key(outcome.key) for outcome in to_revert(status)][: len(backward)]

    @invariant()
    def the_end_says_what_was_done(self) -> None:
        if self.progress is None or self.progress.status.phase not in ENDED:
            return
        status = self.progress.status
        assert next_step(self.progress, self.now) is None
        done = [outcome for outcome in status.outcomes if outcome.status == "done"]
        if status.phase == "verified":
            assert len(status.outcomes) == len(self.plan.changes)
        if status.phase == "reverted":
            assert len(status.reverts) == len(done) > 0
            assert all(revert.status in ("done", "unchanged") for revert in status.reverts)
        if status.phase in ("failed", "refused", "escalated") and not status.reverts:
            assert status.phase == "escalated" or not done
        # nothing was done of which the record does not tell
        told = {outcome.key for outcome in (*status.outcomes, *status.reverts)}
        assert set(self.tried) == told


PlanMachine.TestCase.settings = settings(stateful_step_count=40, suppress_health_check=list(HealthCheck))
TestPlanMachine = PlanMachine.TestCase


@given(outages=st.lists(st.floats(0.0, 5.0), max_size=6), holds=st.booleans())
def test_every_plan_comes_to_an_end(outages: list[float], holds: bool) -> None:
    progress, now = begin(plan_of(2, VerifySpec(that="x", within_seconds=3)), START), START
    for _ in range(200):
        step = next_step(progress, now)
        if step is None:
            return
        result: Result = None
        if isinstance(step, Wait):
            now = step.until
        elif isinstance(step, Check):
            result = Judged(holds=holds)
        elif isinstance(step, Apply | Revert):
            key = step.change.key if isinstance(step, Apply) else revert_key(step.outcome.key)
            result = Unreachable(detail="away", delay_seconds=outages.pop()) if outages else outcome_of(key, now=now)
        progress = record(progress, step, result, now)
    raise AssertionError(progress)
