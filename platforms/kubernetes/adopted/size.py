"""How much the pods of an adopted workload get: what one of its containers requests, and its limits. Pure."""

import math
from typing import Any

from autonomic.platforms.host.intents import Refused
from autonomic.platforms.kubernetes.adopted.ownership import Path, in_list
from autonomic.platforms.kubernetes.facts import quantity
from autonomic.workflows.spec.workflow import Adopt, Resources, Size

Amounts = dict[str, dict[str, str]]
"""Quantities as a container has them: `{requests: {cpu, memory}, limits: {cpu, memory}}`; 0 counts as not said."""
_PARTS = ("requests", "limits")
# which of the two says how much a container has, where it has both
_TELLING = {"cpu": ("requests", "limits"), "memory": ("limits", "requests")}


def container_of(adopt: Adopt, item: dict[str, Any]) -> dict[str, Any] | None:
    """The container that is resized, None where the workload does not have it."""
    containers = item["spec"]["template"]["spec"]["containers"]
    return next((each for each in containers if adopt.container in (None, each["name"])), None)


def amounts_of(container: dict[str, Any]) -> Amounts:
    """What a container says of CPU and memory."""
    said = {part: container.get("resources", {}).get(part) or {} for part in _PARTS}
    return {part: {name: str(each[name]) for name in _TELLING if quantity(str(each.get(name, 0)))} for part, each in said.items()}


def resources_of(adopt: Adopt, amounts: Amounts) -> Resources:
    """How much it has (cores, bytes), between the bounds of the workflow; where it is outside of them they reach to it."""
    size = {name: _amount(name, amounts) for name in _TELLING}
    low, high = dict[str, float](), dict[str, float]()
    for name, now in size.items():
        if now is not None:
            least, most = (getattr(end, name) for end in (adopt.resources.min, adopt.resources.max))
            low[name], high[name] = min(now, now if least is None else least), max(now, now if most is None else most)
    return Resources.model_validate({"cpu": size["cpu"] or 0, "memory": size["memory"], "min": low, "max": high})


def unbound(adopt: Adopt, amounts: Amounts) -> list[str]:
    """Of what there are bounds, but which the container does not say."""
    bounded = {name for end in (adopt.resources.min, adopt.resources.max) for name in _TELLING if getattr(end, name) is not None}
    return sorted(name for name in bounded if _amount(name, amounts) is None)


def resized(amounts: Amounts, size: dict[str, Any]) -> Amounts:
    """The quantities that change for another size; requests and limits keep their proportion."""
    changed: Amounts = {}
    for name in _TELLING:
        now, wanted = _amount(name, amounts), size.get(name)
        if now is None or wanted is None or wanted == now:
            continue
        for part in _PARTS:
            if name in amounts[part]:
                changed.setdefault(part, {})[name] = _written(name, quantity(amounts[part][name]) * wanted / now)
    return changed


def checked(amounts: Any, now: Amounts) -> Amounts:
    """Quantities that a change names, such as a revert.

    Raises:
        Refused: they are none, or of something that the container does not say.
    """
    try:
        given = {part: {name: str(text) for name, text in each.items() if quantity(text) > 0} for part, each in amounts.items()}
    except (AttributeError, TypeError, ValueError):
        given = None
    if given is None or given != amounts or any(name not in now.get(part, {}) for part, each in given.items() for name in each):
        raise Refused(f"resize got the amounts {amounts!r}; give quantities of what is there: {now}")
    return amounts


def same(amounts: Amounts, now: Amounts) -> bool:
    """Whether a container has these quantities, however they are written."""
    return all(quantity(text) == quantity(now[part][name]) for part, each in amounts.items() for name, text in each.items())


def fields(container: str, amounts: Amounts) -> dict[Path, str]:
    """The fields of the workload at which quantities of a container stand."""
    at = ("spec", "template", "spec", "containers", in_list(container), "resources")
    return {(*at, part, name): text for part, each in amounts.items() for name, text in each.items()}


def size_of(amounts: Amounts) -> dict[str, Any]:
    """The size that quantities stand for; what they do not say is left out."""
    said = {name: _amount(name, {part: amounts.get(part, {}) for part in _PARTS}) for name in _TELLING}
    return Size.model_validate({name: value for name, value in said.items() if value is not None}).model_dump(exclude_none=True)


def _amount(name: str, amounts: Amounts) -> float | None:
    said = next((amounts[part][name] for part in _TELLING[name] if name in amounts[part]), None)
    if said is None:
        return None
    return quantity(said) if name == "cpu" else int(quantity(said))


def _written(name: str, amount: float) -> str:
    if name == "cpu":
        return f"{math.ceil(round(amount * 1000, 6))}m"
    whole, rest = divmod(round(amount), 2**20)
    return str(round(amount)) if rest else f"{whole}Mi"
