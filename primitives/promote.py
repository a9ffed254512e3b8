"""promote: makes a better version the champion, and keeps a worse one away."""

import math
from typing import ClassVar

from autonomic.primitives.arguments import PromoteArguments
from autonomic.primitives.base import Context, Layer, Refused, Unneeded, put_back
from autonomic.primitives.models import QUARANTINED, aliases, describe_registry, registered_model, registry_change
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import ModelVersion, State

_ROUNDING = 1e-9  # accuracies travel as text, and sums of them may miss a bound by a rounding


class Promote:
    """Two changes: aliases and tags in the registry, then an `upgrade` of the service to the versions they name.

    The version is judged by its tags, which training wrote after judging it and the champion on the same labelled
    points: `drifted_accuracy`, `champion_drifted_accuracy`, `clean_accuracy`, `champion_clean_accuracy`, and
    `judge_trusted` ("true" or "false") with `judge_reason`. Where training also wrote `drifted_gain_low`, the lower bound
    of the paired gain's interval, it must be above 0: on few points a worthless version is sometimes ahead. A version that
    loses is quarantined; one that was not judged (a tag is missing or no number) is only not promoted.
    """

    name: ClassVar[str] = "promote"
    layer: ClassVar[Layer] = "application"
    reversible: ClassVar[bool] = True
    harmless: ClassVar[bool] = False

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
        fault = judge(candidate, args.margin, args.tolerance)
        if fault:
            away = {args.from_: ""} if args.from_ not in ("champion", "backup") else {}
            tags = {candidate.version: {QUARANTINED: fault}}
            raise Refused(
                f"promote: version {candidate.version} of {model} is refused: {fault}",
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


def judge(candidate: ModelVersion, margin: float, tolerance: float) -> str:
    """Why the version is not better than the champion, "" where it is.

    Raises:
        Refused: it was not judged, so that nothing is known.
    """
    tags = candidate.tags
    trusted = tags.get("judge_trusted", "")
    if trusted not in ("true", "false"):
        raise Refused(f"promote: version {candidate.version} was not judged: its tag judge_trusted is {trusted!r}, not 'true' or 'false'")
    if trusted == "false":
        return f"the labels it was judged by are not trusted: {tags.get('judge_reason') or 'no reason was given'}"
    new, old = _number(candidate, "drifted_accuracy"), _number(candidate, "champion_drifted_accuracy")
    new_clean, old_clean = _number(candidate, "clean_accuracy"), _number(candidate, "champion_clean_accuracy")
    if new < old + margin - _ROUNDING:
        return f"its accuracy on the drifted slice is {new:.4f}, the champion's {old:.4f}; it must be better by {margin:g}"
    if "drifted_gain_low" in tags and (low := _number(candidate, "drifted_gain_low")) <= 0:
        return f"its gain on the drifted slice may be chance: {new - old:.4f}, and the lower bound of its interval is {low:.4f}"
    if new_clean < old_clean - tolerance - _ROUNDING:
        found = f"its accuracy on the clean hold-out is {new_clean:.4f}, the champion's {old_clean:.4f}"
        return f"{found}; it may be worse by {tolerance:g} at most"
    return ""


def _number(candidate: ModelVersion, tag: str) -> float:
    text = candidate.tags.get(tag, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Refused(f"promote: version {candidate.version} was not judged: its tag {tag} is {text!r}, not a number")
    return value
