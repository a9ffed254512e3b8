"""What every `PlanRunner` keeps, whatever carries the plans out."""

import threading
import time
from collections.abc import Callable, Collection, Iterator

import pytest

from autonomic.agents.journal import SqlJournal
from autonomic.agents.planner.interpreter import Judged
from autonomic.agents.planner.runner import JournalRunner
from autonomic.primitives.base import revert_key
from autonomic.seams.clock import SystemClock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.plan import Change, Outcome, Plan, VerifySpec
from autonomic.seams.runner import ENDED, PlanRunner, PlanStatus

PATIENCE_SECONDS = 90.0


class World:
    """Effects that are remembered by key, with faults on demand."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.known: dict[str, Outcome] = {}
        self.faults: dict[str, list[Exception | str]] = {}
        self.holds: Callable[[], bool | None] = lambda: True
        self.gate_says = True
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.phases: list[str] = []

    def _effect(self, key: str, change: Change | Outcome) -> Outcome:
        if key in self.known:
            return self.known[key]
        fault = self.faults.get(key, [])
        trouble = fault.pop(0) if fault else None
        if trouble == "after":
            self._write(key, change, "done")
            raise Retryable("the answer was lost", 0.05)
        if isinstance(trouble, Exception):
            raise trouble
        return self._write(key, change, trouble or "done")

    def _write(self, key: str, change: Change | Outcome, status: str) -> Outcome:
        self.done.append(key)
        now = time.time()
        outcome = Outcome(key=key, primitive=change.primitive, target=change.target, status=status, started_at=now, finished_at=now)
        self.known[key] = outcome
        return outcome

    def apply(self, plan: Plan, change: Change) -> Outcome:
        self.entered.set()
        assert self.gate.wait(PATIENCE_SECONDS)
        return self._effect(change.key, change)

    def revert(self, plan: Plan, outcome: Outcome) -> Outcome:
        key = revert_key(outcome.key)
        if not self.gate_says:
            return outcome.model_copy(update={"key": key, "status": "refused", "detail": "the trigger still holds"})
        return self._effect(key, outcome)

    def lookup(self, key: str, target: str, effector: str) -> Outcome | None:
        return self.known.get(key)

    def check(self, plan: Plan) -> Judged:
        return Judged(holds=self.holds())

    def progressed(self, before: PlanStatus, after: PlanStatus) -> None:
        self.phases.append(after.phase)


class Bench:
    """A runner over a world, which can be stopped and opened again on the same files."""

    def __init__(self, journal_url: str) -> None:
        self.world = World()
        self._journal_url = journal_url
        self.open()

    def open(self) -> None:
        self.journal = SqlJournal(self._journal_url)
        self._threads: list[threading.Thread] = []
        runner = JournalRunner(self.journal, SystemClock(), self.world, self._submit)
        self.close_runner = runner.stop
        self.runner: PlanRunner = runner

    def _submit(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        self.close_runner()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        self.journal.close()

    def ended(self, plan: Plan, within: float = PATIENCE_SECONDS) -> PlanStatus:
        return self.reached(plan, ENDED, within)

    def reached(self, plan: Plan, phases: Collection[str], within: float = PATIENCE_SECONDS) -> PlanStatus:
        end = time.monotonic() + within
        while time.monotonic() < end:
            status = self.runner.status(plan.id)
            if status is not None and status.phase in phases:
                return status
            time.sleep(0.02)
        raise AssertionError(f"{plan.id} was not {', '.join(phases)} within {within} s: {self.runner.status(plan.id)}")


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Bench]:
    made = Bench(new_database(request.param))
    yield made
    made.world.gate.set()
    made.close()


def plan_of(name: str, changes: int = 2, verify: VerifySpec | None = None, created_at: float | None = None) -> Plan:
    made = tuple(
        Change(key=f"{name}-{number}", primitive="rescale", target="web/api", to={"replicas": number}) for number in range(changes)
    )
    return Plan(id=name, decision="d", strategy="s", target="web/api", changes=made, verify=verify, created_at=created_at or time.time())


def test_changes_are_carried_out_in_order_and_then_verified(bench: Bench) -> None:
    plan = plan_of("p", 3, VerifySpec(that="p99 < 1", within_seconds=600))
    bench.runner.start(plan)
    status = bench.ended(plan)
    assert status.phase == "verified"
    assert [outcome.key for outcome in status.outcomes] == bench.world.done == ["p-0", "p-1", "p-2"]


def test_a_plan_started_twice_runs_once(bench: Bench) -> None:
    plan = plan_of("p")
    bench.runner.start(plan)
    bench.runner.start(plan)
    bench.ended(plan)
    bench.runner.start(plan)
    time.sleep(0.2)
    assert bench.world.done == ["p-0", "p-1"]
    assert bench.runner.resume_all() == []


def test_the_condition_is_polled_until_it_holds(bench: Bench) -> None:
    answers = iter([False, None, True])
    bench.world.holds = lambda: next(answers)
    plan = plan_of("p", 1, VerifySpec(that="p99 < 1", within_seconds=600))
    bench.runner.start(plan)
    assert bench.ended(plan).phase == "verified"


@pytest.mark.parametrize(("otherwise", "phase"), [("keep", "kept"), ("escalate", "escalated"), ("revert", "reverted")])
def test_a_condition_that_never_holds_has_the_consequence_that_was_asked_for(bench: Bench, otherwise: str, phase: str) -> None:
    bench.world.holds = lambda: None
    plan = plan_of("p", 2, VerifySpec(that="p99 < 1", within_seconds=0.3, otherwise=otherwise))
    bench.runner.start(plan)
    status = bench.ended(plan)
    assert status.phase == phase
    reverted = ["p-1.revert", "p-0.revert"] if otherwise == "revert" else []
    assert bench.world.done == ["p-0", "p-1", *reverted]
    assert [outcome.key for outcome in status.reverts] == reverted


def test_a_revert_that_the_gate_forbids_is_escalated(bench: Bench) -> None:
    bench.world.holds = lambda: False
    bench.world.gate_says = False
    plan = plan_of("p", 2, VerifySpec(that="p99 < 1", within_seconds=0.2))
    bench.runner.start(plan)
    status = bench.ended(plan)
    assert status.phase == "escalated"
    assert "the trigger still holds" in status.detail
    assert bench.world.done == ["p-0", "p-1"]


def test_an_effector_that_is_away_is_asked_again_and_a_lost_answer_is_looked_up(bench: Bench) -> None:
    bench.world.faults = {"p-0": [Retryable("away", 0.05), Retryable("away", 0.05)], "p-1": ["after"]}
    plan = plan_of("p")
    bench.runner.start(plan)
    assert bench.ended(plan).phase == "kept"
    assert bench.world.done == ["p-0", "p-1"]


@pytest.mark.parametrize("status", ["refused", "failed"])
def test_a_first_change_that_does_not_go_through_ends_the_plan(bench: Bench, status: str) -> None:
    bench.world.faults = {"p-0": [status]}
    plan = plan_of("p")
    bench.runner.start(plan)
    assert bench.ended(plan).phase == status
    assert bench.world.done == ["p-0"]


def test_a_later_change_that_fails_takes_the_earlier_ones_back(bench: Bench) -> None:
    bench.world.faults = {"p-1": [Permanent("no such version")]}
    plan = plan_of("p")
    bench.runner.start(plan)
    status = bench.ended(plan)
    assert (status.phase, bench.world.done) == ("failed", ["p-0", "p-0.revert"])
    assert "no such version" in status.detail


def test_a_cancelled_plan_stops_before_its_next_effect(bench: Bench) -> None:
    bench.world.gate.clear()
    plan = plan_of("p", 3)
    threading.Thread(target=bench.runner.start, args=(plan,), daemon=True).start()
    assert bench.world.entered.wait(PATIENCE_SECONDS)
    canceller = threading.Thread(target=bench.runner.cancel, args=(plan.id,), daemon=True)
    canceller.start()
    canceller.join(10)
    bench.world.gate.set()
    status = bench.ended(plan)
    assert (status.phase, bench.world.done) == ("cancelled", ["p-0"])
    assert not bench.runner.cancel(plan.id)
    assert not bench.runner.cancel("unknown")


def test_a_wait_is_cut_short_by_cancel(bench: Bench) -> None:
    bench.world.holds = lambda: False
    plan = plan_of("p", 1, VerifySpec(that="p99 < 1", within_seconds=600))
    bench.runner.start(plan)
    bench.reached(plan, ["verifying"])
    bench.runner.cancel(plan.id)
    assert bench.ended(plan).phase == "cancelled"


def test_plans_go_on_where_they_were_after_a_stop(bench: Bench) -> None:
    bench.world.holds = lambda: False
    plans = [plan_of(f"p{number}", 2, VerifySpec(that="p99 < 1", within_seconds=600)) for number in range(3)]
    for plan in plans:
        bench.runner.start(plan)
    for plan in plans:
        bench.reached(plan, ["verifying"])
    bench.close()
    bench.world.holds = lambda: True
    bench.open()
    assert sorted(bench.runner.resume_all()) == ["p0", "p1", "p2"]
    assert {bench.ended(plan).phase for plan in plans} == {"verified"}
    assert sorted(bench.world.done) == sorted(change.key for plan in plans for change in plan.changes)
    assert bench.runner.resume_all() == []


def test_a_change_whose_time_is_over_is_not_carried_out(bench: Bench) -> None:
    plan = plan_of("p", created_at=time.time() - 3600)
    bench.runner.start(plan)
    assert bench.ended(plan).phase == "failed"
    assert bench.world.done == []


def test_an_unknown_plan_has_no_status(bench: Bench) -> None:
    assert bench.runner.status("unknown") is None


def test_plans_that_ended_long_ago_are_forgotten_and_others_kept(bench: Bench) -> None:
    old, young = plan_of("old"), plan_of("young")
    bench.runner.start(old)
    between = bench.ended(old).updated_at + 0.001
    waiting = plan_of("waiting", 1, VerifySpec(that="p99 < 1", within_seconds=600), created_at=old.created_at)
    bench.world.holds = lambda: False
    bench.runner.start(waiting)
    bench.reached(waiting, ["verifying"])
    bench.runner.start(young)
    bench.ended(young)
    bench.runner.forget(between)
    assert bench.runner.status("old") is None
    assert bench.ended(young).phase == "kept"
    bench.close()
    bench.open()
    # one that has not ended goes on, however old it is
    assert bench.runner.resume_all() == ["waiting"]
    bench.runner.forget(time.time() + 60)
    assert bench.runner.status("young") is None
    bench.world.holds = lambda: True
    assert bench.ended(waiting).phase == "verified"
    assert sorted(bench.world.done) == ["old-0", "old-1", "waiting-0", "young-0", "young-1"]
