"""delete: takes an online workflow out of service."""

from typing import ClassVar

from autonomic.primitives.base import Context, Layer, Primitive, Refused, TargetKind
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State
from autonomic.seams.word import Word


class DeleteArguments(Word):
    """Takes an online workflow out of service."""


class Delete(Primitive[DeleteArguments]):
    """Change.to: {}."""

    name: ClassVar[str] = "delete"
    arguments: ClassVar[type[Word]] = DeleteArguments
    target: ClassVar[TargetKind] = "online"
    layer: ClassVar[Layer] = "application"
    admin: ClassVar[bool] = True
    reversible: ClassVar[bool] = False

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

    def cuts_capacity(self, change: Change, state: State | None) -> bool:
        return state is None or state.kind != "absent"
