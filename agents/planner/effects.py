"""What a plan needs from the world, and the one place where errors of effects become results."""

import logging
from typing import Protocol

from autonomic.agents.planner.interpreter import Apply, Check, Judged, Lookup, Progress, Result, Revert, Unreachable, is_late
from autonomic.seams.errors import AutonomicError, Retryable
from autonomic.seams.plan import Change, Outcome, Plan
from autonomic.seams.runner import PlanStatus

log = logging.getLogger(__name__)


class Effects(Protocol):
    """The world as plans see it. Every method may raise `Retryable`: it could not be asked now."""

    def apply(self, plan: Plan, change: Change) -> Outcome:
        """Carries out a change, once for its key."""
        ...

    def revert(self, plan: Plan, outcome: Outcome) -> Outcome:
        """Asks the gate, then takes back `outcome` by a change with the key `revert_key(outcome.key)`.

        What the gate forbids, and what is irreversible, is an outcome with status "refused".
        """
        ...

    def lookup(self, key: str, target: str, effector: str) -> Outcome | None:
        """The outcome of a change; None where its key was never carried out."""
        ...

    def check(self, plan: Plan) -> Judged:
        """Judges the plan's condition on fresh readings."""
        ...

    def progressed(self, before: PlanStatus, after: PlanStatus) -> None:
        """A plan went on, and this is committed. May be called again after a crash."""
        ...


def perform(effects: Effects, progress: Progress, step: Apply | Revert | Lookup | Check, now: float) -> Result:
    """The result of a step; never raises."""
    plan = progress.status.plan
    try:
        match step:
            case Apply(change=change):
                if is_late(progress.status, now):
                    # a crash may lie between this step and its record: ask before giving up
                    return Unreachable(detail="its time is over", delay_seconds=0.0)
                return effects.apply(plan, change)
            case Revert(outcome=outcome):
                return effects.revert(plan, outcome)
            case Lookup():
                return effects.lookup(step.key, step.target, step.effector)
            case Check():
                return effects.check(plan)
    except Retryable as later:
        return Unreachable(detail=str(later), delay_seconds=later.delay_seconds)
    except AutonomicError as wrong:
        return _broken(step, str(wrong), now)
    except Exception as wrong:
        log.exception("plan %s: %s failed in an unexpected way", plan.id, type(step).__name__)
        return Unreachable(detail=f"{type(wrong).__name__}: {wrong}", delay_seconds=5.0)


def _broken(step: Apply | Revert | Lookup | Check, detail: str, now: float) -> Result:
    match step:
        case Apply(change=change):
            key, primitive, target = change.key, change.primitive, change.target
        case Revert(outcome=outcome):
            key, primitive, target = outcome.key, outcome.primitive, outcome.target
        case Lookup():
            return Unreachable(detail=detail, delay_seconds=5.0)
        case Check():
            return Judged(holds=None, detail=detail)
    return Outcome(key=key, primitive=primitive, target=target, status="failed", detail=detail, started_at=now, finished_at=now)
