"""upgrade: puts other model versions behind roles of a service."""

from typing import ClassVar

from pydantic import model_validator

from autonomic.primitives.base import Context, Layer, Primitive, TargetKind, Unneeded, put_back, resolve_model, service
from autonomic.primitives.models import alias_of, declared_models, describe_registry, registry_change, version_of
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import ServiceState, State
from autonomic.seams.word import Word
from autonomic.workflows.spec.workflow import ModelUri


class UpgradeArguments(Word):
    """Puts other model versions behind roles of a service."""

    champion: ModelUri | None = None
    canary: ModelUri | None = None
    backup: ModelUri | None = None

    @model_validator(mode="after")
    def _something(self) -> "UpgradeArguments":
        if self.champion is None and self.canary is None and self.backup is None:
            raise ValueError("upgrade needs at least one of champion, canary, backup")
        return self


class Upgrade(Primitive[UpgradeArguments]):
    """Change.to: {models: {role: resolved URI}}; a role with "" is removed.

    A role that is declared by an alias (`model: models:/mnist@champion`) takes its alias along, in a change of the registry before
    the service's, so that what serves is what the alias names. A champion whose alias leaves becomes the backup where the backup
    is declared by an alias too, so that `rollback` finds the version that served.
    """

    name: ClassVar[str] = "upgrade"
    arguments: ClassVar[type[Word]] = UpgradeArguments
    target: ClassVar[TargetKind] = "service"
    layer: ClassVar[Layer] = "both"
    moves_models: ClassVar[bool] = True

    def plan(self, args: UpgradeArguments, state: State, context: Context) -> tuple[Change, ...]:
        found = service(state, self.name)
        wanted = {role: uri for role, uri in args.model_dump().items() if uri is not None}
        models = {role: resolve_model(uri, context) for role, uri in wanted.items()}
        moved = _moved(models, declared_models(state.target, context), context)
        if kept := _backup(moved, models, found, declared_models(state.target, context), context):
            models["backup"] = kept
            moved |= _moved({"backup": kept}, declared_models(state.target, context), context)
        changed = {role: uri for role, uri in models.items() if role not in found.roles or found.roles[role].model != uri}
        if not changed and not moved:
            raise Unneeded(f"upgrade: {state.target} has {_list(models)} already")
        changes: list[Change] = []
        for model in sorted({model for model, _ in moved}):
            aliases = {alias: version for (name, alias), version in moved.items() if name == model}
            changes.append(registry_change(self.name, state.target, context.key(len(changes)), model, aliases))
        if changed:
            key = context.key(len(changes))
            changes.append(Change(key=key, primitive=self.name, target=state.target, to={"models": changed}, expect=state.revision))
        return tuple(changes)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return put_back(outcome, "registry" if "aliases" in outcome.before else "platform")

    def describe(self, change: Change) -> str:
        return describe_registry(change) if change.effector == "registry" else f"upgrade {change.target} to {_list(change.to['models'])}"

    def cuts_capacity(self, change: Change, state: State | None) -> bool:
        return change.to.get("models", {}).get("champion") == ""


def _moved(models: dict[str, str], declared: dict[str, str], context: Context) -> dict[tuple[str, str], str]:
    """(model, alias) -> version, of the aliases by which roles are declared and that name another version."""
    found: dict[tuple[str, str], str] = {}
    for role, uri in models.items():
        model, alias = alias_of(declared.get(role, ""))
        version = version_of(uri, model) if alias else ""
        now = context.registry.get(model, {}).get(alias)
        if version and model in context.registry and (now is None or now.version != version):
            found[model, alias] = version
    return found


def _backup(
    moved: dict[tuple[str, str], str], models: dict[str, str], found: ServiceState, declared: dict[str, str], context: Context
) -> str:
    """The champion that leaves with its alias, where it becomes the backup; else ""."""
    model, alias = alias_of(declared.get("champion", ""))
    old = found.roles["champion"].model if "champion" in found.roles else ""
    leaves = (model, alias) in moved and version_of(old, model) and old != models.get("champion")
    return old if leaves and "backup" not in models and alias_of(declared.get("backup", ""))[0] == model else ""


def _list(models: dict[str, str]) -> str:
    return ", ".join(f"{role} {uri or 'none'}" for role, uri in models.items())
