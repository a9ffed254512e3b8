"""Whether a model version may become the champion: its metric against the champion's, and what else must hold of it. Pure."""

import math
from collections.abc import Sequence

from pydantic import Field, model_validator

from autonomic.primitives.base import Refused
from autonomic.seams.state import ModelVersion
from autonomic.seams.word import Word


class PromoteGuard(Word):
    """What else must hold of a version that is promoted: of a `metric` or of a `tag`.

    A `metric` is above or below a bound, or may be worse than the champion's by `tolerance` at most. A `tag` is the text `is`. The
    champion's value is that of its own metric, or of the version's metric `against`, where both were judged on the same data.
    `reason` names a tag that explains a failure. What is `optional` passes where the metric or the tag is not there.
    """

    metric: str | None = Field(None, min_length=1)
    higher_is_better: bool = True
    against: str | None = Field(None, min_length=1)
    tolerance: float | None = Field(None, ge=0)
    above: float | None = None
    below: float | None = None
    tag: str | None = Field(None, min_length=1)
    is_: str | None = Field(None, alias="is")
    reason: str | None = None
    optional: bool = False

    @model_validator(mode="after")
    def _one(self) -> "PromoteGuard":
        if (self.metric is None) == (self.tag is None):
            raise ValueError("a guard of promote takes exactly one of metric, tag")
        if self.tag is not None and self.is_ is None:
            raise ValueError("a guard on a tag needs `is`, the text that the tag must have")
        if self.metric is not None and self.tolerance is None and self.above is None and self.below is None:
            raise ValueError("a guard on a metric needs at least one of tolerance, above, below")
        return self


class PromoteArguments(Word):
    """Makes the version under the alias `from` the champion, if it is better; the old champion becomes the backup.

    It is better where its `metric` is higher (or lower, where not `higher_is_better`) than the champion's, by at least `margin`, and
    every guard passes. A metric is one of the run that logged the version, or a tag of the version. `against` names the version's
    metric that holds the champion's value, where both were judged on the same data. A version that loses is quarantined: its
    tag `quarantined` says why. One of which a value is missing is only not promoted.
    """

    from_: str = Field("candidate", alias="from")
    metric: str = Field(min_length=1)
    higher_is_better: bool = True
    against: str | None = Field(None, min_length=1)
    margin: float = Field(0.0, ge=0)
    guards: tuple[PromoteGuard, ...] = ()


_ROUNDING = 1e-9  # values may travel as text, and sums of them may miss a bound by a rounding


def fault(args: PromoteArguments, candidate: ModelVersion, champion: ModelVersion | None) -> str:
    """Why `candidate` loses, "" where it does not.

    Raises:
        Refused: it was not judged, so that nothing is known; the message names all that is missing.
    """
    _must_be_judged(args, candidate, champion)
    for guard in args.guards:
        if found := _guard_fault(guard, candidate, champion):
            return found
    new, old = _value(candidate, args.metric), _old(args.metric, args.against, candidate, champion)
    gain = 0.0 if new is None or old is None else (new - old if args.higher_is_better else old - new)
    if new is not None and old is not None and (gain < args.margin - _ROUNDING or (not args.margin and gain <= 0)):
        by = f" by {args.margin:g}" if args.margin else ""
        return f"its {args.metric} is {new:.4f}, the champion's {old:.4f}; it must be {_way(args.higher_is_better)}{by}"
    return ""


def _guard_fault(guard: PromoteGuard, candidate: ModelVersion, champion: ModelVersion | None) -> str:
    if guard.tag is not None:
        text = candidate.tags.get(guard.tag, "")
        wrong = text not in ("", guard.is_)
        why = f"its tag {guard.tag} is {text!r}, not {guard.is_!r}" if wrong else ""
    else:
        why = _metric_fault(guard, str(guard.metric), candidate, champion)
    reason = candidate.tags.get(guard.reason, "") if guard.reason else ""
    return f"{why}: {reason}" if why and reason else why


def _metric_fault(guard: PromoteGuard, metric: str, candidate: ModelVersion, champion: ModelVersion | None) -> str:
    new = _value(candidate, metric)
    if new is None:
        return ""
    if guard.above is not None and new <= guard.above:
        return f"its {metric} is {new:.4f}; it must be above {guard.above:g}"
    if guard.below is not None and new >= guard.below:
        return f"its {metric} is {new:.4f}; it must be below {guard.below:g}"
    old = _old(metric, guard.against, candidate, champion) if guard.tolerance is not None else None
    if guard.tolerance is None or old is None:
        return ""
    loss = old - new if guard.higher_is_better else new - old
    if loss > guard.tolerance + _ROUNDING:
        return f"its {metric} is {new:.4f}, the champion's {old:.4f}; it may be worse by {guard.tolerance:g} at most"
    return ""


def _must_be_judged(args: PromoteArguments, candidate: ModelVersion, champion: ModelVersion | None) -> None:
    wanted = [(args.metric, args.against, True)]
    wanted += [(guard.metric, guard.against, guard.tolerance is not None) for guard in args.guards if guard.metric and not guard.optional]
    unknown: list[str] = []
    for metric, against, compared in wanted:
        unknown += _unknown(candidate, [metric, *([against] if against and compared else [])])
        if compared and not against and champion is None:
            unknown.append(f"{metric} of the champion (no version has the alias champion; set it, or give against:)")
        elif compared and not against and champion is not None:
            unknown += [f"{metric} of the champion, version {champion.version}" for _ in _unknown(champion, [metric])]
    unknown += [f"the tag {guard.tag}" for guard in args.guards if guard.tag and not guard.optional and not candidate.tags.get(guard.tag)]
    if unknown:
        raise Refused(
            f"promote: version {candidate.version} was not judged: without a number, or not there: {', '.join(dict.fromkeys(unknown))}; "
            "a metric is one of the run that logged the version, or a tag of the version"
        )


def _unknown(version: ModelVersion, names: Sequence[str]) -> list[str]:
    return [name for name in names if _value(version, name) is None]


def _old(metric: str, against: str | None, candidate: ModelVersion, champion: ModelVersion | None) -> float | None:
    if against is not None:
        return _value(candidate, against)
    return _value(champion, metric) if champion is not None else None


def _value(version: ModelVersion, name: str) -> float | None:
    """A tag of the version, which is written last, or else a metric; None where it is no finite number."""
    try:
        value = float(version.tags[name]) if name in version.tags else version.metrics[name]
    except (ValueError, KeyError):
        return None
    return value if math.isfinite(value) else None


def _way(higher: bool) -> str:
    return "higher" if higher else "lower"
