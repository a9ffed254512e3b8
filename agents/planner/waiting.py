"""Events that do not come again: they wait for another plan on their target, and for readings that are missing."""

from autonomic.agents.planner.judging import Inputs, Judged
from autonomic.primitives import gate
from autonomic.seams.errors import Retryable
from autonomic.strategies.decide import unclear
from autonomic.strategies.triggers import fires_again

_LOOK_AGAIN_SECONDS = 1.0


class NotYet(Retryable):
    """An event cannot be decided on yet. Nothing was recorded; it is to be tried again, and others need not wait for it."""


class Waiting:
    """The events that wait, and for what. After a restart they are judged afresh, and wait again."""

    def __init__(self) -> None:
        self._why: dict[str, str] = {}

    def waited(self, event: str) -> str:
        """For what an event had to wait, "" where it is judged for the first time."""
        return self._why.get(event, "")

    def check(self, judged: Judged, inputs: Inputs) -> None:
        """Lets a decision be recorded, unless its trigger does not fire again and it would have been another with more time.

        Such an event waits until it expires (`expires:` of its strategy); then it is recorded as expired.

        Raises:
            NotYet: nothing but another plan stands against it, or its condition cannot be judged for want of a reading.
        """
        why = ""
        if not fires_again(inputs.strategy, inputs.event.trigger) and inputs.now <= inputs.event.expires_at:
            why = _occupied(judged, inputs) if judged.record.decision.actions else unclear(inputs.strategy, inputs.readings)
        if why:
            self._why[inputs.event.id] = why
            raise NotYet(why, _LOOK_AGAIN_SECONDS)
        self._why.pop(inputs.event.id, None)


def _occupied(judged: Judged, inputs: Inputs) -> str:
    """The plan that alone keeps a decision from being carried out, "" where there is none."""
    verdict, proposal = judged.record.verdict, judged.proposal
    if verdict is None or proposal is None or verdict.outcome != "refuse":
        return ""
    plan = next((guard.detail for guard in verdict.guards if guard.name == "conflict" and not guard.passed), "")
    alone = inputs.world.snapshot.model_copy(update={"flights": ()})
    return plan if plan and gate.judge(proposal, alone, inputs.now).outcome in ("go", "ask") else ""
