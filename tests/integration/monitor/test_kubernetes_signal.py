"""What a real cluster says of targets, read through a real host, and heard by a real monitor."""

import secrets
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from autonomic.platforms.host.api import ApiServer, create_app
from autonomic.platforms.host.client import HostPlatform
from autonomic.seams.plan import Change
from autonomic.seams.reading import Reading
from autonomic.seams.signal import Query
from autonomic.signals.kubernetes import KubernetesSignal
from autonomic.workflows.processes import free_port

NODES = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}],
}
GREEDY = [sys.executable, "-c", "x = bytearray(2**29)"]
OOM = "dev.autonomic.kubernetes.pod.oom_killed"
STUCK = "dev.autonomic.kubernetes.pod.unschedulable"


class World:
    """A host that answers over HTTP, and shorter words for what runs on its cluster."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.token = secrets.token_hex(8)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = ApiServer(create_app(cluster.platform.host, self.token), "127.0.0.1", self.port)
        self._server.start()
        self.client = HostPlatform(self.url, self.token)
        self.signal = KubernetesSignal(self.client.cluster)
        self._count = 0

    def run(self, workflow: str, command: list[str], **step: Any) -> str:
        self._count += 1
        spec = {"type": "batch", "steps": [{"name": "work", "command": command, **step}]}
        document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": workflow}, "spec": spec}
        run_id = f"run-{workflow}-{self._count}"
        to = {"run_id": run_id, "workflow": workflow, "spec": document, "parameters": {}, "cause": "a test", "package": ""}
        assert self.client.apply(Change(key=f"start.{run_id}", primitive="run", target=workflow, to=to), 1).status == "done"
        return run_id

    def stop(self, workflow: str, run_id: str) -> None:
        change = Change(key=f"stop.{run_id}", primitive="stop", target=workflow, to={"run_ids": [run_id]})
        assert self.client.apply(change, 1).status == "done"

    def read(self, target: str, **args: Any) -> Any:
        (answer,) = self.signal.read([Query(strategy="s", name="n", target=target, signal="kubernetes", args=args)], 0.0)
        return answer

    def value(self, target: str, **args: Any) -> float | None:
        reading = self.read(target, **args)
        assert isinstance(reading, Reading)
        return reading.value

    def close(self) -> None:
        self.client.close()
        self._server.stop()


@pytest.fixture(scope="module")
def world(light_cluster: Any) -> Iterator[World]:
    world = World(light_cluster)
    service = {"name": "api", "model": light_cluster.model("seen"), "replicas": {"min": 2, "max": 3}, "log": False, "timeout": "2s"}
    spec = {"type": "online", "services": [service]}
    document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "seen-web"}, "spec": spec}
    deploy = Change(key="deploy.seen-web", primitive="deploy", target="seen-web", to={"spec": document, "package": ""})
    assert world.client.apply(deploy, 1).status == "done"
    yield world
    assert world.client.apply(Change(key="delete.seen-web", primitive="delete", target="seen-web", to={}), 1).status == "done"
    world.close()


def test_steps_that_do_not_do_well_are_counted_by_reason(world: World, until: Callable[..., None]) -> None:
    assert world.read("seen-oom", metric="pods").status == "missing"
    stuck = world.run("seen-stuck", ["true"], resources={"cpu": 900})
    world.run("seen-oom", GREEDY, resources={"cpu": 0.1, "memory": "64Mi"})
    until(lambda: world.value("seen-oom", metric="pods", reason="OOMKilled") == 1)
    until(lambda: world.value("seen-oom/work", metric="jobs", condition="Failed") == 1)
    assert world.value("seen-oom", metric="pods", phase="Failed") == 1
    assert world.value("seen-oom", metric="pods", reason="Unschedulable") == 0
    until(lambda: world.value("seen-stuck", metric="pods", reason="Unschedulable") == 1)
    until(lambda: (world.value("seen-stuck", metric="events", reason="FailedScheduling") or 0) >= 1)
    assert world.value("seen-oom", metric="events", reason="FailedScheduling") == 0
    # a pod that waits is on no node
    assert world.read("seen-stuck", metric="pods", by="node") == []
    # the next attempt is what counts
    world.run("seen-oom", ["true"], resources={"cpu": 0.1})
    until(lambda: world.value("seen-oom", metric="pods", phase="Succeeded") == 1)
    assert world.value("seen-oom", metric="pods", reason="OOMKilled") == 0
    world.stop("seen-stuck", stuck)


def test_nodes_need_a_right_of_their_own_and_are_missing_without_it(world: World, until: Callable[..., None]) -> None:
    run_id = world.run("seen-nodes", ["sleep", "100"], resources={"cpu": 0.1})
    refused = world.read("seen-nodes", metric="nodes")
    assert refused.status == "missing"
    assert "A ClusterRole must allow the verb list on the resource nodes" in refused.detail
    name = world.cluster.settings.namespace
    role = {**NODES, "metadata": {"name": name}}
    world.cluster._run_kubectl("apply", "-f", "-", text=yaml.safe_dump(role))
    try:
        binding = ("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount={name}:host")
        world.cluster._run_kubectl(*binding)
        until(lambda: (world.value("seen-nodes", metric="nodes", condition="Ready") or 0) >= 1)
        ready = world.read("seen-nodes", metric="nodes", condition="Ready", by="node")
        assert {each.value for each in ready} <= {0.0, 1.0}
        assert len(ready) == world.value("seen-nodes", metric="nodes")
        assert world.value("seen-nodes", metric="nodes", condition="MemoryPressure") == 0
        assert all("facts" in world.client.news(source) for source in ("events", "nodes", "workloads"))
    finally:
        world.cluster._run_kubectl("delete", "clusterrolebinding,clusterrole", name)
        world.stop("seen-nodes", run_id)


def test_the_monitor_hears_of_each_thing_once_also_after_a_restart(
    world: World, planner: Any, monitor_of: Callable[..., Any], strategy: Callable[..., Any], until: Callable[..., None]
) -> None:
    monitor = monitor_of(world.url, world.token)
    world.run("heard", GREEDY, resources={"cpu": 0.1, "memory": "64Mi"})
    until(lambda: world.value("heard", metric="pods", reason="OOMKilled") == 1)
    monitor.apply(
        strategy("oom", target="heard", on={"event": OOM}),
        strategy("stuck", target="heard/work", on={"event": STUCK}),
        strategy("other", target="seen-web", on={"any": [{"event": OOM}, {"event": STUCK}]}),
    )

    def heard(name: str) -> list[dict[str, Any]]:
        # what was handed over just before a kill is handed over again, with its id
        events = {event["id"]: event["data"] for event in planner.events()}
        return [event for event in events.values() if event.get("strategy") == name]

    # the cursor is at the present when the monitor has asked once
    until(lambda: monitor.has_cursor("news/kubernetes-workloads"))
    world.run("heard", GREEDY, resources={"cpu": 0.1, "memory": "64Mi"}, retries={"limit": 1, "backoff": "100ms"})
    until(lambda: len(heard("oom")) == 2, 120, lambda: str(planner.events()))
    told = heard("oom")[0]["data"]
    assert (told["reason"], told["memory_bytes"], told["attempt"]) == ("OOMKilled", 2**26, 1)
    assert told["message"] == "its memory went over its limit of 67108864"
    monitor.kill()
    stuck = world.run("heard", ["true"], resources={"cpu": 900})
    until(lambda: world.value("heard", metric="pods", reason="Unschedulable") == 1)
    monitor.start()
    until(lambda: len(heard("stuck")) == 1, 120, lambda: str(planner.events()))
    message = heard("stuck")[0]["data"]["message"]
    assert "Insufficient cpu" in message
    # one thing more, and nothing of what was heard before the restart once more
    world.stop("heard", stuck)
    world.run("heard", GREEDY, resources={"cpu": 0.1, "memory": "64Mi"})
    until(lambda: heard("oom")[-1]["data"]["run"] != told["run"])
    attempts = [(event["data"]["run"], event["data"]["attempt"], event["data"]["event"]["id"]) for event in heard("oom")]
    assert [attempt for _, attempt, _ in attempts] == [1, 2, 1], attempts
    assert len(heard("stuck")) == 1
    assert heard("other") == []


def test_replicas_and_what_they_use_are_read(world: World, until: Callable[..., None]) -> None:
    until(lambda: world.value("seen-web/api", metric="ready_replicas", role="champion") == 2)
    assert world.value("seen-web/api", metric="wanted_replicas") == 2
    assert world.value("seen-web/api", metric="restarts") == 0
    by_node = {each.labels["node"]: each.value for each in world.read("seen-web/api", metric="pods", phase="Running", by="node")}
    assert sum(by_node.values()) == 2
    until(lambda: (world.value("seen-web/api", metric="memory") or 0) > 2**20)
    assert world.read("seen-web/api", metric="cpu").status == "ok"
    assert world.read("seen-web/api", metric="memory").time > 0
