"""Workloads that somebody else made, on a real cluster: only what is changed becomes ours, and is given back."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from autonomic.platforms.kubernetes.platform import KubernetesPlatform
from autonomic.seams.plan import Outcome

# what a ScaledObject of KEDA has of what we write; the real definition has more
SCALED_OBJECTS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "scope": "Namespaced",
        "names": {"kind": "ScaledObject", "listKind": "ScaledObjectList", "plural": "scaledobjects", "singular": "scaledobject"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["scaleTargetRef", "triggers"],
                                "properties": {
                                    "minReplicaCount": {"type": "integer", "format": "int32"},
                                    "maxReplicaCount": {"type": "integer", "format": "int32"},
                                    "scaleTargetRef": {
                                        "type": "object",
                                        "required": ["name"],
                                        "properties": {"kind": {"type": "string"}, "name": {"type": "string"}},
                                    },
                                    "triggers": {
                                        "type": "array",
                                        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                    },
                                },
                            }
                        },
                    }
                },
            }
        ],
    },
}


class World:
    """The platform, and the cluster as its users have it."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster

    @property
    def platform(self) -> KubernetesPlatform:
        return self.cluster.platform

    def apply(self, primitive: str, target: str, to: dict[str, Any]) -> Outcome:
        return self.cluster.apply(primitive, target, to)

    def rescale(self, target: str, replicas: int) -> Outcome:
        return self.apply("rescale", target, {"role": "champion", "replicas": replicas})

    def retarget(self, target: str, metric: str, value: float) -> Outcome:
        return self.apply("retarget", target, {"metric": metric, "value": value})

    def resize(self, target: str, **size: float) -> Outcome:
        return self.apply("resize", target, {"resources": size})

    def adopt(self, name: str, most: int = 3, **what: Any) -> Outcome:
        spec = {"type": "online", "adopt": {**what, "replicas": {"min": 1, "max": most}}}
        document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}
        return self.apply("deploy", name, {"spec": document, "package": ""})

    def make(self, *items: dict[str, Any], manager: str = "their-tool") -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(items)}
        options = ("apply", "--server-side", "--field-manager", manager, "--namespace", self.cluster.settings.namespace, "-f", "-")
        self.cluster._run_kubectl(*options, text=json.dumps(listed))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return json.loads(self.cluster.kubectl("get", kind, name, "-o", "json", "--show-managed-fields"))


def workload(kind: str, name: str, resources: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Pods that sleep, as their makers declare them."""
    container = {"name": "main", "image": "autonomic.local/host:1", "command": ["sleep", "600"], "imagePullPolicy": "Never"}
    resources = resources or {"requests": {"cpu": "1m"}}
    pod = {"containers": [{**container, "resources": resources}], "terminationGracePeriodSeconds": 0}
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    if kind == "Job":
        made = {"template": {**template, "spec": {**pod, "restartPolicy": "Never"}}, **spec}
        return {"apiVersion": "batch/v1", "kind": kind, "metadata": {"name": name}, "spec": made}
    more = {"serviceName": name} if kind == "StatefulSet" else {}
    made = {"selector": {"matchLabels": {"app": name}}, "template": template, **more, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": made}


def owners(item: dict[str, Any], field: str) -> list[str]:
    found = [entry["manager"] for entry in item["metadata"]["managedFields"] if f"f:{field}" in entry["fieldsV1"].get("f:spec", {})]
    return sorted(found)


def container(item: dict[str, Any]) -> dict[str, Any]:
    (found,) = item["spec"]["template"]["spec"]["containers"]
    return found


def amounts_of(item: dict[str, Any], manager: str) -> dict[str, set[str]]:
    """Of which requests and limits of the container somebody is the owner."""
    found: dict[str, set[str]] = {}
    for entry in item["metadata"]["managedFields"]:
        of_pod = entry["fieldsV1"].get("f:spec", {}).get("f:template", {}).get("f:spec", {})
        of_container = of_pod.get("f:containers", {}).get('k:{"name":"main"}', {})
        if entry["manager"] == manager:
            for part, held in of_container.get("f:resources", {}).items():
                found.setdefault(part.removeprefix("f:"), set()).update(held)
    return found


def pods_with(world: World, name: str, memory: str) -> int:
    listed = json.loads(world.cluster.kubectl("get", "pods", "--selector", f"app={name}", "-o", "json"))["items"]
    ready = [
        pod for pod in listed if any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
    ]
    return sum(pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == memory for pod in ready)


def managers(item: dict[str, Any]) -> set[str]:
    return {entry["manager"] for entry in item["metadata"]["managedFields"]}


def everything_else(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item["spec"].items() if key not in ("replicas", "parallelism")}


def wait_until(condition: Callable[[], bool], within_seconds: float = 120) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_seconds} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def world(light_cluster: Any) -> Iterator[World]:
    world = World(light_cluster)
    # who applies with kubectl and says nothing of replicas, and who says how many there are
    world.make(workload("Deployment", "web", replicas=1), workload("StatefulSet", "db"), workload("Job", "crunch", parallelism=1))
    world.make(workload("Deployment", "scaled"))
    yield world
    light_cluster.kubectl("delete", "deployments/web", "deployments/scaled", "statefulsets/db", "jobs/crunch", "--wait=false")


# (kind, name, the field that is changed, whose it is before: db leaves it to its default)
WORKLOADS = [
    ("deployment", "web", "replicas", ["their-tool"]),
    ("statefulset", "db", "replicas", []),
    ("job", "crunch", "parallelism", ["their-tool"]),
]


@pytest.mark.parametrize(("kind", "name", "field", "before"), WORKLOADS)
def test_only_the_number_of_replicas_becomes_ours_and_is_given_back(
    world: World, kind: str, name: str, field: str, before: list[str]
) -> None:
    workflow, target = f"their-{name}", f"their-{name}/{name}"
    original = world.get(kind, name)
    assert owners(original, field) == before
    assert world.adopt(workflow, **{kind: name}).status == "done"
    # adopting alone writes nothing
    assert "autonomic" not in managers(world.get(kind, name))
    assert world.adopt(workflow, **{kind: name}).status == "unchanged"
    wait_until(lambda: _ready(world, target) == 1)

    outcome = world.rescale(target, 2)
    assert outcome.status == "done", outcome.detail
    assert outcome.before == {"role": "champion", "replicas": 1}
    changed = world.get(kind, name)
    assert (changed["spec"][field], owners(changed, field)) == (2, ["autonomic"])
    assert everything_else(changed) == everything_else(original)
    wait_until(lambda: _ready(world, target) == 2)
    assert world.rescale(target, 2).status == "unchanged"
    refused = world.rescale(target, 9)
    assert (refused.status, "1 to 3 are allowed" in refused.detail) == ("refused", True)
    none = world.retarget(target, "cpu", 60)
    assert (none.status, "is scaled by no metric" in none.detail) == ("refused", True)
    assert world.apply("upgrade", target, {"models": {"champion": "models:/m/1"}}).status == "refused"
    assert world.apply("rescale", target, outcome.before).status == "done"
    assert world.get(kind, name)["spec"][field] == 1

    # another writer finds what was taken, and whose it was
    world.rescale(target, 2)
    if kind == "deployment":
        world.cluster.restart()
    released = world.apply("delete", workflow, {})
    assert released.status == "done", released.detail
    after = world.get(kind, name)
    assert (after["spec"][field], owners(after, field)) == (2, before)
    assert world.platform.observe(workflow).kind == "absent"
    assert "autonomic" not in managers(after)


@pytest.mark.parametrize("kind", ["deployment", "statefulset"])
def test_only_the_amount_that_is_resized_becomes_ours_and_is_given_back(world: World, kind: str) -> None:
    name, workflow, target = f"{kind}-sized", f"{kind}-sizes", f"{kind}-sizes/{kind}-sized"
    resources = {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}
    world.make(workload({"deployment": "Deployment", "statefulset": "StatefulSet"}[kind], name, resources))
    wait_until(lambda: world.get(kind, name)["status"].get("readyReplicas") == 1)
    original = world.get(kind, name)
    bounds = {"max": {"memory": "256Mi"}}
    assert world.adopt(workflow, **{kind: name}, resources=bounds).status == "done"

    outcome = world.resize(target, memory=128 * 2**20)
    assert outcome.status == "done", outcome.detail
    found = world.get(kind, name)
    # what is requested keeps its share of the limit
    assert container(found)["resources"] == {"requests": {"cpu": "1m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}
    assert amounts_of(found, "autonomic") == {"requests": {"f:memory"}, "limits": {"f:memory"}}
    assert amounts_of(found, "their-tool") == {"requests": {"f:cpu"}}
    assert {**container(found), "resources": None} == {**container(original), "resources": None}
    wait_until(lambda: pods_with(world, name, "128Mi") == 1)
    assert world.platform.observe(target).spec["resources"]["memory"] == 128 * 2**20
    assert world.resize(target, memory=128 * 2**20).status == "unchanged"
    beyond = world.resize(target, memory=2**30)
    assert (beyond.status, "1Gi of memory; 128Mi to 256Mi are allowed" in beyond.detail) == ("refused", True)
    # nobody declared how far the CPU may go
    assert world.resize(target, cpu=1).status == "refused"

    # who changes it by hand after us is respected until it is adopted again, and may not hinder anything else
    world.cluster.kubectl("set", "resources", f"{kind}/{name}", "--limits=memory=96Mi")
    refused = world.resize(target, memory=192 * 2**20)
    assert refused.status == "refused"
    assert "changed spec.template.spec.containers[main].resources.limits.memory of the " in refused.detail
    assert world.rescale(target, 2).status == "done"
    assert world.rescale(target, 1).status == "done"
    assert container(world.get(kind, name))["resources"]["limits"] == {"memory": "96Mi"}
    assert world.adopt(workflow, **{kind: name}, resources=bounds).status == "done"

    reverted = world.apply("resize", target, outcome.before)
    assert reverted.status == "done", reverted.detail
    assert container(world.get(kind, name))["resources"] == resources
    assert world.resize(target, memory=128 * 2**20).status == "done"
    assert world.apply("delete", workflow, {}).status == "done"
    after = world.get(kind, name)
    assert container(after)["resources"]["limits"] == {"memory": "128Mi"}
    # each goes back to the one from whom it was taken last
    assert amounts_of(after, "their-tool") == {"requests": {"f:cpu", "f:memory"}}
    assert amounts_of(after, "kubectl-set") == {"limits": {"f:memory"}}
    assert "autonomic" not in managers(after)
    world.cluster.kubectl("delete", kind, name, "--wait=false")


def test_a_size_that_cannot_be_had_is_refused(world: World) -> None:
    assert world.adopt("sizes-of-web", deployment="web").status == "done"
    assert "none of it is declared" in world.resize("sizes-of-web/web", memory=2**20).detail
    assert world.apply("delete", "sizes-of-web", {}).status == "done"
    unsaid = world.adopt("sizes-of-web", deployment="web", resources={"max": {"memory": "1Gi"}})
    assert (unsaid.status, "bounds of memory" in unsaid.detail) == ("refused", True)
    other = world.adopt("sizes-of-web", deployment="web", container="sidecar")
    assert (other.status, "has no container sidecar; it has main" in other.detail) == ("refused", True)
    assert world.adopt("crunching", job="crunch").status == "done"
    fixed = world.resize("crunching/crunch", cpu=1)
    assert (fixed.status, "is a Job, whose pods keep the size" in fixed.detail) == ("refused", True)
    assert world.apply("delete", "crunching", {}).status == "done"


def test_a_workload_that_was_deleted_and_made_again_is_adopted_anew(world: World) -> None:
    world.make(workload("Deployment", "anew", replicas=1))
    assert world.adopt("renewed", deployment="anew").status == "done"
    assert world.rescale("renewed/anew", 2).status == "done"
    world.cluster.kubectl("delete", "deployment", "anew", "--wait=true")
    world.make(workload("Deployment", "anew", replicas=1))
    uid = world.get("deployment", "anew")["metadata"]["uid"]
    # nobody changed anything after us: of this object nothing was ours
    outcome = world.rescale("renewed/anew", 3)
    assert (outcome.status, outcome.before["replicas"]) == ("done", 1), outcome.detail
    assert owners(world.get("deployment", "anew"), "replicas") == ["autonomic"]

    def told() -> set[str]:
        found = json.loads(world.cluster.kubectl("get", "events", "-o", "json"))["items"]
        return {
            event["reason"]
            for event in found
            if event["involvedObject"].get("uid") == uid and event["source"].get("component") == "autonomic-host"
        }

    assert world.apply("delete", "renewed", {}).status == "done"
    wait_until(lambda: told() == {"Rescale", "Released"})
    # and it is given back to whoever made it, with the value that it has
    found = world.get("deployment", "anew")
    assert (owners(found, "replicas"), found["spec"]["replicas"]) == (["their-tool"], 3)
    world.cluster.kubectl("delete", "deployment", "anew")


def test_what_somebody_changes_by_hand_stays_until_it_is_adopted_again(world: World) -> None:
    assert world.adopt("hand", deployment="web").status == "done"
    first = world.get("deployment", "web")["spec"]["replicas"]
    assert world.rescale("hand/web", 3 if first != 3 else 2).status == "done"
    world.cluster.kubectl("scale", "deployment", "web", "--replicas=1")
    refused = world.rescale("hand/web", 2)
    assert refused.status == "refused"
    assert "kubectl changed spec.replicas of the Deployment web" in refused.detail
    assert world.get("deployment", "web")["spec"]["replicas"] == 1
    assert world.adopt("hand", deployment="web").status == "done"
    assert world.rescale("hand/web", 2).status == "done"
    # it is given back to the one from whom it was taken last
    assert world.apply("delete", "hand", {}).status == "done"
    assert owners(world.get("deployment", "web"), "replicas") == ["kubectl"]


def test_what_cannot_be_adopted_is_refused(world: World) -> None:
    missing = world.adopt("nothing", deployment="not-there")
    assert (missing.status, "There is no Deployment not-there" in missing.detail) == ("refused", True)
    assert world.platform.observe("nothing").kind == "absent"
    assert world.adopt("one", deployment="web").status == "done"
    twice = world.adopt("two", deployment="web")
    assert (twice.status, "adopted by one" in twice.detail) == ("refused", True)
    assert world.rescale("one/other", 2).status == "refused"
    assert world.apply("delete", "one", {}).status == "done"


def test_an_autoscaler_is_tuned_and_the_workload_left_to_it(world: World) -> None:
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "scaled"}
    spec = {"minReplicas": 1, "maxReplicas": 2, "scaleTargetRef": target, "metrics": [metric]}
    world.make({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "their-hpa"}, "spec": spec})
    assert world.adopt("auto", most=5, deployment="scaled").status == "done"
    outcome = world.rescale("auto/scaled", 3)
    assert outcome.status == "done", outcome.detail
    assert outcome.before["bounds"] == {"min": 1, "max": 2}
    hpa = world.get("hpa", "their-hpa")
    assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]) == (3, 3)
    assert owners(hpa, "metrics") == ["their-tool"]
    wait_until(lambda: world.get("deployment", "scaled")["spec"]["replicas"] == 3)
    assert "autonomic" not in owners(world.get("deployment", "scaled"), "replicas")
    assert world.rescale("auto/scaled", 3).status == "unchanged"
    # the value of its metric, whose list is one field to Kubernetes
    assert world.platform.observe("auto/scaled").spec["targets"] == {"cpu": 80}
    retargeted = world.retarget("auto/scaled", "cpu", 60.4)
    assert (retargeted.status, retargeted.before, retargeted.after) == (
        "done",
        {"metric": "cpu", "value": 80},
        {"metric": "cpu", "value": 60},
    )
    hpa = world.get("hpa", "their-hpa")
    (held,) = hpa["spec"]["metrics"]
    assert held == {**metric, "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}
    assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"], owners(hpa, "metrics")) == (3, 3, ["autonomic"])
    assert world.retarget("auto/scaled", "cpu", 60).status == "unchanged"
    refused = world.retarget("auto/scaled", "memory", 60)
    assert (refused.status, "is scaled by cpu" in refused.detail) == ("refused", True)
    assert world.apply("retarget", "auto/scaled", retargeted.before).status == "done"
    assert world.get("hpa", "their-hpa")["spec"]["metrics"] == [metric]
    # what the API server refuses leaves nothing behind
    none = world.apply("rescale", "auto/scaled", {"role": "champion", "replicas": 3, "bounds": {"min": 1, "max": 0}})
    assert none.status == "refused"
    none = world.apply("rescale", "auto/scaled", {"role": "champion", "replicas": 3, "bounds": {"min": 0, "max": 0}})
    assert (none.status, "Kubernetes refuses" in none.detail) == ("failed", True)
    # fewer are allowed, and not forced
    less = world.rescale("auto/scaled", 2)
    assert less.status == "done", less.detail
    hpa = world.get("hpa", "their-hpa")
    assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]) == (2, 3)
    assert world.apply("rescale", "auto/scaled", outcome.before).status == "done"
    hpa = world.get("hpa", "their-hpa")
    assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]) == (1, 2)
    assert world.apply("delete", "auto", {}).status == "done"
    assert owners(world.get("hpa", "their-hpa"), "minReplicas") == ["their-tool"]
    assert owners(world.get("hpa", "their-hpa"), "metrics") == ["their-tool"]
    world.cluster.kubectl("delete", "hpa", "their-hpa")


def test_a_scaled_object_of_keda_is_tuned_instead_of_the_autoscaler_that_it_makes(world: World) -> None:
    run = world.cluster._run_kubectl
    run("apply", "-f", "-", text=json.dumps(SCALED_OBJECTS))
    try:
        run("wait", "--for=condition=Established", "crd/scaledobjects.keda.sh", "--timeout=60s")
        trigger = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "80"}}
        spec = {"scaleTargetRef": {"name": "scaled"}, "maxReplicaCount": 2, "triggers": [trigger]}
        world.make({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "their-keda"}, "spec": spec})
        assert world.adopt("keda", most=9, deployment="scaled").status == "done"
        now = world.get("deployment", "scaled")["spec"]["replicas"]
        outcome = world.rescale("keda/scaled", now + 2)
        assert outcome.status == "done", outcome.detail
        # what KEDA takes where nothing is said
        assert outcome.before["bounds"] == {"min": 0, "max": 2}
        found = world.get("scaledobject", "their-keda")
        assert (found["spec"]["minReplicaCount"], found["spec"]["maxReplicaCount"]) == (now + 2, now + 2)
        assert found["spec"]["triggers"] == [trigger]
        assert world.retarget("keda/scaled", "cpu", 55).status == "done"
        found = world.get("scaledobject", "their-keda")
        assert found["spec"]["triggers"] == [{**trigger, "metadata": {"value": "55"}}]
        assert world.get("deployment", "scaled")["spec"]["replicas"] == now
        assert world.apply("delete", "keda", {}).status == "done"
        found = world.get("scaledobject", "their-keda")
        assert (owners(found, "maxReplicaCount"), owners(found, "minReplicaCount")) == (["their-tool"], [])
    finally:
        run("delete", "crd", "scaledobjects.keda.sh", "--wait=false")


def _ready(world: World, target: str) -> int:
    service = world.platform.observe(target).service
    assert service is not None
    return service.roles["champion"].ready
