"""Plans in the journal: how far each is, which are open, which shall stop."""

from collections.abc import Iterable
from typing import Any

from autonomic.agents.planner.interpreter import Progress, begin
from autonomic.seams.journal import Journal, Record, Transaction
from autonomic.seams.plan import Plan
from autonomic.seams.runner import ENDED, PlanStatus

_PLAN = "plan/"
_OPEN = "plan-open/"
_CANCEL = "plan-cancel/"
PLAN_RECORD = "plan"


class PlanStore:
    """State `plan/ID` is a plan's progress; a record of kind "plan" is written whenever its status changes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def open(self, transaction: Transaction, plan: Plan, now: float) -> bool:
        """Writes down a new plan in the caller's transaction; False where it was written down before."""
        if transaction.state(_PLAN + plan.id)[0] is not None:
            return False
        progress = begin(plan, now)
        transaction.put_state(_PLAN + plan.id, progress.model_dump(mode="json"))
        transaction.put_state(_OPEN + plan.id, True)
        transaction.append(Record(time=now, kind=PLAN_RECORD, subject=plan.id, data=summary(progress.status)))
        return True

    def put_away(self, transaction: Transaction, plan: Plan, detail: str, now: float) -> None:
        """Writes down a plan that a person turned down before it began, as one that was cancelled."""
        progress = begin(plan, now)
        status = progress.status.model_copy(update={"phase": "cancelled", "detail": detail})
        transaction.put_state(_PLAN + plan.id, progress.model_copy(update={"status": status}).model_dump(mode="json"))
        transaction.append(Record(time=now, kind=PLAN_RECORD, subject=plan.id, data=summary(status)))

    def load(self, plan_id: str) -> Progress | None:
        """A plan's progress, None where there is no such plan."""
        value = self._journal.states(_PLAN + plan_id).get(_PLAN + plan_id)
        return None if value is None else Progress.model_validate(value)

    def save(self, progress: Progress) -> bool:
        """Writes down how far a plan is; False where the journal knows it to be as far already."""
        status = progress.status
        with self._journal.transaction() as transaction:
            stored, _ = transaction.state(_PLAN + status.plan.id)
            if stored is not None and _is_further(stored, progress):
                return False
            value = progress.model_dump(mode="json")
            transaction.put_state(_PLAN + status.plan.id, value)
            if stored is None or stored["status"] != value["status"]:
                transaction.append(Record(time=status.updated_at, kind=PLAN_RECORD, subject=status.plan.id, data=summary(status)))
            if status.phase in ENDED:
                transaction.delete_state(_OPEN + status.plan.id)
                transaction.delete_state(_CANCEL + status.plan.id)
        return True

    def open_plans(self) -> list[str]:
        """The ids of all plans that have not ended."""
        return sorted(key.removeprefix(_OPEN) for key in self._journal.states(_OPEN))

    def all(self) -> list[PlanStatus]:
        """Every plan, the newest first."""
        found = [Progress.model_validate(value).status for value in self._journal.states(_PLAN).values()]
        return sorted(found, key=lambda status: (status.plan.created_at, status.plan.id), reverse=True)

    def ended_before(self, time: float) -> list[str]:
        """The ids of the plans that ended before then (seconds since the epoch)."""
        statuses = [value["status"] for value in self._journal.states(_PLAN).values()]
        return [status["plan"]["id"] for status in statuses if status["phase"] in ENDED and status["updated_at"] < time]

    def forget(self, plan_ids: Iterable[str]) -> None:
        """Forgets plans; their records stay."""
        with self._journal.transaction() as transaction:
            for plan_id in plan_ids:
                transaction.delete_state(_PLAN + plan_id)

    def cancel(self, plan_id: str, why: str = "") -> bool:
        """Notes that a plan shall stop, and why; False where it has ended or is unknown."""
        with self._journal.transaction() as transaction:
            if transaction.state(_OPEN + plan_id)[0] is None:
                return False
            transaction.put_state(_CANCEL + plan_id, why)
        return True

    def cancelled(self) -> dict[str, str]:
        """The plans that shall stop, and why."""
        return {key.removeprefix(_CANCEL): str(why) for key, why in self._journal.states(_CANCEL).items()}


def _is_further(stored: dict[str, Any], progress: Progress) -> bool:
    if stored["status"]["phase"] in ENDED:
        return True
    # an end counts whatever its number: a planner that lost the lease may have written more results
    return stored["sequence"] >= progress.sequence and progress.status.phase not in ENDED


def summary(status: PlanStatus) -> dict[str, Any]:
    """What a record tells of a plan."""
    done = [*status.outcomes, *status.reverts]
    return {
        "plan": status.plan.id,
        "decision": status.plan.decision,
        "strategy": status.plan.strategy,
        "target": status.plan.target,
        "phase": status.phase,
        "detail": status.detail,
        "changes": len(status.plan.changes),
        "outcomes": len(status.outcomes),
        "reverts": len(status.reverts),
        "last": done[-1].model_dump(mode="json") if done else None,
    }
