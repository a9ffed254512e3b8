"""reroute: sets the shares of traffic over the roles of a service."""

from typing import ClassVar

from autonomic.primitives.base import Context, Layer, Primitive, Refused, TargetKind, Unneeded, put_back, role, service
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State
from autonomic.seams.word import Word
from autonomic.workflows.spec.units import Percent


class RerouteArguments(Word):
    """Sets the shares of traffic; what is not named keeps its part of the rest, the champion takes what is left."""

    canary: Percent | None = None
    backup: Percent | None = None
    champion: Percent | None = None


class Reroute(Primitive[RerouteArguments]):
    """Change.to: {weights: {role: percent}}, whole numbers whose sum is 100."""

    name: ClassVar[str] = "reroute"
    arguments: ClassVar[type[Word]] = RerouteArguments
    target: ClassVar[TargetKind] = "service"
    layer: ClassVar[Layer] = "application"

    def plan(self, args: RerouteArguments, state: State, context: Context) -> tuple[Change, ...]:
        found = service(state, self.name)
        named = {name: share for name, share in args.model_dump().items() if share is not None}
        if not named:
            raise Refused("reroute: no share was given; give at least one of champion, canary, backup")
        for name in named:
            role(found, name, state.target)
        weights = _shares(named, {name: found.weights.get(name, 0) for name in found.roles})
        if weights == {name: found.weights.get(name, 0) for name in weights}:
            raise Unneeded(f"reroute: {state.target} has {_list(weights)} already")
        return (Change(key=context.key(), primitive=self.name, target=state.target, to={"weights": weights}, expect=state.revision),)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return put_back(outcome)

    def describe(self, change: Change) -> str:
        return f"reroute {change.target} to {_list(change.to['weights'])}"


def _shares(named: dict[str, float], current: dict[str, int]) -> dict[str, int]:
    rest = 100.0 - sum(named.values())
    if rest < 0:
        raise Refused(f"reroute: the shares given are {100 - rest:g}% together; at most 100% are allowed")
    others = {name: float(weight) for name, weight in current.items() if name not in named and name != "champion"}
    total = sum(others.values())
    if "champion" in current and "champion" not in named:
        scale = min(1.0, rest / total) if total else 1.0
        shares = {**named, **{name: weight * scale for name, weight in others.items()}}
        shares["champion"] = 100.0 - sum(shares.values())
    elif total:
        shares = {**named, **{name: weight * rest / total for name, weight in others.items()}}
    elif rest:
        raise Refused(f"reroute: the shares given are {100 - rest:g}% together, and no other role has traffic to take the rest")
    else:
        shares = {**named, **others}
    return _whole({name: shares.get(name, 0.0) for name in current})


def _whole(shares: dict[str, float]) -> dict[str, int]:
    # largest remainder: whole numbers that keep the sum
    weights = {name: int(share + 1e-9) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (weights[name] - shares[name], name))
    for name in by_remainder[: 100 - sum(weights.values())]:
        weights[name] += 1
    return weights


def _list(weights: dict[str, int]) -> str:
    return ", ".join(f"{name} {weight}%" for name, weight in weights.items())
