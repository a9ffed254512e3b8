"""A strategy whose plans are reverted again and again may only suggest."""

from autonomic.seams.journal import Journal, Record
from autonomic.seams.runner import PlanStatus

DEMOTED = "strategy.demoted"
REINSTATED = "strategy.reinstated"
REVERTS_BEFORE_DEMOTION = 3


class Demotion:
    """Counts reverts in the journal: state `reverts/NAME` are the plans reverted in a row, `demoted/NAME` says why."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def progressed(self, before: PlanStatus, after: PlanStatus, now: float) -> None:
        """Demotes a strategy whose plans were reverted three times in a row. May be told the same twice."""
        name = after.plan.strategy
        if before.phase == after.phase or not name:
            return
        if after.phase == "verified":
            with self._journal.transaction() as transaction:
                transaction.delete_state(f"reverts/{name}")
        if after.phase != "reverted":
            return
        with self._journal.transaction() as transaction:
            reverted: list[str] = transaction.state(f"reverts/{name}")[0] or []
            if after.plan.id in reverted:
                return
            reverted.append(after.plan.id)
            transaction.put_state(f"reverts/{name}", reverted)
            if len(reverted) >= REVERTS_BEFORE_DEMOTION and transaction.state(f"demoted/{name}")[0] is None:
                why = f"its last {len(reverted)} plans were reverted ({', '.join(reverted)})"
                transaction.put_state(f"demoted/{name}", why)
                data = {"strategy": name, "why": why, "message": f"{name} may only suggest from now on: {why}"}
                transaction.append(Record(time=now, kind=DEMOTED, subject=name, data=data))

    def reinstate(self, strategy: str, actor: str, why: str, now: float) -> bool:
        """Lets a strategy that demoted itself act again; False where it did not."""
        with self._journal.transaction() as transaction:
            demoted = transaction.state(f"demoted/{strategy}")[0] is not None
            transaction.delete_state(f"demoted/{strategy}")
            transaction.delete_state(f"reverts/{strategy}")
            if demoted:
                message = f"{actor or 'a person'} reinstated {strategy}{f': {why}' if why else ''}"
                transaction.append(Record(time=now, kind=REINSTATED, subject=strategy, data={"strategy": strategy, "message": message}))
        return demoted

    def demoted(self) -> dict[str, str]:
        """The strategies that demoted themselves, and why."""
        return {key.removeprefix("demoted/"): str(value) for key, value in self._journal.states("demoted/").items()}
