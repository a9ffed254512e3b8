from typing import Any

from autonomic.platforms.kubernetes.adopted.scalers import targets_of

HPA: tuple[dict[str, Any], ...] = (
    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
    {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "a", "target": {"averageUtilization": 70}}},
    {"type": "Pods", "pods": {"metric": {"name": "requests"}, "target": {"type": "AverageValue", "averageValue": "500m"}}},
    {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "2k"}}},
    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
)
KEDA: tuple[dict[str, Any], ...] = (
    {"type": "prometheus", "metadata": {"query": "up", "threshold": "100.5"}},
    {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}},
    {"type": "prometheus", "name": "waiting", "metadata": {"threshold": "3"}},
    {"type": "cron", "metadata": {"start": "0 8 * * *", "desiredReplicas": "3"}},
    {"type": "prometheus", "metadata": {"threshold": "7"}},
    {"type": "kafka", "metadata": {"threshold": "not a number"}},
)


def test_the_targets_of_an_autoscaler_are_known_by_their_metrics() -> None:
    found = targets_of(HPA)
    assert {name: target.value for name, target in found.items()} == {
        "cpu": 80,
        "cpu-1": 70,
        "requests": 0.5,
        "queue": 2000,
        "memory": 2**30,
    }


def test_the_targets_of_a_scaled_object_are_known_by_their_triggers() -> None:
    found = targets_of(KEDA)
    assert {name: target.value for name, target in found.items()} == {"prometheus": 100.5, "cpu": 60, "waiting": 3, "prometheus-4": 7}


def test_values_are_written_as_their_objects_have_them() -> None:
    hpa, keda = targets_of(HPA), targets_of(KEDA)
    assert hpa["cpu"].written(hpa["cpu"].rounded(71.6)) == 72
    assert hpa["requests"].written(hpa["requests"].rounded(0.75)) == "750m"
    assert hpa["queue"].written(hpa["queue"].rounded(3_000_000.0)) == "3000000"
    assert hpa["memory"].written(2.0**31) == "2147483648"
    assert keda["prometheus"].written(keda["prometheus"].rounded(0.25)) == "0.25"
