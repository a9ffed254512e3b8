"""Plans that wait for a person, and proposals that people turned down."""

from autonomic.agents.planner.judging import Inputs, Judged, judge
from autonomic.agents.planner.people import Holds
from autonomic.primitives.gate import Proposal
from autonomic.primitives.people import Hold, wanted
from autonomic.seams.errors import Permanent
from autonomic.seams.journal import Journal, Transaction
from autonomic.seams.plan import Plan

INPUTS = "decision.inputs"
_PENDING = "pending/"
_OF_PEOPLE = frozenset({"held back", "autonomy", "irreversible"})


class Suggestions:
    """State `pending/PLAN` is a plan that waits, with its proposal; `suggested/STRATEGY/TARGET` names the newest of a strategy."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._holds = Holds(journal)

    def all(self) -> list[tuple[Plan, Proposal]]:
        """The plans that wait for approval, by id."""
        found = self._journal.states(_PENDING).values()
        return [(Plan.model_validate(value["plan"]), Proposal.model_validate(value["proposal"])) for value in found]

    def waits(self, plan_id: str) -> bool:
        """Whether a plan waits for approval."""
        return _PENDING + plan_id in self._journal.states(_PENDING + plan_id)

    def get(self, plan_id: str) -> tuple[Plan, Proposal]:
        """A plan that waits, and what the gate judged.

        Raises:
            Permanent: no such plan waits.
        """
        value = self._journal.states(_PENDING + plan_id).get(_PENDING + plan_id)
        if value is None:
            raise Permanent(f"no plan {plan_id!r} waits for approval")
        return Plan.model_validate(value["plan"]), Proposal.model_validate(value["proposal"])

    def close(self, transaction: Transaction, plan_id: str) -> None:
        """Ends the waiting of a plan.

        Raises:
            Permanent: it does not wait any more.
        """
        if transaction.state(_PENDING + plan_id)[0] is None:
            raise Permanent(f"no plan {plan_id!r} waits for approval")
        transaction.delete_state(_PENDING + plan_id)

    def repeated(self, transaction: Transaction, judged: Judged, asks: bool) -> str | None:
        """The plan of a decision that only repeats what is recorded: it waits already, or is held back ("").

        None where the decision is to be recorded; where it `asks`, its plan waits from now on.
        """
        verdict, proposal = judged.record.verdict, judged.proposal
        if proposal is None or verdict is None:
            return None
        if asks and judged.plan is not None:
            waiting = self._ask(transaction, judged.plan, proposal)
            return waiting if waiting != judged.plan.id else None
        held = {guard.name for guard in verdict.guards if not guard.passed}
        return "" if "held back" in held and held <= _OF_PEOPLE and self._holds.shown(transaction, proposal) else None

    def hold(self, transaction: Transaction, plan: Plan, proposal: Proposal, what: str, actor: str, why: str, now: float) -> None:
        """Holds a strategy's proposal back until its evidence changes."""
        if not proposal.strategy:
            return
        changes = wanted(proposal.changes)
        hold = Hold(plan=plan.id, what=what, by=actor or "a person", why=why, at=now, changes=changes, evidence=proposal.evidence)
        self._holds.add(transaction, proposal.strategy, proposal.target, hold)

    def proposal(self, plan: Plan) -> Proposal | None:
        """The proposal that a strategy's plan was made of, judged again from its record; None where that is forgotten."""
        found = self._journal.latest(kinds=[INPUTS], subject=plan.decision, limit=1)
        return judge(Inputs.model_validate(found[0].data)).proposal if found else None

    def _ask(self, transaction: Transaction, plan: Plan, proposal: Proposal) -> str:
        """Makes a plan wait, in place of what its strategy suggested before; the same suggestion stays, with its id."""
        key = f"suggested/{proposal.strategy}/{proposal.target}"
        older = transaction.state(key)[0]
        if older is not None:
            waiting = transaction.state(_PENDING + older)[0]
            if waiting is not None and _same(Plan.model_validate(waiting["plan"]), plan):
                return str(older)
            transaction.delete_state(_PENDING + older)
        transaction.put_state(key, plan.id)
        value = {"plan": plan.model_dump(mode="json"), "proposal": proposal.model_dump(mode="json")}
        transaction.put_state(_PENDING + plan.id, value)
        return plan.id


def _same(one: Plan, other: Plan) -> bool:
    expected = [[change.expect for change in plan.changes] for plan in (one, other)]
    return wanted(one.changes) == wanted(other.changes) and expected[0] == expected[1]
