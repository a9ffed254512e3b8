"""promote: makes a better version the champion, and keeps a worse one away."""

from typing import ClassVar

from autonomic.primitives.base import Context, Layer, Primitive, Refused, TargetKind, Unneeded, put_back
from autonomic.primitives.models import QUARANTINED, aliases, describe_registry, registered_model, registry_change, serving_version
from autonomic.primitives.promotion import PromoteArguments, fault
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State
from autonomic.seams.word import Word


class Promote(Primitive[PromoteArguments]):
    """Two changes: aliases and tags in the registry, then an `upgrade` of the service to the versions they name.

    The version is judged by `promotion.fault`. One that loses is quarantined; one that was not judged is only not promoted.
    """

    name: ClassVar[str] = "promote"
    arguments: ClassVar[type[Word]] = PromoteArguments
    target: ClassVar[TargetKind] = "service"
    layer: ClassVar[Layer] = "application"
    moves_models: ClassVar[bool] = True
    on_substitutes: ClassVar[bool] = False

    def plan(self, args: PromoteArguments, state: State, context: Context) -> tuple[Change, ...]:
        model = registered_model(state, self.name)
        versions = aliases(model, context, self.name)
        if args.from_ not in versions:
            raise Refused(f"promote: no version of the model {model} has the alias {args.from_!r}")
        candidate, champion = versions[args.from_], versions.get("champion")
        if candidate.tags.get(QUARANTINED):
            raise Refused(f"promote: version {candidate.version} of {model} is quarantined: {candidate.tags[QUARANTINED]}")
        if champion is not None and champion.version == candidate.version:
            raise Unneeded(f"promote: version {candidate.version} of {model} is the champion already")
        serving = serving_version(state, model)
        if champion is not None and serving != champion.version:
            raise Refused(
                f"promote: version {serving} of {model} serves, and the alias champion names version {champion.version}; "
                "it is judged against the champion, so that both must be one"
            )
        if why := fault(args, candidate, champion):
            away = {args.from_: ""} if args.from_ not in ("champion", "backup") else {}
            tags = {candidate.version: {QUARANTINED: why}}
            raise Refused(
                f"promote: version {candidate.version} of {model} is refused: {why}",
                (registry_change(self.name, state.target, context.key(), model, away, tags),),
            )
        moved = {"champion": candidate.version, args.from_: ""}
        models = {"champion": f"models:/{model}/{candidate.version}"}
        if champion is not None:
            moved["backup"] = champion.version
            models["backup"] = f"models:/{model}/{champion.version}"
        return (
            registry_change(self.name, state.target, context.key(), model, moved),
            Change(key=context.key(1), primitive="upgrade", target=state.target, to={"models": models}, expect=state.revision),
        )

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return put_back(outcome, "registry")

    def describe(self, change: Change) -> str:
        return describe_registry(change)
