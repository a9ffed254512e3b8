"""What people said, in the journal: freezes, proposals that they turned down, and who said what to a decision."""

from typing import Any

from autonomic.primitives.gate import Proposal, find_hold
from autonomic.primitives.people import Freeze, Hold
from autonomic.seams.decision import Verdict
from autonomic.seams.journal import Journal, Record, Transaction
from autonomic.seams.plan import Plan

FREEZE = "freeze"
WORD = "approval"
"""The kind of the records of what people said to a decision; its data names what: approved, rejected, cancelled or reverted."""
_FREEZE = "freeze/"
_HELD = "held/"
_KEPT_HOLDS = 20


class Freezes:
    """State `freeze/TARGET` is a freeze (`freeze/` the one of everything); records of kind "freeze" say who froze and lifted it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def at(self, now: float) -> tuple[Freeze, ...]:
        """The freezes in force, by target."""
        found = map(Freeze.model_validate, self._journal.states(_FREEZE).values())
        return tuple(sorted((one for one in found if one.holds(now)), key=lambda one: one.target))

    def put(self, freeze: Freeze) -> None:
        """Puts a freeze in force, in place of an earlier one of the same target."""
        with self._journal.transaction() as transaction:
            transaction.put_state(_FREEZE + freeze.target, freeze.model_dump(mode="json"))
            data = {**freeze.model_dump(mode="json"), "what": "frozen", "message": freeze.words()}
            transaction.append(Record(time=freeze.since, kind=FREEZE, subject=freeze.target, data=data))

    def lift(self, target: str, by: str, why: str, now: float) -> Freeze | None:
        """Ends the freeze of a target; None where none is in force."""
        with self._journal.transaction() as transaction:
            value = transaction.state(_FREEZE + target)[0]
            transaction.delete_state(_FREEZE + target)
            freeze = None if value is None else Freeze.model_validate(value)
            if freeze is None or not freeze.holds(now):
                return None
            message = f"{by} lifted the freeze of {target or 'everything'}{f': {why}' if why else ''}"
            data = {"target": target, "what": "lifted", "by": by, "why": why, "message": message}
            transaction.append(Record(time=now, kind=FREEZE, subject=target, data=data))
        return freeze


class Holds:
    """State `held/STRATEGY/TARGET` lists the strategy's proposals that people turned down, the newest last."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def of(self, strategy: str, target: str) -> tuple[Hold, ...]:
        """The holds of a strategy on a target."""
        key = _key(strategy, target)
        return tuple(map(Hold.model_validate, self._journal.states(key).get(key) or ()))

    def add(self, transaction: Transaction, strategy: str, target: str, hold: Hold) -> None:
        """Holds a proposal back."""
        key = _key(strategy, target)
        held: list[Any] = [*(transaction.state(key)[0] or []), hold.model_dump(mode="json")]
        transaction.put_state(key, held[-_KEPT_HOLDS:])

    def shown(self, transaction: Transaction, proposal: Proposal) -> bool:
        """Whether it is recorded already that this proposal is held back; from now on it is."""
        key = _key(proposal.strategy, proposal.target)
        held = tuple(map(Hold.model_validate, transaction.state(key)[0] or ()))
        found = find_hold(proposal, held)
        if found is None or found.shown:
            return found is not None
        now = [one.model_copy(update={"shown": True}) if one is found else one for one in held]
        transaction.put_state(key, [one.model_dump(mode="json") for one in now])
        return False


def said(transaction: Transaction, plan: Plan, what: str, actor: str, why: str, now: float, verdict: Verdict | None = None) -> None:
    """Records what a person said to the decision of a plan."""
    data: dict[str, Any] = {"plan": plan.id, "decision": plan.decision, "what": what, "actor": actor, "why": why}
    data["verdict"] = verdict.model_dump(mode="json") if verdict is not None else None
    transaction.append(Record(time=now, kind=WORD, subject=plan.decision, data=data))


def _key(strategy: str, target: str) -> str:
    return f"{_HELD}{strategy}/{target}"
