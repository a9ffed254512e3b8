"""upgrade: puts other model versions behind roles of a service."""

from typing import ClassVar

from autonomic.primitives.arguments import UpgradeArguments
from autonomic.primitives.base import Context, Layer, Unneeded, put_back, resolve_model, service
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State


class Upgrade:
    """Change.to: {models: {role: resolved URI}}; a role with "" is removed."""

    name: ClassVar[str] = "upgrade"
    layer: ClassVar[Layer] = "both"
    reversible: ClassVar[bool] = True
    harmless: ClassVar[bool] = False

    def plan(self, args: UpgradeArguments, state: State, context: Context) -> tuple[Change, ...]:
        found = service(state, self.name)
        wanted = {role: uri for role, uri in args.model_dump().items() if uri is not None}
        models = {role: resolve_model(uri, context) for role, uri in wanted.items()}
        changed = {role: uri for role, uri in models.items() if role not in found.roles or found.roles[role].model != uri}
        if not changed:
            raise Unneeded(f"upgrade: {state.target} has {_list(models)} already")
        return (Change(key=context.key(), primitive=self.name, target=state.target, to={"models": changed}, expect=state.revision),)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return put_back(outcome)

    def describe(self, change: Change) -> str:
        return f"upgrade {change.target} to {_list(change.to['models'])}"


def _list(models: dict[str, str]) -> str:
    return ", ".join(f"{role} {uri or 'none'}" for role, uri in models.items())
