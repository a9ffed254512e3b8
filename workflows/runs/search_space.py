"""The space of a search in Optuna's words."""

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from autonomic.seams.errors import Permanent
from autonomic.workflows.runs.search_records import SearchRequest, Space, Trial


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The space as Optuna's distributions. A choice is searched by its index, so that its values may be of any type.

    Raises:
        Permanent: a domain is not one of those known, or its bounds are no bounds.
    """
    found: dict[str, BaseDistribution] = {}
    for name, domain in space.items():
        try:
            ((kind, values),) = domain.items()
            if kind == "choice":
                found[name] = CategoricalDistribution(range(len(values)))
            else:
                low, high = values
                found[name] = _interval(kind, low, high)
        except (ValueError, TypeError, KeyError) as error:
            raise Permanent(f"the domain {domain!r} of {name!r} cannot be searched: {error}") from None
    return found


def decode(space: Space, point: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a point that Optuna suggested."""
    return {name: space[name]["choice"][value] if "choice" in space[name] else value for name, value in point.items()}


def encode(space: Space, parameters: dict[str, Any]) -> dict[str, Any] | None:
    """The point of parameters; None where they are not in the space."""
    point: dict[str, Any] = {}
    for name, distribution in distributions(space).items():
        value = parameters.get(name)
        if "choice" in space[name]:
            if value not in space[name]["choice"]:
                return None
            point[name] = space[name]["choice"].index(value)
        elif isinstance(value, bool) or not isinstance(value, int | float) or not distribution._contains(value):
            return None
        else:
            point[name] = value
    return point


def known_points(request: SearchRequest, trials: Sequence[Trial]) -> tuple[list[dict[str, Any]], list[tuple[dict[str, Any], float]]]:
    """What a search begins with, anew or after a restart: the points to try first, and those whose value is known.

    A new search tries the workflow's own parameters first, where they lie in the space; one that goes on takes its unfinished
    trials up.
    """
    points = [(trial, encode(request.space, trial.parameters)) for trial in trials]
    valued = [(point, trial.value) for trial, point in points if point is not None and trial.value is not None]
    if trials:
        return [point for trial, point in points if point is not None and not trial.finished], valued
    default = encode(request.space, request.defaults)
    return [] if default is None else [default], valued


def quiet_optuna() -> None:
    """No line for each trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _interval(kind: str, low: Any, high: Any) -> BaseDistribution:
    if kind == "integer":
        return IntDistribution(low, high)
    if kind in ("uniform", "loguniform"):
        return FloatDistribution(low, high, log=kind == "loguniform")
    raise KeyError(f"{kind} is not one of choice, uniform, loguniform, integer")
