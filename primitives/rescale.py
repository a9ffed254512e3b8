"""rescale: changes the number of replicas of a role of a service."""

import math
from typing import ClassVar

from autonomic.primitives.arguments import Requirement, RescaleArguments
from autonomic.primitives.base import Context, Layer, Refused, Unneeded, put_back, role, service
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State


class Rescale:
    """Change.to: {role, replicas}. Every role stays within the service's max, the champion within its min too."""

    name: ClassVar[str] = "rescale"
    layer: ClassVar[Layer] = "both"
    reversible: ClassVar[bool] = True
    harmless: ClassVar[bool] = False

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


def _required(require: Requirement, wanted: int, context: Context) -> int:
    reading = context.readings.get(require.reading)
    if reading is None or reading.status != "ok" or reading.value is None or not math.isfinite(reading.value):
        detail = f": {reading.detail}" if reading is not None else ""
        raise Refused(f"rescale: the reading {require.reading} is not known{detail}")
    asked = math.ceil(reading.value / require.per_replica)
    if asked < wanted and reading.substituted:
        raise Refused(f"rescale: the reading {require.reading} is a substitute ({reading.detail}), and that never scales in")
    return asked
