"""What a step can ask of a real cluster, and what is told when the cluster takes it away."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from autonomic.seams.plan import Change
from autonomic.seams.state import FINISHED, RunState

WITHIN_SECONDS = 150
RETRIED = {"limit": 1, "backoff": "100ms"}
FAKE = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}


class Steps:
    """Runs of one step each, and their pods and Jobs."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self._count = 0

    def start(self, *script: str, **words: Any) -> str:
        self._count += 1
        run_id = f"run-asked-{self._count}"
        step = {"name": "work", "command": list(script), "resources": {"cpu": 0.1}, **words}
        document = {
            "apiVersion": "autonomic.dev/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": "asks"},
            "spec": {"type": "batch", "steps": [step]},
        }
        to = {"run_id": run_id, "workflow": "asks", "spec": document, "parameters": {}, "package": "", "cause": ""}
        outcome = self.cluster.platform.apply(Change(key=f"start.{run_id}", primitive="run", target="asks", to=to), 1)
        assert outcome.status == "done", outcome.detail
        return run_id

    def stop(self, run_id: str) -> None:
        stop = Change(key=f"stop.{run_id}", primitive="stop", target="asks", to={"run_ids": [run_id]})
        assert self.cluster.platform.apply(stop, 1).status == "done"

    def wait(self, run_id: str, when: Callable[[RunState], bool] = lambda run: run.status in FINISHED) -> RunState:
        found: list[RunState] = []

        def reached() -> bool:
            found[:] = [self.cluster.platform.run(run_id)]
            return when(found[0])

        wait_until(reached, lambda: found[0].model_dump_json(indent=1))
        return found[0]

    def objects(self, kind: str, run_id: str) -> list[dict[str, Any]]:
        return json.loads(self.cluster.kubectl("get", kind, "-l", f"autonomic.dev/run={run_id}", "-o", "json"))["items"]

    def events(self, kind: str, uid: str) -> list[dict[str, Any]]:
        """What this product told of an object, the oldest first."""
        chosen = f"involvedObject.kind={kind},involvedObject.uid={uid}"
        found = json.loads(self.cluster.kubectl("get", "events", f"--field-selector={chosen}", "-o", "json"))["items"]
        own = [each for each in found if each["source"].get("component") == "autonomic-host"]
        return sorted(own, key=lambda each: (each["firstTimestamp"], each["reason"] != "AttemptMade"))

    def log(self, run_id: str) -> str:
        return self.cluster.platform.log(run_id, "work") or ""


def wait_until(condition: Callable[[], Any], told: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {WITHIN_SECONDS} s: {told()}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def steps(light_cluster: Any) -> Steps:
    return Steps(light_cluster)


def apply(cluster: Any, *documents: dict[str, Any]) -> None:
    path = cluster.home / "objects.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)}))
    cluster.kubectl("apply", "-f", str(path))


@pytest.fixture
def claim(light_cluster: Any) -> Iterator[str]:
    """A claim that is bound to a volume of this machine."""
    folder = light_cluster.home / "volume"
    folder.mkdir()
    name = f"{light_cluster.settings.namespace}-volume"
    size = {"storage": "1Gi"}
    shared = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {**shared, "capacity": size, "hostPath": {"path": str(folder), "type": "Directory"}},
    }
    wanted = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {**shared, "volumeName": name, "resources": {"requests": size}},
    }
    apply(light_cluster, volume, wanted)
    yield "data"
    light_cluster.kubectl("delete", "pvc/data", f"pv/{name}", "--wait=false")


def test_steps_share_a_claim_and_see_only_the_folder_that_they_ask_for(steps: Steps, claim: str) -> None:
    whole = {"mount": "/shared", "claim": claim}
    assert steps.wait(steps.start("sh", "-c", "mkdir /shared/deep; echo kept > /shared/deep/file", volumes=[whole])).status == "succeeded"
    assert (steps.cluster.home / "volume" / "deep" / "file").read_text() == "kept\n"
    part = {"mount": "/part", "claim": claim, "folder": "deep", "read_only": True}
    run_id = steps.start("sh", "-c", "cat /part/file; touch /part/other || echo refused", volumes=[part])
    assert steps.wait(run_id).status == "succeeded"
    assert steps.log(run_id).startswith("kept\n")
    assert steps.log(run_id).endswith("refused\n")
    assert not (steps.cluster.home / "volume" / "deep" / "other").exists()


def test_what_a_step_asks_for_stands_in_its_job_as_the_api_server_took_it(steps: Steps) -> None:
    steps.cluster.kubectl("create", "priorityclass", steps.cluster.settings.namespace, "--value=7")
    placement = {
        "nodes": {"kubernetes.io/os": "nowhere"},
        "avoid": [{"workflow": "web", "part": "api"}, {"node": "node9"}],
        "near": [{"workflow": "cache", "strict": False}],
        "tolerations": [{"key": "dedicated", "value": "ml", "effect": "NoExecute", "for": "30s"}],
        "priority_class": steps.cluster.settings.namespace,
    }
    nfs = {"mount": "/nfs", "nfs": {"server": "nfs.example", "path": "/export"}, "read_only": True}
    try:
        run_id = steps.start(
            "true", placement=placement, volumes=[nfs], queue="team-a", timeout="90s", resources={"cpu": 0.2, "memory": "1Gi"}
        )
        state = steps.wait(run_id, lambda run: "waits for a node" in run.steps["work"].detail)
        assert "didn't match Pod's node affinity/selector" in state.steps["work"].detail
        (job,) = steps.objects("jobs", run_id)
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
        (pod,) = steps.objects("pods", run_id)
        spec = pod["spec"]
        assert spec["nodeSelector"] == {"kubernetes.io/os": "nowhere"}
        assert spec["priority"] == 7
        assert spec["activeDeadlineSeconds"] == 95
        assert {"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoExecute", "tolerationSeconds": 30} in spec[
            "tolerations"
        ]
        assert {"server": "nfs.example", "path": "/export", "readOnly": True} in [volume.get("nfs") for volume in spec["volumes"]]
        assert spec["containers"][0]["resources"] == {
            "requests": {"cpu": "200m", "memory": "1073741824"},
            "limits": {"memory": "1073741824"},
        }
        assert sorted(spec["affinity"]) == ["nodeAffinity", "podAffinity", "podAntiAffinity"]
        # what Kueue does with a Job that it does not admit yet
        steps.cluster.kubectl("patch", "job", job["metadata"]["name"], "--type=merge", "-p", '{"spec": {"suspend": true}}')
        steps.wait(run_id, lambda run: run.steps["work"].detail == "waits in the queue team-a")
        wait_until(lambda: not steps.objects("pods", run_id))
        state = steps.wait(run_id, lambda run: run.steps["work"].detail == "waits in the queue team-a")
        assert (state.status, state.steps["work"].attempt, state.steps["work"].failures) == ("running", 1, ())
        steps.stop(run_id)
    finally:
        steps.cluster.kubectl("delete", "priorityclass", steps.cluster.settings.namespace)


def test_a_step_whose_queue_takes_it_back_is_tried_again_and_not_begun_a_second_time(steps: Steps) -> None:
    tries = steps.cluster.home / "data" / "tries-in-queue"
    script = f"echo x >> {tries}; test $(wc -l < {tries}) -gt 1 || sleep 100"
    run_id = steps.start("sh", "-c", script, queue="team-b", retries=RETRIED)
    steps.wait(run_id, lambda run: run.steps["work"].status == "running")
    wait_until(tries.exists)
    steps.cluster.kubectl("patch", "job", f"{run_id}-work-1", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    run = steps.wait(run_id)
    assert run.status == "succeeded", run.model_dump_json(indent=1)
    assert run.steps["work"].attempt == 2
    (failure,) = run.steps["work"].failures
    assert "Preempted: it was ended because its Job was suspended (waits in the queue team-b)" in failure
    wait_until(lambda: [job["metadata"]["name"] for job in steps.objects("jobs", run_id)] == [f"{run_id}-work-2"])


@pytest.fixture
def gpus(kubernetes: Any) -> Iterator[None]:
    """A fake node with GPUs of the type L4."""
    if kubernetes.local is None:
        pytest.skip("NO GPUS ARE ASKED FOR: the cluster was given, and has no fake nodes")
    run = kubernetes.local.run_kubectl
    run("label", "node", "fake-0", "nvidia.com/gpu.product=L4")
    has = {"status": {resources: {"nvidia.com/gpu": "2"} for resources in ("capacity", "allocatable")}}
    run("patch", "node", "fake-0", "--subresource=status", "-p", json.dumps(has))
    yield
    run("label", "node", "fake-0", "nvidia.com/gpu.product-")


def test_accelerators_are_scheduled_where_they_are_and_cpu_is_used_where_it_is_enough(gpus: None, steps: Steps) -> None:
    tolerant = {"tolerations": [FAKE]}
    here = steps.start("true", resources={"cpu": 0.1, "gpu": 2, "accelerator": "L4"}, placement=tolerant)
    nowhere = steps.start("true", resources={"cpu": 0.1, "gpu": 1, "accelerator": "H100"}, placement=tolerant)
    enough = steps.start("true", resources={"cpu": 0.1, "gpu": 1, "accelerator": "H100", "cpu_after": "2s"})
    wait_until(lambda: [pod["spec"].get("nodeName") for pod in steps.objects("pods", here)] == ["fake-0"])
    (pod,) = steps.objects("pods", here)
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert pod["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "L4"}
    # kwok ends it, and a pod that nobody ran leaves no result
    assert "left no result" in steps.wait(here).detail

    state = steps.wait(enough)
    assert state.status == "succeeded"
    assert (state.steps["work"].attempt, state.steps["work"].failures) == (1, ())
    wait_until(lambda: [job["metadata"]["name"] for job in steps.objects("jobs", enough)] == [f"{enough}-work-1-cpu"])
    wait_until(lambda: len(steps.objects("pods", enough)) == 1)
    (pod,) = steps.objects("pods", enough)
    assert pod["spec"]["nodeName"] != "fake-0"
    assert "limits" not in pod["spec"]["containers"][0]["resources"]

    waiting = steps.wait(nowhere, lambda run: "waits for a node" in run.steps["work"].detail)
    assert waiting.steps["work"].status == "pending"
    steps.stop(nowhere)
    wait_until(lambda: not steps.objects("jobs", nowhere))


def test_a_run_that_waits_for_a_gpu_can_be_stopped_and_outlives_its_writer(steps: Steps) -> None:
    asked = {"cpu": 0.1, "gpu": 1, "accelerator": "none-of-these", "cpu_after": "1h"}
    run_id = steps.start("true", resources=asked)
    steps.wait(run_id, lambda run: "waits for a node" in run.steps["work"].detail)
    steps.stop(run_id)
    wait_until(lambda: not steps.objects("jobs", run_id))
    # on CPU it is found again by the next writer, and not made a second time
    run_id = steps.start("sh", "-c", "sleep 3", resources={**asked, "cpu_after": "0s"})
    steps.wait(run_id, lambda run: run.steps["work"].status == "running")
    steps.cluster.restart()
    assert steps.wait(run_id).status == "succeeded"
    wait_until(lambda: [job["metadata"]["name"] for job in steps.objects("jobs", run_id)] == [f"{run_id}-work-1-cpu"])


def test_a_step_that_runs_out_of_memory_is_tried_again_and_says_at_which_limit(steps: Steps) -> None:
    run_id = steps.start(sys.executable, "-c", "x = bytearray(2**29)", resources={"cpu": 0.1, "memory": "64Mi"}, retries=RETRIED)
    run = steps.wait(run_id)
    assert run.status == "failed"
    why = "OOMKilled: its memory went over its limit of 64Mi"
    assert [failure.partition(": its")[0] for failure in run.steps["work"].failures] == ["attempt 1: OOMKilled", "attempt 2: OOMKilled"]
    assert all("its memory went over its limit of 64Mi" in failure for failure in run.steps["work"].failures)
    assert why in run.steps["work"].detail
    assert why in run.detail
    (first, second) = steps.objects("jobs", run_id)
    wait_until(lambda: all(len(steps.events("Job", job["metadata"]["uid"])) == 2 for job in (first, second)))
    told = {job["metadata"]["name"]: steps.events("Job", job["metadata"]["uid"]) for job in (first, second)}
    assert [(each["type"], each["reason"]) for each in told[f"{run_id}-work-1"]] == [
        ("Normal", "AttemptMade"),
        ("Warning", "AttemptFailed"),
    ]
    assert why in told[f"{run_id}-work-1"][1]["message"]
    # the next one says why it was made
    assert "before: attempt 1: OOMKilled" in told[f"{run_id}-work-2"][0]["message"]
    # each once, also where another writer looks at everything anew
    steps.cluster.restart()
    assert [len(steps.events("Job", job["metadata"]["uid"])) for job in (first, second)] == [2, 2]


def test_a_step_that_is_evicted_is_tried_again_says_what_for_and_keeps_away_from_a_node(steps: Steps) -> None:
    marker = steps.cluster.home / "data" / "evicted"
    nodes = steps.cluster.kubectl("get", "nodes", "--selector=type!=kwok", "-o", "jsonpath={.items[*].metadata.name}").split()
    avoid = [{"node": node} for node in nodes[:-1]]
    script = f"test -e {marker} || {{ touch {marker}; sleep 100; }}"
    run_id = steps.start("sh", "-c", script, retries=RETRIED, placement={"avoid": avoid})
    steps.wait(run_id, lambda run: run.steps["work"].status == "running")
    wait_until(marker.exists)
    (pod,) = steps.objects("pods", run_id)
    meta = {name: pod["metadata"][name] for name in ("name", "namespace")}
    eviction = steps.cluster.home / "eviction.json"
    eviction.write_text(json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}))
    steps.cluster.kubectl("create", "--raw", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction", "-f", str(eviction))
    run = steps.wait(run_id)
    assert run.status == "succeeded", run.model_dump_json(indent=1)
    assert run.steps["work"].attempt == 2
    (failure,) = run.steps["work"].failures
    assert f"Evicted: it was asked to leave its node {nodes[-1]}" in failure
    assert {each["spec"]["nodeName"] for each in steps.objects("pods", run_id)} == {nodes[-1]}
