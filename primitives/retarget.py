"""retarget: changes the value at which an autoscaler keeps a metric of a workload that is adopted."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from autonomic.primitives.base import Context, Layer, Primitive, Refused, TargetKind, Unneeded, put_back, service
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State
from autonomic.seams.word import Word


class RetargetArguments(Word):
    """Changes the value at which the HPA or the ScaledObject of an adopted workload keeps a metric: `to` a value, or `times` what it is.

    `metric` is its name there (of a trigger of KEDA its name, else its type), needed where there are several. The value has the unit
    that the metric's target has there: percent of what is requested, or an amount. It stays within `min` and `max`.
    """

    metric: str | None = None
    to: float | None = Field(None, gt=0)
    times: float | None = Field(None, gt=0)
    min: float | None = Field(None, gt=0)
    max: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one(self) -> "RetargetArguments":
        if (self.to is None) == (self.times is None):
            raise ValueError("retarget takes exactly one of to, times")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("retarget's min is greater than its max")
        return self


class Retarget(Primitive[RetargetArguments]):
    """Change.to: {metric, value}, in the unit of the metric's own target. A lower value is more capacity."""

    name: ClassVar[str] = "retarget"
    arguments: ClassVar[type[Word]] = RetargetArguments
    target: ClassVar[TargetKind] = "service"
    layer: ClassVar[Layer] = "infrastructure"
    adopted: ClassVar[bool] = True

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

    def cuts_capacity(self, change: Change, state: State | None) -> bool:
        kept = state.spec.get("targets", {}).get(change.to["metric"]) if state is not None else None
        return kept is None or change.to["value"] > kept

    def wants_more(self, args: Mapping[str, Any]) -> bool:
        return isinstance(args.get("times"), int | float) and args["times"] < 1


def _metric(named: str | None, targets: Mapping[str, float], target: str) -> str:
    if not targets:
        raise Refused(f"retarget: {target} is not scaled by a metric; it acts on adopted workloads with an HPA or a ScaledObject")
    if named is None and len(targets) > 1:
        raise Refused(f"retarget: {target} is scaled by {', '.join(targets)}; name one of them with metric:")
    if named is not None and named not in targets:
        raise Refused(f"retarget: {target} is not scaled by {named!r}; it is scaled by {', '.join(targets)}")
    return named if named is not None else next(iter(targets))
