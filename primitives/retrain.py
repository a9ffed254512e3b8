"""retrain: runs a batch workflow from the production model with labelled points."""

from typing import Any, ClassVar

from pydantic import Field

from autonomic.primitives.base import Context, Layer, Primitive, Refused, TargetKind, resolve_model
from autonomic.primitives.run import run_change, stop_run
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import FINISHED, State
from autonomic.seams.word import Word
from autonomic.workflows.spec.workflow import ModelUri


class RetrainArguments(Word):
    """Runs a batch workflow from the production model with the labelled points of a service.

    The workflow gets them as its parameters `base_model` (the version that `from` names now) and `points` (the
    prediction log of `points`, a target `workflow/service`). A run that is still in flight is not doubled.
    """

    from_: ModelUri = Field(alias="from")
    points: str | None = None
    parameters: dict[str, Any] = {}


class Retrain(Primitive[RetrainArguments]):
    """Change.to is that of `run`, with the parameters `base_model` and `points`. Refused while a run is in flight."""

    name: ClassVar[str] = "retrain"
    arguments: ClassVar[type[Word]] = RetrainArguments
    target: ClassVar[TargetKind] = "batch"
    layer: ClassVar[Layer] = "application"
    on_substitutes: ClassVar[bool] = False

    def plan(self, args: RetrainArguments, state: State, context: Context) -> tuple[Change, ...]:
        active = [run.id for run in state.runs if run.status not in FINISHED]
        if active:
            raise Refused(f"retrain: {', '.join(active)} of {state.target} is in flight, and a retraining is not doubled")
        parameters = {**args.parameters, "base_model": resolve_model(args.from_, context)}
        if args.points is not None:
            parameters["points"] = args.points
        return (run_change(self.name, state.target, parameters, context),)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return stop_run(outcome)

    def describe(self, change: Change) -> str:
        parameters = change.to["parameters"]
        points = f" with the labelled points of {parameters['points']}" if parameters.get("points") else ""
        return f"retrain {change.to['workflow']} from {parameters['base_model']}{points} as {change.to['run_id']}"
