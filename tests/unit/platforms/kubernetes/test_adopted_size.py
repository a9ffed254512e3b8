from typing import Any

import pytest

from autonomic.platforms.host.intents import Refused
from autonomic.platforms.kubernetes.adopted import size as adopted_size
from autonomic.workflows.spec.workflow import Adopt

MIB = 2**20
SAID = {"requests": {"cpu": "250m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}


def adopt(container: str | None = None, **bounds: dict[str, Any]) -> Adopt:
    return Adopt.model_validate({"deployment": "web", "container": container, "resources": bounds})


def workload(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": list(containers)}}}}


def test_the_container_is_the_one_that_is_named_else_the_first() -> None:
    item = workload({"name": "web"}, {"name": "proxy"})
    assert adopted_size.container_of(adopt(), item) == {"name": "web"}
    assert adopted_size.container_of(adopt("proxy"), item) == {"name": "proxy"}
    assert adopted_size.container_of(adopt("other"), item) is None


@pytest.mark.parametrize(
    ("said", "size"),
    [
        (SAID, {"cpu": 0.25, "memory": 256 * MIB}),
        ({"requests": {"memory": "64Mi"}}, {"cpu": 0, "memory": 64 * MIB}),
        ({"limits": {"cpu": "2"}}, {"cpu": 2, "memory": None}),
        ({}, {"cpu": 0, "memory": None}),
        ({"requests": {"cpu": "0", "memory": "0"}, "limits": {"cpu": "2"}}, {"cpu": 2, "memory": None}),
    ],
)
def test_cpu_is_what_is_requested_and_memory_is_the_limit_else_the_other_of_both(said: dict[str, Any], size: dict[str, Any]) -> None:
    found = adopted_size.resources_of(adopt(), adopted_size.amounts_of({"name": "web", "resources": said}))
    assert found.size == {**size, "gpu": 0}


def test_it_stays_within_what_is_declared_and_else_where_it_is() -> None:
    found = adopted_size.resources_of(adopt(max={"memory": "1Gi"}), SAID)
    assert found.bounds("memory") == (256 * MIB, 1024 * MIB)
    assert found.bounds("cpu") == (0.25, 0.25)
    # somebody gave it more than we may
    assert adopted_size.resources_of(adopt(max={"memory": "128Mi"}), SAID).bounds("memory") == (256 * MIB, 256 * MIB)


def test_requests_and_limits_keep_their_proportion_and_what_stays_is_not_written() -> None:
    wanted = {"cpu": 0.25, "memory": 512 * MIB}
    assert adopted_size.resized(SAID, wanted) == {"requests": {"memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    assert adopted_size.resized({"requests": {}, "limits": {"memory": "3"}}, {"memory": 5}) == {"limits": {"memory": "5"}}
    assert adopted_size.resized(SAID, {"cpu": 0.3}) == {"requests": {"cpu": "300m"}}
    assert adopted_size.resized(SAID, {"cpu": 0.25, "memory": None}) == {}


def test_what_is_nothing_is_not_there_to_be_resized() -> None:
    nothing = adopted_size.amounts_of({"name": "web", "resources": {"requests": {"cpu": "0"}, "limits": {"cpu": 2}}})
    assert nothing == {"requests": {}, "limits": {"cpu": "2"}}
    assert adopted_size.resized(nothing, {"cpu": 3}) == {"limits": {"cpu": "3000m"}}
    assert adopted_size.resized(adopted_size.amounts_of({"name": "web", "resources": {"requests": {"cpu": "0"}}}), {"cpu": 3}) == {}


def test_bounds_of_what_a_container_does_not_say_are_told() -> None:
    assert adopted_size.unbound(adopt(max={"memory": "1Gi"}, min={"cpu": "1"}), {"requests": {}, "limits": {}}) == ["cpu", "memory"]
    assert adopted_size.unbound(adopt(max={"memory": "1Gi"}), SAID) == []


@pytest.mark.parametrize(
    "given", [None, 3, {"requests": 3}, {"requests": {"cpu": "much"}}, {"limits": {"cpu": "1"}}, {"requests": {"cpu": "0"}}]
)
def test_amounts_that_are_none_or_of_something_else_are_refused(given: Any) -> None:
    with pytest.raises(Refused, match="give quantities of what is there"):
        adopted_size.checked(given, SAID)


def test_amounts_are_the_same_however_they_are_written() -> None:
    assert adopted_size.same({"limits": {"memory": str(256 * MIB)}}, SAID)
    assert not adopted_size.same({"limits": {"memory": "257Mi"}}, SAID)
    assert adopted_size.size_of({"limits": {"memory": "256Mi"}}) == {"memory": 256 * MIB}


def test_a_field_stands_in_the_container_of_its_name() -> None:
    at = ("spec", "template", "spec", "containers", 'k:{"name":"web"}', "resources")
    assert adopted_size.fields("web", {"limits": {"memory": "1Gi"}}) == {(*at, "limits", "memory"): "1Gi"}
