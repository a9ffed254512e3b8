"""Traffic split by an HTTPRoute of the Gateway API: against the real definitions, which no controller follows here."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from autonomic.cli.embedded.kubernetes import gateway_api
from autonomic.seams.plan import Outcome

ROUTE = {"gateway": "public", "namespace": "infra", "section": "https", "hostnames": ["mnist.example.com"]}


class Web:
    """An online workflow `routed` with the service `api`."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster

    def apply(self, primitive: str, target: str, to: dict[str, Any]) -> Outcome:
        return self.cluster.apply(primitive, target, to)

    def deploy(self, **words: Any) -> Outcome:
        models = {"model": self.cluster.model("one"), "canary": self.cluster.model("two")}
        api = {"name": "api", **models, "traffic": {"canary": "10%"}, "log": False, **words}
        head = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "routed"}}
        return self.apply("deploy", "routed", {"spec": {**head, "spec": {"type": "online", "services": [api]}}, "package": ""})

    def route(self) -> dict[str, Any] | None:
        found = json.loads(self.cluster.kubectl("get", "httproutes", "-o", "json"))["items"]
        return next((each for each in found if each["metadata"]["name"] == "routed-api"), None)

    def weights(self) -> dict[str, int]:
        """The weight of each role, by the Service that the route names for it."""
        route = self.route()
        assert route is not None
        (rule,) = route["spec"]["rules"]
        given = {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}
        services = json.loads(self.cluster.kubectl("get", "services", "-l", "autonomic.dev/workflow=routed", "-o", "json"))["items"]
        roles = {each["metadata"]["name"]: each["metadata"]["labels"].get("autonomic.dev/role") for each in services}
        return {roles[name]: weight for name, weight in given.items()}


@pytest.fixture(scope="module")
def web(light_cluster: Any) -> Iterator[Web]:
    web = Web(light_cluster)
    yield web
    assert web.apply("delete", "routed", {}).status in ("done", "unchanged")


@pytest.fixture(scope="module")
def routes(web: Web) -> Iterator[None]:
    """The definitions of the Gateway API, where the cluster has none of its own."""
    if "httproutes" in web.cluster.kubectl("api-resources", "--api-group=gateway.networking.k8s.io"):
        yield
        return
    run = web.cluster._run_kubectl
    run("create", "-f", "-", text=gateway_api.definitions())
    run("wait", "--for=condition=Established", "crd/httproutes.gateway.networking.k8s.io", "--timeout=60s")
    yield
    run("delete", "-f", "-", "--wait=false", text=gateway_api.definitions())


def test_without_the_gateway_api_a_route_is_refused_and_nothing_is_made(web: Web) -> None:
    if "httproutes" in web.cluster.kubectl("api-resources", "--api-group=gateway.networking.k8s.io"):
        pytest.skip("THE REFUSAL IS NOT TESTED: the cluster that was given knows HTTPRoutes")
    refused = web.deploy(route=ROUTE)
    assert refused.status == "refused"
    assert "the cluster does not know gateway.networking.k8s.io/v1; install the Gateway API" in refused.detail
    assert web.cluster.platform.observe("routed").kind == "absent"
    assert not json.loads(web.cluster.kubectl("get", "deployments", "-l", "autonomic.dev/workflow=routed", "-o", "json"))["items"]


@pytest.mark.usefixtures("routes")
def test_the_weights_of_a_service_are_carried_by_its_route(web: Web) -> None:
    foreign = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "routed-api", "namespace": web.cluster.settings.namespace},
        "spec": {"parentRefs": [{"name": "theirs"}]},
    }
    web.cluster._run_kubectl("create", "-f", "-", text=json.dumps(foreign))
    refused = web.deploy(route=ROUTE)
    assert (refused.status, "a HTTPRoute named routed-api" in refused.detail) == ("refused", True)
    web.cluster.kubectl("delete", "httproute", "routed-api")

    done = web.deploy(route=ROUTE)
    assert done.status == "done", done.detail
    route = web.route()
    assert route is not None
    (parent,) = route["spec"]["parentRefs"]
    assert {key: parent[key] for key in ("name", "namespace", "sectionName")} == {
        "name": "public",
        "namespace": "infra",
        "sectionName": "https",
    }
    assert route["spec"]["hostnames"] == ["mnist.example.com"]
    (rule,) = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/routed/api"}}]
    assert web.weights() == {"champion": 90, "canary": 10}

    before = route["metadata"]["resourceVersion"]
    rerouted = web.apply("reroute", "routed/api", {"weights": {"champion": 60, "canary": 40}})
    assert rerouted.status == "done"
    assert web.weights() == {"champion": 60, "canary": 40}
    again = web.apply("reroute", "routed/api", {"weights": {"champion": 60, "canary": 40}})
    assert again.status == "unchanged"
    assert web.apply("reroute", "routed/api", rerouted.before).status == "done"
    assert web.weights() == {"champion": 90, "canary": 10}
    # nothing is written while nothing changes, also by another writer
    web.cluster.restart()
    version = web.route()["metadata"]["resourceVersion"]  # type: ignore[index]
    assert version != before
    time.sleep(2)
    assert web.route()["metadata"]["resourceVersion"] == version  # type: ignore[index]


@pytest.mark.usefixtures("routes")
def test_a_new_version_is_routed_to_when_it_is_there_and_the_route_goes_with_its_word(web: Web) -> None:
    assert web.deploy(route=ROUTE).status in ("done", "unchanged")
    old = {backend["name"] for backend in web.route()["spec"]["rules"][0]["backendRefs"]}  # type: ignore[index]
    assert web.apply("upgrade", "routed/api", {"models": {"champion": web.cluster.model("three"), "canary": ""}}).status == "done"
    assert web.weights() == {"champion": 100}
    (new,) = (backend["name"] for backend in web.route()["spec"]["rules"][0]["backendRefs"])  # type: ignore[index]
    assert new not in old
    assert web.deploy(canary=None, traffic={}).status == "done"
    deadline = time.monotonic() + 120
    while web.route() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
