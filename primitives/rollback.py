"""rollback: makes the backup the champion again."""

from typing import ClassVar

from autonomic.primitives.base import Context, Layer, Primitive, Refused, TargetKind, put_back
from autonomic.primitives.models import QUARANTINED, aliases, describe_registry, registered_model, registry_change, serving_version
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State
from autonomic.seams.word import Word


class RollbackArguments(Word):
    """Makes the backup the champion again and quarantines the champion."""


class Rollback(Primitive[RollbackArguments]):
    """Two changes like those of `promote`; the version that served is quarantined, and there is no backup afterwards."""

    name: ClassVar[str] = "rollback"
    arguments: ClassVar[type[Word]] = RollbackArguments
    target: ClassVar[TargetKind] = "service"
    layer: ClassVar[Layer] = "application"
    moves_models: ClassVar[bool] = True

    def plan(self, args: RollbackArguments, state: State, context: Context) -> tuple[Change, ...]:
        model = registered_model(state, self.name)
        versions = aliases(model, context, self.name)
        # what served is what was wrong, whatever the alias names
        old = serving_version(state, model)
        new = serving_version(state, model, "backup") or (versions["backup"].version if "backup" in versions else "")
        if not new:
            raise Refused(f"rollback: {state.target} has no backup, and no version of the model {model} has the alias 'backup'")
        if old == new:
            raise Refused(f"rollback: version {old} of {model} is champion and backup; there is nothing else to go back to")
        if bad := next((one.tags[QUARANTINED] for one in versions.values() if one.version == new and one.tags.get(QUARANTINED)), ""):
            raise Refused(f"rollback: the backup, version {new} of {model}, is quarantined: {bad}")
        tags = {old: {QUARANTINED: f"rolled back to version {new}: {context.why or 'by hand'}"}}
        return (
            registry_change(self.name, state.target, context.key(), model, {"champion": new, "backup": ""}, tags),
            Change(
                key=context.key(1),
                primitive="upgrade",
                target=state.target,
                to={"models": {"champion": f"models:/{model}/{new}", "backup": ""}},
                expect=state.revision,
            ),
        )

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return put_back(outcome, "registry")

    def describe(self, change: Change) -> str:
        return describe_registry(change)
