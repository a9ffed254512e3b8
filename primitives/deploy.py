"""deploy: puts an online workflow into service as it was applied."""

from typing import ClassVar

from autonomic.primitives.base import Context, Layer, Primitive, TargetKind, put_back, revert_key, workflow_document
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State
from autonomic.seams.word import Word


class DeployArguments(Word):
    """Deploys an online workflow as it was applied."""


class Deploy(Primitive[DeployArguments]):
    """Change.to: {spec, package}."""

    name: ClassVar[str] = "deploy"
    arguments: ClassVar[type[Word]] = DeployArguments
    target: ClassVar[TargetKind] = "online"
    layer: ClassVar[Layer] = "application"

    def plan(self, args: DeployArguments, state: State, context: Context) -> tuple[Change, ...]:
        document = workflow_document(state.target, "online", self.name, context)
        to = {"spec": document, "package": context.packages.get(state.target, "")}
        return (Change(key=context.key(), primitive=self.name, target=state.target, to=to, expect=state.revision),)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        if outcome.before.get("spec"):
            return put_back(outcome)
        return Change(key=revert_key(outcome.key), primitive="delete", target=outcome.target, to={})

    def describe(self, change: Change) -> str:
        spec = change.to["spec"]["spec"]
        if adopt := spec.get("adopt"):
            kind = next(kind for kind in ("deployment", "statefulset", "job") if adopt.get(kind))
            return f"adopt the {kind} {adopt[kind]} as {change.target}"
        services = ", ".join(found["name"] for found in spec["services"])
        return f"deploy {change.target} with the services {services}"
