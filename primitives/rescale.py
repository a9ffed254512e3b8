"""rescale: changes the number of replicas of a role of a service."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from autonomic.primitives.base import Context, Layer, Primitive, Refused, TargetKind, Unneeded, put_back, role, service
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import Role, State
from autonomic.seams.word import Word


class Requirement(Word):
    """As many replicas as the reading needs at `per_replica` each."""

    reading: str
    per_replica: float = Field(gt=0)


class RescaleArguments(Word):
    """Changes the number of replicas of a role: `by` some, `to` a number, or by a requirement (`require`).

    What is planned stays within the service's min and max.
    """

    by: int | None = None
    to: int | None = Field(None, ge=0)
    require: Requirement | None = None
    role: Role = "champion"

    @model_validator(mode="after")
    def _one(self) -> "RescaleArguments":
        if sum(value is not None for value in (self.by, self.to, self.require)) != 1:
            raise ValueError("rescale takes exactly one of by, to, require")
        return self


class Rescale(Primitive[RescaleArguments]):
    """Change.to: {role, replicas}. Every role stays within the service's max, the champion within its min too."""

    name: ClassVar[str] = "rescale"
    arguments: ClassVar[type[Word]] = RescaleArguments
    target: ClassVar[TargetKind] = "service"
    layer: ClassVar[Layer] = "both"
    adopted: ClassVar[bool] = True

    def plan(self, args: RescaleArguments, state: State, context: Context) -> tuple[Change, ...]:
        found = service(state, self.name)
        wanted = role(found, args.role, state.target).wanted
        if args.by is not None:
            asked = wanted + args.by
        elif args.to is not None:
            asked = args.to
        else:
            assert args.require is not None, "the arguments hold exactly one of by, to, require"
            asked = _required(args.require, wanted, context)
        low = found.min_replicas if args.role == "champion" else 0
        replicas = min(found.max_replicas, max(low, asked))
        if replicas == wanted:
            bound = f"; its bounds are {low} to {found.max_replicas}" if replicas != asked else ""
            raise Unneeded(f"rescale: the {args.role} of {state.target} has {wanted} replicas already{bound}")
        to = {"role": args.role, "replicas": replicas}
        return (Change(key=context.key(), primitive=self.name, target=state.target, to=to, expect=state.revision),)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return put_back(outcome)

    def describe(self, change: Change) -> str:
        return f"rescale the {change.to['role']} of {change.target} to {change.to['replicas']} replicas"

    def cuts_capacity(self, change: Change, state: State | None) -> bool:
        if state is None or state.service is None or change.to["role"] not in state.service.roles:
            return True
        return int(change.to["replicas"]) < state.service.roles[change.to["role"]].wanted

    def wants_more(self, args: Mapping[str, Any]) -> bool:
        return (isinstance(args.get("by"), int) and args["by"] > 0) or "require" in args


def _required(require: Requirement, wanted: int, context: Context) -> int:
    reading = context.readings.get(require.reading)
    if reading is None or reading.status != "ok" or reading.value is None or not math.isfinite(reading.value):
        detail = f": {reading.detail}" if reading is not None else ""
        raise Refused(f"rescale: the reading {require.reading} is not known{detail}")
    asked = math.ceil(reading.value / require.per_replica)
    if asked < wanted and reading.substituted:
        raise Refused(f"rescale: the reading {require.reading} is a substitute ({reading.detail}), and that never scales in")
    return asked
