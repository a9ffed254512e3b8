"""What the objects of a cluster say, in a few words and as facts."""

from typing import Any

import pytest

from autonomic.platforms.kubernetes import facts
from autonomic.platforms.kubernetes.view import newest

NOW = 5.0
LABELS = {"autonomic.dev/workflow": "training", "autonomic.dev/step": "train"}
NOTES = {"autonomic.dev/run": "run-1", "autonomic.dev/step": "train", "autonomic.dev/attempt": "2"}
OOM = {"reason": "OOMKilled", "exitCode": 137, "containerID": "containerd://1", "finishedAt": "2026-11-24T10:00:00Z"}


def pod(state: Any = None, *, last: Any = None, ready: bool = False, name: str = "p", made: str = "10:00:00", **status: Any) -> Any:
    container = {"name": "step", "state": state or {"running": {}}, "lastState": last or {}, "ready": ready, "restartCount": 1}
    meta = {"name": name, "uid": f"uid-{name}", "labels": LABELS, "annotations": NOTES, "creationTimestamp": f"2026-11-24T{made}Z"}
    return {
        "metadata": meta,
        "spec": {"nodeName": "node1", "containers": [{"name": "step", "resources": {"limits": {"memory": "64Mi"}}}]},
        "status": {"phase": "Running", "containerStatuses": [container], **status},
    }


def told(item: Any) -> list[facts.Fact]:
    return list(facts.pod_facts(item, NOW))


SCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes", "lastTransitionTime": None}
TAKEN = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "node gone"}


@pytest.mark.parametrize(
    ("item", "reasons", "kinds"),
    [
        (pod(ready=True), {}, []),
        (pod({"waiting": {"reason": "ContainerCreating"}}), {}, []),
        (pod({"terminated": {"reason": "Completed", "exitCode": 0}}), {"Completed": "step ended with exit code 0"}, []),
        (pod({"terminated": OOM}), {"OOMKilled": "step ended with exit code 137"}, ["oom_killed"]),
        (
            pod({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}, last={"terminated": OOM}),
            {"CrashLoopBackOff": "back-off 10s", "OOMKilled": "step ended with exit code 137"},
            ["oom_killed", "crash_loop"],
        ),
        # it runs again: no trouble any more, but it happened
        (pod(last={"terminated": OOM}, ready=True), {}, ["oom_killed"]),
        (pod(conditions=[SCHEDULED], containerStatuses=[]), {"Unschedulable": "0/2 nodes"}, ["unschedulable"]),
        (pod(phase="Failed", reason="Evicted", message="low on memory", containerStatuses=[]), {"Evicted": "low on memory"}, ["evicted"]),
        (pod(conditions=[TAKEN], ready=True), {"DeletionByTaintManager": "node gone"}, ["node_lost"]),
        (pod({"waiting": {"reason": "ImagePullBackOff", "message": "x:1"}}), {"ImagePullBackOff": "x:1"}, ["image_missing"]),
    ],
)
def test_what_a_pod_says(item: Any, reasons: dict[str, str], kinds: list[str]) -> None:
    assert facts.reasons(item) == reasons
    assert [fact.type.rpartition(".")[2] for fact in told(item)] == kinds
    for fact in told(item):
        assert fact.target == "training/train"
        assert (fact.data["run"], fact.data["attempt"], fact.data["node"]) == ("run-1", 2, "node1")


def test_one_death_is_one_fact_however_it_is_seen_and_two_are_two() -> None:
    (first,) = told(pod({"terminated": OOM}))
    (again,) = told(pod(last={"terminated": OOM}, ready=True))
    assert first == again
    assert (first.time, first.data["memory_bytes"]) == (1795514400.0, 2**26)
    both = told(pod({"terminated": {**OOM, "containerID": "containerd://2"}}, last={"terminated": OOM}))
    assert len({fact.id for fact in both}) == 2


def test_a_message_that_changes_makes_no_second_fact() -> None:
    (first,) = told(pod(conditions=[SCHEDULED], containerStatuses=[]))
    (second,) = told(pod(conditions=[{**SCHEDULED, "message": "0/3 nodes"}], containerStatuses=[]))
    assert first.id == second.id


def test_a_node_tells_each_change_of_being_ready() -> None:
    def node(status: str, time: str) -> Any:
        ready = {"type": "Ready", "status": status, "lastTransitionTime": time, "reason": "NodeStatusUnknown", "message": "m"}
        calm = {"type": "MemoryPressure", "status": "False", "lastTransitionTime": time}
        return {"metadata": {"name": "n1", "uid": "u"}, "status": {"conditions": [ready, calm]}}

    times = [("True", "2026-11-24T10:00:00Z"), ("Unknown", "2026-11-24T10:01:00Z"), ("True", "2026-11-24T10:02:00Z")]
    seen = [fact for each in times for fact in facts.node_facts(node(*each), NOW)]
    assert [fact.type.rpartition(".")[2] for fact in seen] == ["ready", "not_ready", "ready"]
    assert len({fact.id for fact in seen}) == 3
    assert seen[1].data == {"node": "n1", "condition": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "m"}


def test_a_job_tells_its_end() -> None:
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}
    job = {"metadata": {"name": "j", "uid": "u", "labels": LABELS, "annotations": NOTES}, "status": {"conditions": [failed]}}
    (fact,) = facts.job_facts(job, NOW)
    assert (fact.type, fact.target, fact.data["reason"]) == (
        "dev.autonomic.kubernetes.job.failed",
        "training/train",
        "BackoffLimitExceeded",
    )
    assert list(facts.job_facts({**job, "status": {}}, NOW)) == []


def test_of_steps_the_newest_counts_and_what_has_not_ended() -> None:
    ended = {"phase": "Failed"}
    first, second = pod(name="a", made="10:00:00", **ended), pod(name="b", made="10:00:01", **ended)
    running = pod(name="c", made="09:00:00")
    assert newest([first, second, running]) == [second, running]
    replica = pod(name="r", **ended)
    replica["metadata"]["labels"] = {"autonomic.dev/workflow": "web", "autonomic.dev/service": "api"}
    other = {**replica, "metadata": {**replica["metadata"], "name": "s"}}
    assert newest([replica, other]) == [replica, other]


@pytest.mark.parametrize(("text", "value"), [("250m", 0.25), ("128974848n", 0.128974848), ("64Mi", 2**26), ("2", 2)])
def test_quantities(text: str, value: float) -> None:
    assert facts.quantity(text) == pytest.approx(value)
