import pytest

from autonomic.workflows.platforms.base.intents import Refused
from autonomic.workflows.platforms.kubernetes.api import AUTOSCALERS
from autonomic.workflows.platforms.kubernetes.scalers import Scaler

SCALER = Scaler(
    resource=AUTOSCALERS,
    kind="HorizontalPodAutoscaler",
    version="autoscaling/v2",
    name="a",
    paths={"min": ("spec", "minReplicas"), "max": ("spec", "maxReplicas")},
    bounds={"min": 2, "max": 5},
)


@pytest.mark.parametrize(
    ("replicas", "now", "bounds"),
    [
        (4, 3, {"min": 4, "max": 5}),
        (7, 3, {"min": 7, "max": 7}),
        (1, 3, {"min": 1, "max": 5}),
        (2, 3, {"min": 2, "max": 5}),
        (3, 3, {"min": 2, "max": 5}),
    ],
)
def test_more_is_had_at_once_and_less_is_allowed(replicas: int, now: int, bounds: dict[str, int]) -> None:
    assert SCALER.bounds_for(replicas, now) == bounds


@pytest.mark.parametrize("bounds", [None, {}, {"min": 1}, {"min": 3, "max": 2}, {"min": -1, "max": 2}, {"min": True, "max": 2}])
def test_bounds_that_are_none_are_refused(bounds: object) -> None:
    with pytest.raises(Refused, match="whole numbers"):
        SCALER.checked(bounds)
