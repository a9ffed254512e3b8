"""What pods, Deployments and logs say."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from autonomic.platforms.host.reconcile import Desired
from autonomic.platforms.kubernetes.objects import pods
from autonomic.platforms.kubernetes.services.apps import foreign_writer, state_of
from autonomic.platforms.kubernetes.services.converging import changed
from autonomic.platforms.kubernetes.steps import step

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC).timestamp()


def pod(
    phase: str = "Running", *, state: Any = None, ready: bool = True, starts: int = 0, seconds: float = 0, **status: Any
) -> dict[str, Any]:
    """A pod that was made so many seconds before NOW."""
    made = datetime.fromtimestamp(NOW - seconds, UTC).isoformat()
    container = {"state": state or {"running": {}}, "ready": ready, "restartCount": starts}
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"name": "p", "creationTimestamp": made, "annotations": {}},
        "spec": {"nodeName": "node1", "containers": [{"resources": {"limits": {"memory": "512Mi"}}}], "activeDeadlineSeconds": 65},
        "status": {"phase": phase, "podIP": "10.0.0.1", "containerStatuses": [container], "conditions": conditions, **status},
    }


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def test_only_a_ready_pod_that_stays_gets_requests() -> None:
    assert pods.is_ready(pod())
    assert not pods.is_ready(pod(ready=False))
    assert not pods.is_ready(pod(podIP=""))
    going = pod()
    going["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z"
    assert not pods.is_ready(going)
    assert pods.created_at(pod()) == 1795514400


UNSCHEDULABLE = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"}]
UNMADE = {"waiting": {"reason": "CreateContainerError", "message": "context deadline exceeded"}}
NO_IMAGE = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image x:1"}}
NEVER = {"waiting": {"reason": "ErrImageNeverPull", "message": "image x:1 is not present"}}
GOOD = json.dumps({"status": "succeeded", "outputs": {"a": 1}, "detail": "", "retry": False})


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        (pod("Pending", conditions=UNSCHEDULABLE, containerStatuses=[]), "waiting", "(Unschedulable): 0/2 nodes"),
        (pod("Pending", state=NO_IMAGE), "waiting", "(ImagePullBackOff): Back-off pulling image x:1"),
        (pod("Pending", state=NEVER), "ended", "(ErrImageNeverPull): image x:1 is not present"),
        (pod("Failed", state=ended(137, "OOMKilled")), "ended", "OOMKilled: its memory went over its limit of 512Mi"),
        (
            pod("Failed", state={}, reason="Evicted", message="The node was low on memory"),
            "ended",
            "Evicted: on the node node1: The node was low",
        ),
        (pod("Failed", state=ended(143), reason="DeadlineExceeded"), "ended", "timed out after 60 s, and its pod was ended by the cluster"),
        (pod("Failed", state=ended(3, message="Traceback: no such thing")), "ended", "exit code 3 and left no result: Traceback"),
        (pod("Failed", state=ended(1, message='["no", "result"]')), "ended", "left no result"),
        (
            pod("Failed", state={}, conditions=[{"type": "DisruptionTarget", "reason": "DeletionByTaintManager", "message": "node gone"}]),
            "ended",
            "NodeLost: its node node1 does not answer, or turned it away: node gone",
        ),
        (
            pod(
                "Failed", state=ended(143), conditions=[{"type": "DisruptionTarget", "reason": "EvictionByEvictionAPI", "message": "drain"}]
            ),
            "ended",
            "Evicted: it was asked to leave its node node1, as when a node is drained: drain",
        ),
        (
            pod("Failed", state=ended(143), conditions=[{"type": "DisruptionTarget", "reason": "PreemptionByScheduler", "message": "p"}]),
            "ended",
            "Preempted: its place on the node node1 was needed for a pod of higher priority: p",
        ),
        (
            pod("Failed", state=ended(1, message=json.dumps({"status": "failed", "detail": "OOMKilled: code -9", "retry": True}))),
            "ended",
            "OOMKilled: its memory went over its limit of 512Mi; ask for more with resources.memory (code -9)",
        ),
    ],
)
def test_what_kept_a_step_from_its_end_is_in_its_detail(told: dict[str, Any], kind: str, words: str) -> None:
    report = pods.step_report(told)
    assert report is not None
    assert report[0] == kind
    assert words in (report[1]["why"] if kind == "waiting" else report[1]["detail"])
    assert kind == "waiting" or report[1]["status"] == "failed"


def test_how_long_a_pod_has_waited_for_a_node_is_known_only_while_it_waits() -> None:
    waits = [{**UNSCHEDULABLE[0], "lastTransitionTime": "2026-11-24T10:00:00Z"}]
    assert pods.unscheduled_since(pod("Pending", conditions=waits) | {"spec": {}}) == 1795514400
    assert pods.unscheduled_since(pod("Pending", conditions=waits)) is None
    assert pods.unscheduled_since(pod("Pending", conditions=[]) | {"spec": {}}) is None


def test_the_result_of_a_step_is_what_its_pod_told_last() -> None:
    assert pods.step_report(pod("Succeeded", state=ended(0, "Completed", GOOD))) == ("ended", json.loads(GOOD))
    assert pods.step_report(pod("Succeeded", state=ended(0, "Completed", '{"in_log": true}'))) == ("ended", {"in_log": True})
    assert pods.step_report(pod()) == ("started", {"pod": "p", "node": "node1"})
    assert pods.step_report(pod("Pending", state={"waiting": {"reason": "ContainerCreating"}})) is None


def test_a_step_whose_node_is_given_up_has_ended_and_one_that_is_drained_has_not_yet() -> None:
    for reason, kind in (("DeletionByTaintManager", "ended"), ("EvictionByEvictionAPI", "started")):
        told = pod(conditions=[{"type": "DisruptionTarget", "reason": reason, "message": "moved"}])
        assert (pods.step_report(told) or ("",))[0] == "started"
        told["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z"
        report = pods.step_report(told)
        assert report is not None
        assert report[0] == kind
    assert pods.step_report(told) == ("started", {"pod": "p", "node": "node1"})


def test_a_long_result_is_the_last_line_of_the_log() -> None:
    log = f"hello\nautonomic-result: not this\nbye\n{step.RESULT}{GOOD}\n"
    assert step.result_in(log) == json.loads(GOOD)
    assert step.without_result(log) == "hello\nautonomic-result: not this\nbye\n"
    assert step.result_in("hello\n") is None
    assert step.result_in(log.rstrip()[:-1]) is None
    assert step.without_result("hello\n") == "hello\n"
    assert step.bounded({"status": "succeeded", "outputs": {"x": "y" * 200_000}})["status"] == "failed"


def again(starts: int) -> dict[str, Any]:
    """A replica that runs again after it ended."""
    made = pod(ready=False, starts=starts)
    made["status"]["containerStatuses"][0]["lastState"] = ended(1, message="RuntimeError: cracked is broken")
    return made


def deployment(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "d", "managedFields": []}, "spec": {"replicas": 2}, "status": status}


@pytest.mark.parametrize(
    ("of_pods", "failed"),
    [
        ([pod()], ""),
        ([pod(ready=False, state=ended(1, message="RuntimeError: cracked is broken"))], ""),
        ([pod(ready=False, state=ended(1, message="RuntimeError: cracked is broken"), starts=1)], "cracked is broken"),
        ([again(starts=1)], ""),
        ([again(starts=2)], "cracked is broken"),
        ([pod("Pending", state=UNMADE, ready=False)], ""),
        ([pod("Pending", state=UNMADE, ready=False, seconds=40)], "context deadline exceeded"),
        ([pod("Pending", state=NO_IMAGE, ready=False)], "ImagePullBackOff"),
        ([pod("Pending", conditions=UNSCHEDULABLE, containerStatuses=[])], ""),
    ],
)
def test_an_application_has_failed_when_it_will_not_come_up_by_itself(of_pods: list[dict[str, Any]], failed: str) -> None:
    state = state_of(deployment(), of_pods, NOW)
    assert state.target == 2
    assert state.status == ("DEPLOY_FAILED" if failed else "RUNNING")
    assert failed in state.message


@pytest.mark.parametrize(
    ("started", "words"),
    [(False, "p starts: its container runs, and the model server does not answer yet"), (True, "p is not ready: its container runs")],
)
def test_a_replica_that_runs_and_gets_no_requests_says_why(started: bool, words: str) -> None:
    late = pod(ready=False)
    late["status"]["containerStatuses"][0]["started"] = started
    state = state_of(deployment(), [pod(), late], NOW)
    assert (state.status, state.message[: len(words)]) == ("RUNNING", words)


def test_pods_that_cannot_be_made_are_a_failure() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "denied by a policy"}
    state = state_of(deployment(conditions=[refused]), [], NOW)
    assert (state.status, state.message) == ("DEPLOY_FAILED", "FailedCreate: denied by a policy")


def test_pods_for_which_a_quota_leaves_no_room_are_waited_for_and_say_so() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: none, used: pods=0"}
    state = state_of(deployment(conditions=[refused]), [], NOW)
    assert (state.status, state.message) == ("RUNNING", "FailedCreate: exceeded quota: none, used: pods=0")
    broken = pod(ready=False, state=ended(1, message="RuntimeError: cracked is broken"), starts=1)
    assert state_of(deployment(conditions=[refused]), [broken], NOW).status == "DEPLOY_FAILED"


def test_a_deployment_that_was_scaled_by_hand_says_by_whom_and_how_many_there_are() -> None:
    wanted = Desired(target="shop/api", replicas=2)
    said = str(changed("one", wanted, "kubectl", 3))
    assert said == "one: 2 replicas is declared, 3 replicas is there (scaled by kubectl)"
    assert changed("one", wanted, "kubectl-edit", 2).actual == "one that kubectl-edit changed"


def test_who_else_scales_is_seen() -> None:
    ours = {"manager": "autonomic", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    theirs = {"manager": "kubectl", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    status = {"manager": "kube-controller-manager", "fieldsV1": {"f:status": {}}}
    item = deployment()
    item["metadata"]["managedFields"] = [ours, status]
    assert foreign_writer(item) == ""
    item["metadata"]["managedFields"] = [ours, status, theirs]
    assert foreign_writer(item) == "kubectl"


@pytest.mark.parametrize(
    ("file", "text", "killed"),
    [
        ("memory.events", "low 0\noom 1\noom_kill 1\n", True),
        ("memory.events", "low 0\noom 0\noom_kill 0\n", False),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", True),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", False),
        ("other", "", False),
    ],
)
def test_whether_memory_ran_out_is_told_by_the_control_group(tmp_path: Path, file: str, text: str, killed: bool) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert step.out_of_memory(tmp_path) is killed


TRACEBACK = """Traceback (most recent call last):
  File "replica.py", line 30, in server_config
    raise Retryable(f"MLflow at {url} refused")
autonomic.seams.errors.Retryable: MLflow at http://10.0.0.1:5000 refused
the connection
"""


@pytest.mark.parametrize(
    ("printed", "cause"),
    [
        (TRACEBACK, "autonomic.seams.errors.Retryable: MLflow at http://10.0.0.1:5000 refused\nthe connection"),
        ("warming up\nno space left on device\n\n", "no space left on device"),
        ("", "it printed nothing"),
    ],
)
def test_a_replica_that_crashes_again_and_again_says_why_in_the_words_it_ended_with(printed: str, cause: str) -> None:
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
    crashing = pod(state=state, ready=False, starts=4)
    crashing["status"]["containerStatuses"][0]["lastState"] = ended(1, message=printed)
    assert pods.trouble(crashing) == f"CrashLoopBackOff: {cause} (exit code 1, started 5 times)"
    assert pods.lasting_trouble(crashing, NOW) == pods.trouble(crashing)
    # one that may still come up by itself says why as well, and fails nothing
    once = pod(state={"running": {}}, ready=False, starts=1)
    once["status"]["containerStatuses"][0]["lastState"] = ended(1, message=printed or "x")
    seen = state_of({"spec": {"replicas": 1}}, [once], NOW)
    assert seen.status == "RUNNING"
    assert seen.message.startswith("it ended with exit code 1: ")
