"""retarget: changes the value at which an autoscaler keeps a metric of a workload that is adopted."""

import math
from collections.abc import Mapping
from typing import ClassVar

from autonomic.primitives.arguments import RetargetArguments
from autonomic.primitives.base import Context, Layer, Refused, Unneeded, put_back, service
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State


class Retarget:
    """Change.to: {metric, value}, in the unit of the metric's own target. A lower value is more capacity."""

    name: ClassVar[str] = "retarget"
    layer: ClassVar[Layer] = "infrastructure"
    reversible: ClassVar[bool] = True
    harmless: ClassVar[bool] = False

    def plan(self, args: RetargetArguments, state: State, context: Context) -> tuple[Change, ...]:
        service(state, self.name)
        targets: Mapping[str, float] = state.spec.get("targets", {})
        metric = _metric(args.metric, targets, state.target)
        now = targets[metric]
        asked = args.to if args.to is not None else now * (args.times or 1.0)
        value = min(max(asked, args.min or 0.0), args.max or math.inf)
        if value == now:
            raise Unneeded(f"retarget: {metric} of {state.target} is kept at {now:g} already, or this is its bound")
        to = {"metric": metric, "value": value}
        return (Change(key=context.key(), primitive=self.name, target=state.target, to=to, expect=state.revision),)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return put_back(outcome)

    def describe(self, change: Change) -> str:
        return f"keep {change.to['metric']} of {change.target} at {change.to['value']:g}"


def _metric(named: str | None, targets: Mapping[str, float], target: str) -> str:
    if not targets:
        raise Refused(f"retarget: {target} is not scaled by a metric; it acts on adopted workloads with an HPA or a ScaledObject")
    if named is None and len(targets) > 1:
        raise Refused(f"retarget: {target} is scaled by {', '.join(targets)}; name one of them with metric:")
    if named is not None and named not in targets:
        raise Refused(f"retarget: {target} is not scaled by {named!r}; it is scaled by {', '.join(targets)}")
    return named if named is not None else next(iter(targets))
