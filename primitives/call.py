"""call: a request to another agent or any HTTP endpoint."""

from typing import ClassVar

from autonomic.primitives.arguments import CallArguments
from autonomic.primitives.base import Context, Layer
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State


class Call:
    """Change.to: {to, type, data}; it goes out as a CloudEvent whose id is the change's key."""

    name: ClassVar[str] = "call"
    layer: ClassVar[Layer] = "application"
    reversible: ClassVar[bool] = False
    harmless: ClassVar[bool] = True

    def plan(self, args: CallArguments, state: State, context: Context) -> tuple[Change, ...]:
        to = args.model_dump(mode="json")
        return (Change(key=context.key(), primitive=self.name, target=state.target, effector="agents", to=to),)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return Irreversible(why="a request that was sent cannot be taken back")

    def describe(self, change: Change) -> str:
        return f"send {change.to['type']} to {change.to['to']}"
