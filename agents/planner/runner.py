"""Plans carried out by a small state machine whose state is in the journal."""

import threading
from collections.abc import Callable

from autonomic.agents.planner.effects import Effects, perform
from autonomic.agents.planner.interpreter import Apply, Check, End, Lookup, Progress, Revert, Wait, cancel, next_step, record, resumed
from autonomic.agents.planner.plan_store import PlanStore
from autonomic.seams.clock import Clock
from autonomic.seams.journal import Journal
from autonomic.seams.plan import Plan
from autonomic.seams.runner import PlanStatus

Submit = Callable[[Callable[[], None]], object]


def at_once(function: Callable[[], None]) -> None:
    """Carries out in the caller's thread, as simulations want it."""
    function()


class JournalRunner:
    """A `PlanRunner`. Each result is committed before the next step; waits are alarms of the clock and hold no thread.

    `submit` takes the work of one plan up to its next wait: a thread pool's, or `at_once`.
    """

    def __init__(self, journal: Journal, clock: Clock, effects: Effects, submit: Submit = at_once) -> None:
        self._store = PlanStore(journal)
        self._journal = journal
        self._clock = clock
        self._effects = effects
        self._submit = submit
        self._lock = threading.Lock()
        self._running: dict[str, threading.Lock] = {}
        self._cancelled: dict[str, str] = {}
        self._stopped = False

    def start(self, plan: Plan) -> None:
        with self._journal.transaction() as transaction:
            self._store.open(transaction, plan, self._clock.now())
        self._go_on(plan.id)

    def resume_all(self) -> list[str]:
        plans = self._store.open_plans()
        self._cancelled |= self._store.cancelled()
        for plan_id in plans:
            self._go_on(plan_id, after_crash=True)
        return plans

    def cancel(self, plan_id: str, why: str = "") -> bool:
        if not self._store.cancel(plan_id, why):
            return False
        self._cancelled[plan_id] = why
        self._submit(lambda: self._drive(plan_id))
        return True

    def status(self, plan_id: str) -> PlanStatus | None:
        progress = self._store.load(plan_id)
        return progress.status if progress else None

    def forget(self, before: float) -> None:
        self._store.forget(self._store.ended_before(before))

    def stop(self) -> None:
        """Starts no further step; what is open goes on with the next `resume_all`."""
        self._stopped = True

    def _go_on(self, plan_id: str, *, after_crash: bool = False) -> None:
        with self._lock:
            if plan_id in self._running:
                return
            self._running[plan_id] = threading.Lock()
        self._submit(lambda: self._drive(plan_id, after_crash))

    def _drive(self, plan_id: str, after_crash: bool = False) -> None:
        with self._lock:
            own = self._running.get(plan_id)
        # an alarm may go off after the stop, when the journal may be closed
        if own is None or self._stopped:
            return
        with own:
            progress = self._store.load(plan_id)
            if after_crash and progress is not None:
                progress = resumed(progress)
            while progress is not None and not self._stopped:
                if plan_id in self._cancelled:
                    progress = cancel(progress, self._cancelled[plan_id])
                now = self._clock.now()
                step = next_step(progress, now)
                if step is None:
                    with self._lock:
                        self._running.pop(plan_id, None)
                        self._cancelled.pop(plan_id, None)
                    return
                if isinstance(step, Wait):
                    self._clock.call_at(step.until, self._driving(plan_id))
                    return
                progress = self._take(progress, step, now)

    def _driving(self, plan_id: str) -> Callable[[], None]:
        def alarm() -> None:
            self._submit(lambda: self._drive(plan_id))

        return alarm

    def _take(self, progress: Progress, step: Apply | Revert | Lookup | Check | End, now: float) -> Progress:
        result = None if isinstance(step, End) else perform(self._effects, progress, step, now)
        after = record(progress, step, result, self._clock.now())
        if isinstance(step, Check) and after.status == progress.status:
            # nothing that a restart needs: it would look again at once
            return after
        self._store.save(after)
        self._effects.progressed(progress.status, after.status)
        return after
