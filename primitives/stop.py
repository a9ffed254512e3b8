"""stop: stops runs of a batch workflow."""

from typing import ClassVar

from autonomic.primitives.base import Context, Layer, Primitive, Refused, TargetKind, Unneeded
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import FINISHED, State
from autonomic.seams.word import Word


class StopArguments(Word):
    """Stops the runs of a workflow: the one named, else all that are active."""

    run: str | None = None


class Stop(Primitive[StopArguments]):
    """Change.to: {run_ids}."""

    name: ClassVar[str] = "stop"
    arguments: ClassVar[type[Word]] = StopArguments
    target: ClassVar[TargetKind] = "batch"
    layer: ClassVar[Layer] = "both"
    reversible: ClassVar[bool] = False

    def plan(self, args: StopArguments, state: State, context: Context) -> tuple[Change, ...]:
        active = [run.id for run in state.runs if run.status not in FINISHED]
        if args.run is not None and args.run not in active:
            raise Refused(f"stop: {state.target} has no active run {args.run!r}; active are {', '.join(active) or 'none'}")
        if not active:
            raise Unneeded(f"stop: {state.target} has no active run")
        to = {"run_ids": [args.run] if args.run is not None else active}
        return (Change(key=context.key(), primitive=self.name, target=state.target, to=to),)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return Irreversible(why="a run that was stopped cannot go on; run the workflow again")

    def describe(self, change: Change) -> str:
        return f"stop {', '.join(change.to['run_ids'])} of {change.target}"
