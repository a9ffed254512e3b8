"""Carrying out plans so that a crash loses none and repeats no effect."""

from typing import Literal, Protocol

from autonomic.seams.plan import Outcome, Plan
from autonomic.seams.word import Word

PlanPhase = Literal[
    "waiting", "applying", "verifying", "reverting", "kept", "verified", "reverted", "escalated", "failed", "refused", "cancelled"
]
ENDED: frozenset[str] = frozenset({"kept", "verified", "reverted", "escalated", "failed", "refused", "cancelled"})


class PlanStatus(Word):
    """How far a plan is."""

    plan: Plan
    phase: PlanPhase
    outcomes: tuple[Outcome, ...] = ()
    reverts: tuple[Outcome, ...] = ()
    detail: str = ""
    updated_at: float


class PlanRunner(Protocol):
    """Runs frozen plans."""

    def start(self, plan: Plan) -> None:
        """Starts `plan`; one that was started before is not started again."""
        ...

    def resume_all(self) -> list[str]:
        """Goes on with every plan that was not finished, and returns their ids."""
        ...

    def cancel(self, plan_id: str, why: str = "") -> bool:
        """Stops before the next effect, and gives `why` as the reason; False where the plan has ended or is unknown."""
        ...

    def status(self, plan_id: str) -> PlanStatus | None: ...

    def forget(self, before: float) -> None:
        """Forgets the plans that ended before then (seconds since the epoch)."""
        ...
