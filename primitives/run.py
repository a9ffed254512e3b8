"""run: runs a batch workflow."""

from typing import Any, ClassVar

from autonomic.primitives.base import Context, Layer, Primitive, Refused, TargetKind, revert_key, workflow_document
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State
from autonomic.seams.word import Word
from autonomic.workflows.spec.parameters import defaults, faults_of_values


class RunArguments(Word):
    """Runs a batch workflow."""

    parameters: dict[str, Any] = {}


class Run(Primitive[RunArguments]):
    """Change.to: {run_id, workflow, spec, parameters (all resolved), package, cause}."""

    name: ClassVar[str] = "run"
    arguments: ClassVar[type[Word]] = RunArguments
    target: ClassVar[TargetKind] = "batch"
    layer: ClassVar[Layer] = "both"

    def plan(self, args: RunArguments, state: State, context: Context) -> tuple[Change, ...]:
        return (run_change(self.name, state.target, args.parameters, context),)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return stop_run(outcome)

    def describe(self, change: Change) -> str:
        return f"run {change.to['workflow']} as {change.to['run_id']}{_with(change.to['parameters'])}"


def run_change(primitive: str, target: str, parameters: dict[str, Any], context: Context) -> Change:
    """A run with the workflow's parameters and `parameters` over them.

    Raises:
        Refused: the target cannot be run, or a parameter is not declared, or not of its type or within its bounds.
    """
    document = workflow_document(target, "batch", primitive, context)
    declared: dict[str, Any] = document["spec"].get("parameters", {})
    faults = [f"{name}: {fault}" for name, fault in faults_of_values(declared, parameters)]
    if faults:
        raise Refused(f"{primitive}: {target} does not take these parameters: {'; '.join(faults)}")
    to = {
        "run_id": run_id(context.key()),
        "workflow": target,
        "spec": document,
        "parameters": {**defaults(declared), **parameters},
        "package": context.packages.get(target, ""),
        "cause": context.cause,
    }
    return Change(key=context.key(), primitive=primitive, target=target, to=to)


def run_id(key: str) -> str:
    """The id of the run that the change `key` starts."""
    return "run-" + key.removeprefix("plan-").replace(".", "-")


def stop_run(outcome: Outcome) -> Change | Irreversible:
    """The change that stops the run which `outcome` started."""
    to = {"run_ids": [run_id(outcome.key)]}
    return Change(key=revert_key(outcome.key), primitive="stop", target=outcome.target, to=to)


def _with(parameters: dict[str, Any]) -> str:
    return " with " + ", ".join(f"{name}={value}" for name, value in parameters.items()) if parameters else ""
