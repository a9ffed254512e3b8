"""What a plan does next: a pure state machine, the same under every runner.

A runner loops: `next_step` names the next step, the runner carries it out, `record` takes in what came of it. Given the
same results at the same times it goes the same way, so that a runner may replay what it recorded and go on from there.
"""

from typing import Literal

from autonomic.primitives.base import revert_key
from autonomic.seams.plan import Change, Outcome, Plan
from autonomic.seams.runner import ENDED, PlanPhase, PlanStatus
from autonomic.seams.word import Word

PATIENCE_SECONDS = 300.0
"""A change that could not be carried out for so long after its plan was made comes too late and is given up."""
MAX_BACKOFF_SECONDS = 15.0


class Progress(Word):
    """How far a plan is, with what the interpreter has to remember.

    `sequence` counts the results taken in. `uncertain`: an effect was asked for and nothing is known of it yet.
    `attempts` counts the unanswered ones; nothing is tried before `not_before` (seconds since the epoch).
    """

    status: PlanStatus
    sequence: int = 0
    attempts: int = 0
    uncertain: bool = False
    not_before: float = 0.0
    verify_until: float = 0.0
    cancelled: bool = False
    cancelled_because: str = ""
    # what the plan ends as once everything is reverted
    ends_as: Literal["reverted", "failed", "refused"] = "reverted"


class Apply(Word):
    """Carry out a change."""

    change: Change


class Revert(Word):
    """Ask the gate, and if it agrees take back what this outcome did."""

    outcome: Outcome


class Lookup(Word):
    """Ask what became of the change with this key."""

    key: str
    target: str
    effector: str


class Check(Word):
    """Judge the plan's condition on fresh readings."""


class Wait(Word):
    """Do nothing until then (seconds since the epoch), or until the plan is cancelled."""

    until: float


class End(Word):
    """The plan is over."""

    phase: PlanPhase
    detail: str


Step = Apply | Revert | Lookup | Check | Wait | End


class Unreachable(Word):
    """Nothing is known of an effect: its effector could not be asked."""

    detail: str
    delay_seconds: float = 1.0


class Judged(Word):
    """What a check said; None is unknown (a reading is missing)."""

    holds: bool | None
    detail: str = ""


Result = Outcome | Judged | Unreachable | None


def begin(plan: Plan, now: float) -> Progress:
    """A plan of which nothing was done yet."""
    return Progress(status=PlanStatus(plan=plan, phase="waiting", updated_at=now))


def cancel(progress: Progress, why: str = "") -> Progress:
    """The plan shall stop before its next effect."""
    return progress.model_copy(update={"cancelled": True, "cancelled_because": why})


def resumed(progress: Progress) -> Progress:
    """The plan after a crash, which may have come between an effect and its record: what came of it is asked first."""
    if progress.status.phase in ("waiting", "applying", "reverting"):
        return progress.model_copy(update={"uncertain": True})
    return progress


def to_revert(status: PlanStatus) -> list[Outcome]:
    """What the plan changed, in the order in which it is taken back."""
    return [outcome for outcome in reversed(status.outcomes) if outcome.status == "done"]


def poll_seconds(within_seconds: float) -> float:
    """How often the condition is looked at while there is time."""
    return min(2.0, max(0.2, within_seconds / 30))


def is_late(status: PlanStatus, now: float) -> bool:
    """Whether the world has moved on so far that the next change must not be tried any more."""
    since = status.outcomes[-1].finished_at if status.outcomes else status.plan.created_at
    return now - since > PATIENCE_SECONDS


def next_step(progress: Progress, now: float) -> Step | None:
    """The next step at the time `now`; None where the plan is over."""
    status = progress.status
    if status.phase in ENDED:
        return None
    if status.phase == "verifying":
        return _next_of_verifying(progress, now)
    if status.phase == "reverting":
        remaining = to_revert(status)[len(status.reverts) :]
        if not remaining:
            return End(phase=progress.ends_as, detail=status.detail)
        effect: Apply | Revert = Revert(outcome=remaining[0])
        key, target = revert_key(remaining[0].key), remaining[0].target
        effector = next(change.effector for change in status.plan.changes if change.key == remaining[0].key)
    elif len(status.outcomes) == len(status.plan.changes):
        return End(phase="kept", detail="no check was asked for" if status.outcomes else "there was nothing to change")
    else:
        change = status.plan.changes[len(status.outcomes)]
        effect, key, target, effector = Apply(change=change), change.key, change.target, change.effector
    if progress.uncertain:
        if now < progress.not_before and not progress.cancelled:
            return Wait(until=progress.not_before)
        return Lookup(key=key, target=target, effector=effector)
    if progress.cancelled:
        why = progress.cancelled_because or "it was cancelled"
        return End(phase="cancelled", detail=f"{why}; what was done stays" if status.outcomes else f"{why}; nothing was done before")
    return effect


def _next_of_verifying(progress: Progress, now: float) -> Step:
    if progress.cancelled:
        why = progress.cancelled_because or "it was cancelled"
        return End(phase="cancelled", detail=f"{why}; it was not verified yet, and what was done stays")
    if now < progress.not_before:
        return Wait(until=progress.not_before)
    return Check()


def record(progress: Progress, step: Step, result: Result, now: float) -> Progress:
    """The progress after `step` gave `result` at the time `now`."""
    status = progress.status
    after = progress.model_copy(update={"sequence": progress.sequence + 1})
    if isinstance(step, Wait):
        return after
    if isinstance(step, End):
        return _moved(after, now, phase=step.phase, detail=step.detail)
    if isinstance(step, Check):
        return _checked(after, result, now)
    if isinstance(result, Unreachable):
        delay = min(MAX_BACKOFF_SECONDS, max(0.05, result.delay_seconds) * 2 ** min(progress.attempts, 10))
        waiting = after.model_copy(update={"uncertain": True, "attempts": progress.attempts + 1, "not_before": now + delay})
        phase: PlanPhase = "applying" if status.phase == "waiting" else status.phase
        return _moved(waiting, now, phase=phase, detail=status.detail if phase == "reverting" else result.detail)
    if isinstance(result, Outcome):
        known = after.model_copy(update={"uncertain": False, "attempts": 0})
        return _reverted(known, result, now) if status.phase == "reverting" else _applied(known, result, now)
    # a lookup that found nothing: the effect was never carried out, so it may be tried, if it is not too late for it
    certain = after.model_copy(update={"uncertain": False})
    if status.phase != "reverting" and is_late(status, now):
        change = status.plan.changes[len(status.outcomes)]
        return _give_up(
            certain,
            "failed",
            f"{change.primitive} of {change.target} could not be carried out for {PATIENCE_SECONDS:g} s: {status.detail}",
            now,
        )
    return certain


def _moved(progress: Progress, now: float, **changes: object) -> Progress:
    return progress.model_copy(update={"status": progress.status.model_copy(update={"updated_at": now, **changes})})


def _applied(progress: Progress, outcome: Outcome, now: float) -> Progress:
    status = progress.status
    outcomes = (*status.outcomes, outcome)
    progress = _moved(progress, now, phase="applying", outcomes=outcomes, detail="")
    if outcome.status in ("refused", "failed"):
        return _give_up(progress, outcome.status, f"{outcome.primitive} of {outcome.target} was {outcome.status}: {outcome.detail}", now)
    verify = status.plan.verify
    if len(outcomes) == len(status.plan.changes) and verify is not None:
        times = {"verify_until": now + verify.within_seconds, "not_before": now + min(verify.after_seconds, verify.within_seconds)}
        return _moved(progress.model_copy(update=times), now, phase="verifying")
    return progress


def _give_up(progress: Progress, ends_as: Literal["failed", "refused"], detail: str, now: float) -> Progress:
    if not to_revert(progress.status):
        return _moved(progress, now, phase=ends_as, detail=detail)
    return _moved(progress.model_copy(update={"ends_as": ends_as}), now, phase="reverting", detail=detail)


def _checked(progress: Progress, result: Result, now: float) -> Progress:
    status, verify = progress.status, progress.status.plan.verify
    assert verify is not None, "only a plan with a check is verified"
    holds = result.holds if isinstance(result, Judged) else None
    said = result.detail if isinstance(result, Judged | Unreachable) else ""
    if holds:
        return _moved(progress, now, phase="verified", detail=said or f"{verify.that} holds")
    if now < progress.verify_until:
        return progress.model_copy(update={"not_before": min(progress.verify_until, now + poll_seconds(verify.within_seconds))})
    missed = f"{verify.that} did not become true within {verify.within_seconds:g} s" + (f" ({said})" if said else "")
    if verify.otherwise == "keep":
        return _moved(progress, now, phase="kept", detail=missed)
    if verify.otherwise == "escalate":
        return _moved(progress, now, phase="escalated", detail=missed)
    if not to_revert(status):
        return _moved(progress, now, phase="escalated", detail=f"{missed}; there is nothing to take back")
    return _moved(progress, now, phase="reverting", detail=missed)


def _reverted(progress: Progress, outcome: Outcome, now: float) -> Progress:
    status = progress.status
    progress = _moved(progress, now, reverts=(*status.reverts, outcome))
    if outcome.status in ("refused", "failed"):
        what = f"taking back {outcome.primitive} of {outcome.target} was {outcome.status}: {outcome.detail}"
        return _moved(progress, now, phase="escalated", detail=f"{status.detail}; {what}")
    return progress
