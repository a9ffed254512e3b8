"""Resizing and rescheduling on a real cluster: what happens to pods and to requests, and what is taken back where it cannot be done."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autonomic.platforms.kubernetes.platform import KubernetesPlatform
from autonomic.platforms.kubernetes.services.apps import KubernetesApps
from autonomic.seams.errors import Retryable
from autonomic.seams.plan import Change, Outcome

MIB = 2**20
CHOSEN = "autonomic.dev/workflow=shaped,autonomic.dev/role=champion"


class World:
    """The platform with shorter words."""

    def __init__(self, cluster: Any, load: Any) -> None:
        self.cluster = cluster
        self.load = load

    @property
    def platform(self) -> KubernetesPlatform:
        return self.cluster.platform

    def apply(self, primitive: str, to: dict[str, Any], target: str = "shaped/api") -> Outcome:
        return self.cluster.apply(primitive, target, to)

    def pods(self, chosen: str = CHOSEN) -> dict[str, dict[str, Any]]:
        found = json.loads(self.cluster.kubectl("get", "pods", "-l", chosen, "-o", "json"))["items"]
        return {pod["metadata"]["name"]: pod for pod in found if "deletionTimestamp" not in pod["metadata"]}

    def deployment(self) -> dict[str, Any]:
        (found,) = json.loads(self.cluster.kubectl("get", "deployments", "-l", CHOSEN, "-o", "json"))["items"]
        return found

    def replica_sets(self) -> int:
        found = json.loads(self.cluster.kubectl("get", "replicasets", "-l", CHOSEN, "-o", "json"))["items"]
        return sum(1 for each in found if each["spec"]["replicas"])


def requests(pod: dict[str, Any]) -> dict[str, str]:
    return pod["spec"]["containers"][0]["resources"]["requests"]


def nodes(pods: dict[str, dict[str, Any]]) -> set[str]:
    return {pod["spec"]["nodeName"] for pod in pods.values()}


@pytest.fixture(scope="module")
def world(light_cluster: Any, load: Any) -> Iterator[World]:
    """A service of two replicas whose size may change."""
    world = World(light_cluster, load)
    model = light_cluster.model("shaped")
    resources = {"cpu": 0.05, "memory": "128Mi", "min": {"cpu": 0.02}, "max": {"cpu": 500, "memory": "256Mi"}}
    api = {"name": "api", "model": model, "replicas": {"min": 2, "max": 3}, "log": False, "resources": resources}
    spec = {"type": "online", "services": [{**api, "device_time": "10ms"}]}
    document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "shaped"}, "spec": spec}
    outcome = world.apply("deploy", {"spec": document, "package": ""}, "shaped")
    assert outcome.status == "done", outcome.detail
    yield world
    assert world.apply("delete", {}, "shaped").status == "done"


def test_replicas_are_resized_where_they_are_and_back(world: World) -> None:
    before, generation = world.pods(), world.deployment()["metadata"]["uid"]
    with world.load(world.platform.urls()["shaped/api"], threads=2) as load:
        outcome = world.apply("resize", {"resources": {"cpu": 0.1, "memory": 192 * MIB}})
        assert outcome.status == "done", outcome.detail
        print(f"two replicas resized in place: {outcome.finished_at - outcome.started_at:.2f} s")
        after = world.pods()
        assert set(after) == set(before)
        for pod in after.values():
            assert requests(pod) == {"cpu": "100m", "memory": str(192 * MIB)}
            assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
        # pods that come later are of this size too, also those that a rescale makes
        deployment = world.deployment()
        assert deployment["metadata"]["uid"] == generation
        assert not deployment["spec"].get("paused")
        assert requests(deployment["spec"]["template"])["cpu"] == "100m"
        assert world.replica_sets() == 1
        assert world.apply("rescale", {"role": "champion", "replicas": 3}).status == "done"
        assert {requests(pod)["cpu"] for pod in world.pods().values()} == {"100m"}
        assert world.apply("rescale", {"role": "champion", "replicas": 2}).status == "done"
        wait_until(lambda: len(world.pods()) == 2)
        assert world.platform.observe("shaped/api").spec["resources"]["cpu"] == 0.1
        assert world.apply("resize", outcome.before).status == "done"
    assert {requests(pod)["cpu"] for pod in world.pods().values()} == {"50m"}
    assert world.replica_sets() == 1
    assert set(load.answers) == {"200"}, load.answers
    assert world.platform.observe("shaped/api").spec["resources"]["cpu"] == 0.05


def test_a_writer_that_is_taken_over_in_the_middle_resizes_no_pod(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, look = world.platform, KubernetesApps._pods_of
    taken: list[str] = []

    def look_and_be_frozen(apps: KubernetesApps, name: str) -> list[dict[str, Any]]:
        found = look(apps, name)
        if not taken:
            taken.append("begun")
            change = Change(key="shaping.young", primitive="resize", target="shaped/api", to={"resources": {"cpu": 0.03}})
            young = KubernetesPlatform(world.cluster.settings.model_copy(update={"home": tmp_path}))
            taken.append(young.apply(change, 1).status)
            young.close()
            young.host.stop_front()
        return found

    monkeypatch.setattr(KubernetesApps, "_pods_of", look_and_be_frozen)
    try:
        stale = Change(key="shaping.stale", primitive="resize", target="shaped/api", to={"resources": {"cpu": 0.08}})
        with pytest.raises(Retryable, match="taken over"):
            old.apply(stale, 1)
        assert taken == ["begun", "done"]
        assert {requests(pod)["cpu"] for pod in world.pods().values()} == {"30m"}
        assert not world.deployment()["spec"].get("paused")
    finally:
        world.cluster.restart()
    assert world.apply("resize", {"resources": {"cpu": 0.05}}).status == "done"
    assert {requests(pod)["cpu"] for pod in world.pods().values()} == {"50m"}


def test_a_size_that_no_node_has_fails_and_everything_stays(world: World) -> None:
    settings, before = world.cluster.settings, world.pods()
    world.cluster.settings = settings.model_copy(update={"ready_seconds": 5})
    world.cluster.restart()
    try:
        with world.load(world.platform.urls()["shaped/api"], threads=1) as load:
            outcome = world.apply("resize", {"resources": {"cpu": 400}})
        assert outcome.status == "failed"
        assert "Insufficient cpu" in outcome.detail
        assert set(load.answers) == {"200"}, load.answers
        assert set(world.pods()) >= set(before)
        assert requests(world.deployment()["spec"]["template"])["cpu"] == "50m"
        assert world.platform.observe("shaped/api").spec["resources"]["cpu"] == 0.05
    finally:
        world.cluster.settings = settings
        world.cluster.restart()


def test_replicas_leave_a_node_and_no_request_is_lost(world: World) -> None:
    here = sorted(nodes(world.pods()))[0]
    with world.load(world.platform.urls()["shaped/api"], threads=2) as load:
        outcome = world.apply("reschedule", {"placement": {"avoid": [{"node": here}]}})
        assert outcome.status == "done", outcome.detail
        assert outcome.before == {"placement": {}}
        print(f"two replicas moved by a surge: {outcome.finished_at - outcome.started_at:.2f} s")
        assert here not in nodes(world.pods())
        # what is scaled out and resized keeps away as well
        assert world.apply("resize", {"resources": {"cpu": 0.04}}).status == "done"
        assert here not in nodes(world.pods())
    assert set(load.answers) == {"200"}, load.answers


def test_the_next_attempt_of_a_step_is_of_another_size_and_elsewhere(world: World) -> None:
    home = world.cluster.home / "data"
    # the first attempt waits until it is told to fail
    body = f"if test -e {home}/again; then exit 0; fi; while ! test -e {home}/fail; do sleep 0.1; done; touch {home}/again; exit 1"
    resources = {"cpu": 0.01, "memory": "128Mi", "max": {"memory": "256Mi"}}
    step = {"name": "work", "command": ["sh", "-c", body], "resources": resources, "retries": {"limit": 1, "backoff": "10ms"}}
    spec = {"type": "batch", "steps": [step]}
    document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "shaped-job"}, "spec": spec}
    to = {"run_id": "run-shaped", "workflow": "shaped-job", "spec": document, "parameters": {}, "package": "", "cause": ""}
    refused = world.apply("resize", {"resources": {"memory": 256 * MIB}}, "shaped-job/work")
    assert (refused.status, "has run here" in refused.detail) == ("refused", True)
    assert world.apply("run", to, "shaped-job").status == "done"
    chosen = "autonomic.dev/run=run-shaped"
    wait_until(lambda: any(pod["status"]["phase"] == "Running" for pod in world.pods(chosen).values()))
    (first,) = world.pods(chosen).values()
    sized = world.apply("resize", {"resources": {"memory": 256 * MIB}}, "shaped-job/work")
    assert (sized.status, sized.before["resources"]["memory"]) == ("done", 128 * MIB)
    assert world.apply("resize", {"resources": {"memory": 257 * MIB}}, "shaped-job/work").status == "refused"
    assert world.apply("resize", {"resources": {"memory": 256 * MIB}}, "shaped-job").status == "refused"
    moved = world.apply("reschedule", {"placement": {"avoid": [{"node": first["spec"]["nodeName"]}]}}, "shaped-job")
    assert (moved.status, moved.before) == ("done", {"placement": {}})
    (home / "fail").touch()

    def ended() -> bool:
        run = world.platform.run("run-shaped")
        return run is not None and run.status == "succeeded"

    wait_until(ended)
    second = next(pod for name, pod in world.pods(chosen).items() if name != first["metadata"]["name"])
    assert requests(second)["memory"] == str(256 * MIB)
    assert second["spec"]["nodeName"] != first["spec"]["nodeName"]
    assert world.apply("resize", sized.before, "shaped-job/work").status == "done"
    assert world.platform.observe("shaped-job/work").spec["resources"]["memory"] == 128 * MIB


def wait_until(condition: Callable[[], bool], within_seconds: float = 120) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_seconds} s"
        time.sleep(0.05)
