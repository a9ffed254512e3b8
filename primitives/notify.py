"""notify: a message to people."""

from typing import ClassVar

from autonomic.primitives.base import Context, Layer, Primitive, TargetKind
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State
from autonomic.seams.word import Word


class NotifyArguments(Word):
    """A message to people: into the journal, and to `webhook` where one is given."""

    message: str
    webhook: str | None = None


class Notify(Primitive[NotifyArguments]):
    """Change.to: {message, webhook}; it goes into the journal, and to the webhook where there is one."""

    name: ClassVar[str] = "notify"
    arguments: ClassVar[type[Word]] = NotifyArguments
    target: ClassVar[TargetKind] = "any"
    layer: ClassVar[Layer] = "application"
    reversible: ClassVar[bool] = False
    harmless: ClassVar[bool] = True

    def plan(self, args: NotifyArguments, state: State, context: Context) -> tuple[Change, ...]:
        to = args.model_dump(mode="json")
        return (Change(key=context.key(), primitive=self.name, target=state.target, effector="agents", to=to),)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return Irreversible(why="a message that was sent cannot be taken back")

    def describe(self, change: Change) -> str:
        where = f" at {change.to['webhook']}" if change.to.get("webhook") else ""
        return f"tell people{where}: {change.to['message']}"
