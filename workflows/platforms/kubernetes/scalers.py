"""What scales a workload already: an HPA, or the KEDA object that made one. Its bounds are tuned, and the workload is left to it."""

from typing import Any

from autonomic.seams.word import Word
from autonomic.workflows.platforms.base.intents import Refused
from autonomic.workflows.platforms.kubernetes import ownership
from autonomic.workflows.platforms.kubernetes.api import AUTOSCALERS, SCALED_OBJECTS, Api, Resource

_MIN, _MAX = "min", "max"
# what KEDA takes where a ScaledObject does not say
_KEDA_MAX = 100


class Workload(Word):
    """An object of which fields are written."""

    resource: Resource
    kind: str
    version: str
    name: str


class Scaler(Workload):
    """What scales a workload between two bounds; `paths` say where they stand."""

    paths: dict[str, tuple[str, ...]]
    bounds: dict[str, int]

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
    return Scaler(resource=resource, kind=kind, version=version, name=item["metadata"]["name"], paths=paths, bounds=bounds)
