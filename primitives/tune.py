"""tune: hands a search over a workflow's parameters to the tuner."""

from typing import Any, ClassVar

from pydantic import Field

from autonomic.primitives.base import Context, Layer, Primitive, Refused, TargetKind, workflow_document
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State
from autonomic.seams.word import Word
from autonomic.workflows.spec.parameters import faults_of_values


class TuneArguments(Word):
    """Hands a search over a batch workflow's parameters to the tuner.

    `space` maps a parameter to `{choice: [...]}`, `{uniform: [low, high]}`, `{loguniform: [low, high]}` or
    `{integer: [low, high]}`.
    """

    metric: str
    mode: str = Field("max", pattern="^(max|min)$")
    space: dict[str, dict[str, list[Any]]]
    trials: int = Field(10, ge=1, le=10_000)
    parallel: int = Field(1, ge=1, le=1000)
    parameters: dict[str, Any] = {}


class Tune(Primitive[TuneArguments]):
    """Change.to: {workflow, metric, mode, space, trials, parallel, parameters}; the tuner derives the search's id from the key."""

    name: ClassVar[str] = "tune"
    arguments: ClassVar[type[Word]] = TuneArguments
    target: ClassVar[TargetKind] = "batch"
    layer: ClassVar[Layer] = "application"
    reversible: ClassVar[bool] = False
    harmless: ClassVar[bool] = True

    def plan(self, args: TuneArguments, state: State, context: Context) -> tuple[Change, ...]:
        declared = workflow_document(state.target, "batch", self.name, context)["spec"].get("parameters", {})
        unknown = sorted(set(args.space) - set(declared))
        faults = [f"{name}: unknown parameter (parameters: {', '.join(declared) or 'none'})" for name in unknown]
        faults += [f"{name}: {fault}" for name, fault in faults_of_values(declared, args.parameters, complete=False)]
        if faults:
            raise Refused(f"tune: {state.target} does not take these parameters: {'; '.join(faults)}")
        to = {"workflow": state.target, **args.model_dump(mode="json")}
        return (Change(key=context.key(), primitive=self.name, target=state.target, effector="tuner", to=to),)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return Irreversible(why="a search changes nothing that could be put back; stop it at the tuner")

    def describe(self, change: Change) -> str:
        to = change.to
        return f"search {', '.join(to['space'])} of {change.target} for the {to['mode']} of {to['metric']} in {to['trials']} trials"
