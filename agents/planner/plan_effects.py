"""The world as plans see it: effectors behind the lease's fence, the gate before reverts, the monitor's readings."""

from collections.abc import Callable, Mapping

from autonomic.agents.planner.interpreter import Judged
from autonomic.primitives.base import revert_key
from autonomic.seams.decision import Verdict
from autonomic.seams.errors import Permanent
from autonomic.seams.plan import Change, Irreversible, Outcome, Plan
from autonomic.seams.platform import EffectorPort
from autonomic.seams.runner import PlanStatus

Fencing = Callable[[], int]
"""The token of the lease, confirmed just now; raises `Retryable` where it is lost."""


class PlanEffects:
    """The `Effects` of the service and of simulations.

    Args:
        effectors: by the name that a change gives.
        fence: asked before every effect.
        take_back: the primitive's revert of an outcome.
        judge_revert: the gate's verdict on taking an outcome back.
        check: judges a plan's condition on fresh readings.
        progressed: told of every step of a plan that is committed.
    """

    def __init__(
        self,
        effectors: Mapping[str, EffectorPort],
        fence: Fencing,
        take_back: Callable[[Plan, Outcome], Change | Irreversible],
        judge_revert: Callable[[Plan, Outcome], Verdict],
        check: Callable[[Plan], Judged],
        progressed: Callable[[PlanStatus, PlanStatus], None],
    ) -> None:
        self._effectors = effectors
        self._fence = fence
        self._take_back = take_back
        self._judge_revert = judge_revert
        self._check = check
        self._progressed = progressed

    def apply(self, plan: Plan, change: Change) -> Outcome:
        return self._effector(change.effector).apply(change, self._fence())

    def revert(self, plan: Plan, outcome: Outcome) -> Outcome:
        change = self._take_back(plan, outcome)
        if isinstance(change, Irreversible):
            return _refused(outcome, f"it cannot be taken back: {change.why}")
        verdict = self._judge_revert(plan, outcome)
        if verdict.outcome != "go":
            return _refused(outcome, verdict.why)
        change = change.model_copy(update={"key": revert_key(outcome.key)})
        return self._effector(change.effector).apply(change, self._fence())

    def lookup(self, key: str, target: str, effector: str) -> Outcome | None:
        return self._effector(effector).lookup(key)

    def check(self, plan: Plan) -> Judged:
        return self._check(plan)

    def progressed(self, before: PlanStatus, after: PlanStatus) -> None:
        self._progressed(before, after)

    def _effector(self, name: str) -> EffectorPort:
        effector = self._effectors.get(name)
        if effector is None:
            raise Permanent(f"there is no effector {name!r} in this installation; there are {', '.join(self._effectors)}")
        return effector


def _refused(outcome: Outcome, detail: str) -> Outcome:
    changes = {"key": revert_key(outcome.key), "status": "refused", "detail": detail, "before": {}, "after": {}}
    return outcome.model_copy(update=changes)
