"""What scales a workload already: an HPA, or the KEDA object that made one. It is tuned, and the workload is left to it."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from autonomic.platforms.host.intents import Refused
from autonomic.platforms.kubernetes.adopted import ownership
from autonomic.platforms.kubernetes.adopted.taken import Owned
from autonomic.platforms.kubernetes.facts import quantity
from autonomic.platforms.kubernetes.objects.api import AUTOSCALERS, SCALED_OBJECTS, Api, Resource
from autonomic.seams.word import Word

_MIN, _MAX = "min", "max"
# what KEDA takes where a ScaledObject does not say
_KEDA_MAX = 100


class Target(Word):
    """The value at which a metric is kept: in which item of the list it stands, under which keys, and how it is written there."""

    index: int
    keys: tuple[str, ...]
    form: Literal["percent", "quantity", "number"]
    value: float

    def rounded(self, value: float) -> float:
        """The value as it can be written: whole percents, thousandths of a quantity."""
        digits = {"percent": 0, "quantity": 3}.get(self.form)
        return value if digits is None else round(value, digits)

    def written(self, value: float) -> Any:
        """The value as its object has it."""
        if self.form == "percent":
            return int(value)
        if value == int(value):
            return str(int(value))
        return repr(float(value)) if self.form == "number" else f"{round(value * 1000)}m"


class Scaler(Owned):
    """What scales a workload between two bounds; `paths` say where they stand.

    `targets` are the values of its metrics by the metric's name, which stand in the list `metrics` at `metrics_path`.
    """

    paths: dict[str, tuple[str, ...]]
    bounds: dict[str, int]
    metrics_path: tuple[str, ...]
    metrics: tuple[dict[str, Any], ...]
    targets: dict[str, Target]

    @property
    def object(self) -> Owned:
        """Which object it is."""
        return Owned.model_validate(self.model_dump(include=set(Owned.model_fields)))

    def retargeted(self, metric: str, value: float) -> list[dict[str, Any]]:
        """The list of metrics with another value for one of them."""
        metrics, target = copy.deepcopy(list(self.metrics)), self.targets[metric]
        item = metrics[target.index]
        for key in target.keys[:-1]:
            item = item[key]
        item[target.keys[-1]] = target.written(value)
        return metrics

    def bounds_for(self, replicas: int, now: int) -> dict[str, int]:
        """The bounds with which a workload that has `now` replicas comes to `replicas`.

        More are had at once, as the least that there may be. Fewer are allowed and not forced: what its metric asks for stays.
        """
        low, high = self.bounds[_MIN], self.bounds[_MAX]
        low = min(low, replicas) if replicas <= now else replicas
        return {_MIN: low, _MAX: max(high, replicas)}

    def checked(self, bounds: Any) -> dict[str, int]:
        """Bounds that a change names.

        Raises:
            Refused: they are none.
        """
        good = isinstance(bounds, dict) and bounds.keys() == {_MIN, _MAX} and all(type(value) is int for value in bounds.values())
        if not good or not 0 <= bounds[_MIN] <= bounds[_MAX]:
            raise Refused(f"rescale got the bounds {bounds!r}; give whole numbers, such as {{'min': 1, 'max': 3}}")
        return dict(bounds)


class Scalers:
    """Looks for what scales workloads."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def of(self, kind: str, name: str) -> Scaler | None:
        """What scales the workload of this kind and name, None where nothing does."""
        scaled = self._api.list(SCALED_OBJECTS, "")[0] if self._api.serves(SCALED_OBJECTS) else []
        for item in scaled:
            target = item["spec"]["scaleTargetRef"]
            if (target.get("kind", "Deployment"), target["name"]) == (kind, name):
                return _scaler(
                    item, SCALED_OBJECTS, "ScaledObject", "keda.sh/v1alpha1", ("minReplicaCount", 0), ("maxReplicaCount", _KEDA_MAX)
                )
        for item in self._api.list(AUTOSCALERS, "")[0]:
            target = item["spec"]["scaleTargetRef"]
            if (target["kind"], target["name"]) == (kind, name):
                return _scaler(item, AUTOSCALERS, "HorizontalPodAutoscaler", "autoscaling/v2", ("minReplicas", 1), ("maxReplicas", 1))
        return None


def _scaler(item: dict[str, Any], resource: Resource, kind: str, version: str, low: tuple[str, int], high: tuple[str, int]) -> Scaler:
    paths = {_MIN: ("spec", low[0]), _MAX: ("spec", high[0])}
    found = {_MIN: ownership.value_of(item, paths[_MIN]), _MAX: ownership.value_of(item, paths[_MAX])}
    bounds = {_MIN: low[1] if found[_MIN] is None else found[_MIN], _MAX: high[1] if found[_MAX] is None else found[_MAX]}
    listed = "triggers" if kind == "ScaledObject" else "metrics"
    metrics = tuple(item["spec"].get(listed) or ())
    return Scaler(
        resource=resource,
        kind=kind,
        version=version,
        name=item["metadata"]["name"],
        paths=paths,
        bounds=bounds,
        metrics_path=("spec", listed),
        metrics=metrics,
        targets=targets_of(metrics),
    )


def targets_of(metrics: tuple[dict[str, Any], ...]) -> dict[str, Target]:
    """The values at which the metrics of an HPA, or the triggers of a ScaledObject, are kept. Pure.

    Where two have one name, the second is NAME-1 for its place in the list; one without a value that is a number is left out.
    """
    found: dict[str, Target] = {}
    for index, metric in enumerate(metrics):
        target = next(_targets(index, metric), None)
        if target is not None:
            name = _name(metric)
            found[f"{name}-{index}" if name in found else name] = target
    return found


def _name(metric: Mapping[str, Any]) -> str:
    if "metadata" in metric:
        return str(metric.get("name") or metric["type"])
    source = _source(metric)
    return str(source.get("name") or source.get("metric", {}).get("name"))


def _source(metric: Mapping[str, Any]) -> Mapping[str, Any]:
    # the source of a metric stands under its type: Resource under resource
    kind = str(metric["type"])
    return metric[kind[0].lower() + kind[1:]]


def _targets(index: int, metric: Mapping[str, Any]) -> Iterator[Target]:
    if "metadata" in metric:
        for key in ("threshold", "value"):
            value = _number(metric["metadata"].get(key))
            if value is not None:
                yield Target(index=index, keys=("metadata", key), form="number", value=value)
        return
    kind = str(metric["type"])
    source, within = _source(metric), (kind[0].lower() + kind[1:], "target")
    if "averageUtilization" in source["target"]:
        yield Target(index=index, keys=(*within, "averageUtilization"), form="percent", value=float(source["target"]["averageUtilization"]))
    for key in ("averageValue", "value"):
        if key in source["target"]:
            yield Target(index=index, keys=(*within, key), form="quantity", value=quantity(source["target"][key]))


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
