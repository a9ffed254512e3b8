"""call: a request to another agent or any HTTP endpoint."""

from typing import Any, ClassVar

from autonomic.primitives.base import Context, Layer, Primitive, TargetKind
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State
from autonomic.seams.word import Word


class CallArguments(Word):
    """Sends a CloudEvent to another agent or any HTTP endpoint."""

    to: str
    type: str
    data: dict[str, Any] = {}


class Call(Primitive[CallArguments]):
    """Change.to: {to, type, data}; it goes out as a CloudEvent whose id is the change's key."""

    name: ClassVar[str] = "call"
    arguments: ClassVar[type[Word]] = CallArguments
    target: ClassVar[TargetKind] = "any"
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
