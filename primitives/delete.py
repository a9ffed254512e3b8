"""delete: takes an online workflow out of service."""

from typing import ClassVar

from autonomic.primitives.arguments import DeleteArguments
from autonomic.primitives.base import Context, Layer, Refused
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State


class Delete:
    """Change.to: {}."""

    name: ClassVar[str] = "delete"
    layer: ClassVar[Layer] = "application"
    reversible: ClassVar[bool] = False
    harmless: ClassVar[bool] = False

    def plan(self, args: DeleteArguments, state: State, context: Context) -> tuple[Change, ...]:
        if state.kind == "absent":
            raise Refused(f"delete: {state.target} is not deployed")
        if state.kind != "online" or "/" in state.target:
            raise Refused(f"delete: {state.target} is not an online workflow")
        return (Change(key=context.key(), primitive=self.name, target=state.target, to={}, expect=state.revision),)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return Irreversible(why="the requests that came while it was away are lost; deploy the workflow again")

    def describe(self, change: Change) -> str:
        return f"take {change.target} out of service"
