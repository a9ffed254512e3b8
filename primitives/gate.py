"""The gate: the one door to every action. Pure: all that it judges by comes in a proposal and a snapshot.

Each guard is a function in `GUARDS`; all are asked, so that a decision can be explained, and the strictest answer counts:
refuse, then log, then ask, then go. A revert passes the gate like any action; what its plan was granted already
(autonomy, cooldown, rate) is not asked again.
"""

from collections.abc import Callable
from typing import Any, Literal

from autonomic.primitives.base import Primitive
from autonomic.primitives.people import Freeze, Hold, overlap, wanted
from autonomic.primitives.table import PRIMITIVES
from autonomic.seams.decision import Autonomy, Guard, Verdict
from autonomic.seams.plan import Change
from autonomic.seams.runner import PlanPhase
from autonomic.seams.state import State
from autonomic.seams.word import Word

Answer = Literal["go", "ask", "log", "refuse"]
_STRICTNESS: tuple[Answer, ...] = ("go", "ask", "log", "refuse")


class Proposal(Word):
    """What is to be done, and how freely its strategy may act.

    `strategy` is "" for what a person does by hand; `observed_at` is when the event was seen (seconds since the epoch).
    `approved`: a person has agreed to it. `reverts` is the plan that it takes back. `holds` is the trigger's condition as
    it was read now, None where it is unknown. `substituted` are the readings that stand in for missing ones. `evidence` is
    what it rests on beside its changes, as a text that differs where the evidence does.
    """

    strategy: str
    target: str
    changes: tuple[Change, ...]
    autonomy: Autonomy = "auto"
    cooldown_seconds: float = 0.0
    limit: tuple[int, float] | None = None
    priority: int = 50
    observed_at: float
    dry_run: bool = False
    approved: bool = False
    reverts: str = ""
    holds: bool | None = None
    substituted: tuple[str, ...] = ()
    evidence: str = ""


class Flight(Word):
    """A plan that is not finished, with the targets that it changes."""

    plan: str
    strategy: str
    targets: tuple[str, ...]
    phase: PlanPhase
    priority: int = 50


class Snapshot(Word):
    """All else that the gate judges by.

    `acted_at` are the times of the events on which this strategy acted on this target, the oldest first. `pressing` are
    other strategies that want more capacity on the target and whose condition holds now. `demoted` says why the strategy
    may only suggest, "" where it may act. `freezes` are those in force, `held` the strategy's proposals that people turned down.
    """

    acted_at: tuple[float, ...] = ()
    flights: tuple[Flight, ...] = ()
    states: dict[str, State] = {}
    pressing: tuple[str, ...] = ()
    demoted: str = ""
    freezes: tuple[Freeze, ...] = ()
    held: tuple[Hold, ...] = ()


Finding = tuple[Answer, str]
GuardFunction = Callable[[Proposal, Snapshot, float], Finding]


def judge(proposal: Proposal, snapshot: Snapshot, now: float) -> Verdict:
    """What may become of `proposal` at the time `now`."""
    guards: list[Guard] = []
    strictest: Answer = "go"
    why = "every guard let it pass"
    for name, guard in GUARDS.items():
        answer, detail = guard(proposal, snapshot, now)
        guards.append(Guard(name=name, passed=answer == "go", detail=detail))
        if _STRICTNESS.index(answer) > _STRICTNESS.index(strictest):
            strictest, why = answer, f"{name}: {detail}"
    return Verdict(outcome=strictest, guards=tuple(guards), why=why)


def autonomy(proposal: Proposal, snapshot: Snapshot, now: float) -> Finding:
    """A strategy acts as freely as it was told to; a demoted one may only suggest."""
    if proposal.reverts:
        return "go", "a revert belongs to a plan that was let pass"
    if not proposal.strategy:
        return "go", "it is done by hand"
    if proposal.autonomy == "shadow":
        doing = "; ".join(PRIMITIVES[change.primitive].describe(change) for change in proposal.changes)
        return "log", f"the strategy is in shadow mode: it is written down and not done: {doing or 'nothing'}"
    if proposal.approved:
        return "go", "a person approved it"
    if proposal.autonomy != "auto":
        return "ask", f"the strategy's autonomy is {proposal.autonomy}: it waits for `autonomic approve`"
    if snapshot.demoted:
        return "ask", f"the strategy may only suggest: {snapshot.demoted}"
    return "go", "the strategy's autonomy is auto"


def freeze(proposal: Proposal, snapshot: Snapshot, now: float) -> Finding:
    """Nothing starts on what is frozen, by whomever it is asked for; messages to people go out, and a person may stop runs."""
    harmless = {"notify"} if proposal.strategy else {"notify", "stop"}
    targets = {change.target for change in proposal.changes if change.primitive not in harmless}
    for found in snapshot.freezes:
        if found.holds(now) and any(map(found.covers, targets)):
            return "refuse", found.words()
    return "go", "nothing of it is frozen"


def held_back(proposal: Proposal, snapshot: Snapshot, now: float) -> Finding:
    """What a person turned down is not proposed again on the same evidence."""
    if proposal.reverts or not proposal.strategy or proposal.approved or not snapshot.held:
        return "go", "nobody turned it down"
    found = find_hold(proposal, snapshot.held)
    return ("refuse", found.words()) if found is not None else ("go", "it is not what was turned down, or its evidence is another")


def find_hold(proposal: Proposal, held: tuple[Hold, ...]) -> Hold | None:
    """The newest hold of `held` on what is proposed, None where there is none."""
    changes = wanted(proposal.changes)
    return next((one for one in reversed(held) if one.changes == changes and one.evidence == proposal.evidence), None)


def dry_run(proposal: Proposal, snapshot: Snapshot, now: float) -> Finding:
    """A dry run shows what would be done."""
    return ("log", "it is a dry run: it is written down and not done") if proposal.dry_run else ("go", "it is no dry run")


def cooldown(proposal: Proposal, snapshot: Snapshot, now: float) -> Finding:
    """Between two events that are acted on lies at least the cooldown."""
    if proposal.reverts or not proposal.strategy or not snapshot.acted_at or not proposal.cooldown_seconds:
        return "go", "no action before it counts"
    passed = proposal.observed_at - snapshot.acted_at[-1]
    told = f"{passed:.1f} s after the last action, the cooldown is {proposal.cooldown_seconds:g} s"
    return ("refuse" if passed < proposal.cooldown_seconds - 1e-6 else "go"), told


def rate_limit(proposal: Proposal, snapshot: Snapshot, now: float) -> Finding:
    """At most so many actions in a time."""
    if proposal.reverts or not proposal.strategy or proposal.limit is None:
        return "go", "no limit is set"
    count, seconds = proposal.limit
    acted = sum(proposal.observed_at - at < seconds for at in snapshot.acted_at)
    return ("refuse" if acted >= count else "go"), f"{acted} actions in the last {seconds:g} s, {count} are allowed"


def conflict(proposal: Proposal, snapshot: Snapshot, now: float) -> Finding:
    """No two plans change one target at a time; one that only waits for its check gives way to its own strategy or a higher priority.

    A shadow changes nothing, so that it says what it would have done also beside the strategy that does it.
    """
    if proposal.autonomy == "shadow" and not proposal.reverts:
        return "go", "a shadow is in nobody's way"
    targets = targets_of(proposal.changes)
    for flight in snapshot.flights:
        if flight.plan == proposal.reverts or not any(overlap(one, other) for one in targets for other in flight.targets):
            continue
        if not gives_way(flight, proposal):
            return "refuse", f"{flight.plan} of {flight.strategy or 'a person'} is {flight.phase} on {', '.join(flight.targets)}"
    return "go", "no other plan changes the target"


def substitutes(proposal: Proposal, snapshot: Snapshot, now: float) -> Finding:
    """What stands in for a missing reading never scales in, retrains or promotes."""
    if proposal.reverts or not proposal.substituted:
        return "go", "no reading was substituted"
    risky = [change.primitive for change in proposal.changes if not _known(change).on_substitutes or cuts_capacity(change, snapshot)]
    told = f"substituted readings: {', '.join(proposal.substituted)}"
    return ("refuse", f"{told}; they never {', '.join(risky)}") if risky else ("go", told)


def capacity(proposal: Proposal, snapshot: Snapshot, now: float) -> Finding:
    """Capacity is not cut while the trigger of what is reverted holds (or is unknown), or while another strategy wants more."""
    cut = [change for change in proposal.changes if cuts_capacity(change, snapshot)]
    if not cut:
        return "go", "it cuts no capacity"
    told = "; ".join(PRIMITIVES[change.primitive].describe(change) for change in cut)
    if proposal.reverts and proposal.holds is not False:
        return "refuse", f"{told} would cut capacity while the trigger {'still holds' if proposal.holds else 'cannot be judged'}"
    if snapshot.pressing and proposal.strategy:
        return "refuse", f"{told} would cut capacity while {', '.join(snapshot.pressing)} wants more"
    return "go", f"{told} cuts capacity, and nothing asks for it"


def irreversible(proposal: Proposal, snapshot: Snapshot, now: float) -> Finding:
    """What cannot be taken back is never done without a person."""
    names = sorted({change.primitive for change in proposal.changes if _known(change).needs_person})
    if not names or proposal.reverts or proposal.approved or not proposal.strategy:
        return "go", f"{', '.join(names)} cannot be taken back, and a person wants it" if names else "all of it can be taken back"
    return "ask", f"{', '.join(names)} cannot be taken back: a person has to approve it"


GUARDS: dict[str, GuardFunction] = {
    "freeze": freeze,
    "autonomy": autonomy,
    "dry run": dry_run,
    "held back": held_back,
    "cooldown": cooldown,
    "rate limit": rate_limit,
    "conflict": conflict,
    "substitutes": substitutes,
    "capacity": capacity,
    "irreversible": irreversible,
}
"""In the order in which they are asked and told."""


def targets_of(changes: tuple[Change, ...]) -> tuple[str, ...]:
    """The targets that changes write; a message or a search writes none."""
    return tuple(sorted({change.target for change in changes if not _known(change).harmless}))


def gives_way(flight: Flight, proposal: Proposal) -> bool:
    """Whether a plan in flight ends for `proposal`: its changes are done and it only waits for its check."""
    return flight.phase == "verifying" and (flight.strategy == proposal.strategy or flight.priority < proposal.priority)


def cuts_capacity(change: Change, snapshot: Snapshot) -> bool:
    """Whether fewer or smaller replicas would serve after `change`. What cannot be compared counts as a cut."""
    return _known(change).cuts_capacity(change, snapshot.states.get(change.target))


def _known(change: Change) -> Primitive[Any]:
    return PRIMITIVES[change.primitive]
