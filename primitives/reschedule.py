"""reschedule: moves replicas of a service, or the next attempts of steps, to other nodes."""

from typing import ClassVar

from autonomic.primitives.base import Context, Layer, Primitive, Refused, TargetKind, put_back
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State
from autonomic.seams.word import Word
from autonomic.workflows.spec.placement_override import PlacementOverride


class RescheduleArguments(PlacementOverride):
    """Moves the replicas of a service, or the next attempts of steps, to where this lets them run.

    It takes the place of what an earlier `reschedule` said; without arguments only what was declared counts.
    """


class Reschedule(Primitive[RescheduleArguments]):
    """Change.to: {placement}, all of it; an empty one is what was declared and nothing more. Capacity never falls meanwhile."""

    name: ClassVar[str] = "reschedule"
    arguments: ClassVar[type[Word]] = RescheduleArguments
    target: ClassVar[TargetKind] = "placed"
    layer: ClassVar[Layer] = "both"

    def plan(self, args: RescheduleArguments, state: State, context: Context) -> tuple[Change, ...]:
        if state.kind == "absent":
            raise Refused(f"reschedule: {state.target} is not deployed, and no run of it is known")
        if state.kind == "online" and state.service is None:
            raise Refused(f"reschedule: {state.target} is an online workflow; name one of its services, as {state.target}/SERVICE")
        to = {"placement": args.said()}
        return (Change(key=context.key(), primitive=self.name, target=state.target, to=to, expect=state.revision),)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return put_back(outcome)

    def describe(self, change: Change) -> str:
        placement = change.to["placement"]
        told = [f"with {name}={value}" for name, value in placement.get("nodes", {}).items()]
        told += [f"away from {'/'.join(one.values())}" for one in placement.get("avoid", ())]
        if "spread" in placement:
            told.append(f"spread over each {placement['spread']}")
        return f"reschedule {change.target} to nodes {', '.join(told)}" if told else f"reschedule {change.target} as it was declared"
