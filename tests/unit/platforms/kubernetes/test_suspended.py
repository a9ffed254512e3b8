"""What a pod that went means for its step, by what became of its Job."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from autonomic.platforms.kubernetes.objects import manifests
from autonomic.platforms.kubernetes.objects.api import Api
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.platforms.kubernetes.steps.runs import KubernetesRuns
from autonomic.seams.clock import VirtualClock

JOBS = "/apis/batch/v1/namespaces/here/jobs/run-1-work-1"
Heard = list[tuple[str, str]]


class Nothing:
    """Stands where these tests never come."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class Driver:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: Heard = []

    def hear(self, kind: str, step: str, attempt: int, data: dict[str, Any]) -> None:
        assert (step, attempt) == ("work", 1)
        self.heard.append((kind, data.get("why", data.get("detail", ""))))


class Driven:
    """A run that is driven here."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.thread = threading.current_thread()


@pytest.fixture
def runs(settings: KubernetesSettings) -> Iterator[tuple[KubernetesRuns, Driver]]:
    api, nothing, driven = Api(settings, VirtualClock()), Nothing(), Driven()
    made: Any = KubernetesRuns(settings, api, nothing, nothing, nothing, nothing, VirtualClock(), nothing.tell)  # type: ignore[arg-type]
    made._driven["run-1"] = driven
    yield made, driven.driver
    api.close()


def pod(state: dict[str, Any], **meta: Any) -> dict[str, Any]:
    notes = {manifests.RUN: "run-1", manifests.STEP: "work", manifests.ATTEMPT: "1"}
    labels = {"batch.kubernetes.io/job-name": "run-1-work-1"}
    phase = "Failed" if "terminated" in state else "Running" if state else "Pending"
    return {
        "metadata": {"name": "p", "namespace": "here", "annotations": notes, "labels": labels, **meta},
        "spec": {"containers": [{}], "nodeName": "node1"},
        "status": {"phase": phase, "containerStatuses": [{"state": state}]},
    }


def job(*, suspended: bool) -> dict[str, Any]:
    return {"metadata": {"name": "run-1-work-1", "labels": {manifests.QUEUE: "team"}}, "spec": {"suspend": suspended}}


ENDED = {"terminated": {"exitCode": 143, "message": "told to stop"}}
TAKEN_BACK = "Preempted: it was ended because its Job was suspended (waits in the queue team)"
CASES = [
    # (the pod before, whether its Job is suspended (None: it is gone), what is heard, whether the Job is deleted)
    (pod({}), True, [("waiting", "waits in the queue team")], False),
    (pod({}), False, [("ended", "its pod was deleted")], False),
    (pod({}), None, [("ended", "its pod was deleted")], False),
    (pod({"running": {}}), True, [("ended", TAKEN_BACK)], True),
    (pod({"running": {}}), False, [("ended", "its pod was deleted")], False),
    (pod(ENDED), True, [], False),
]


@pytest.mark.parametrize(("before", "suspended", "heard", "deleted"), CASES)
def test_a_pod_that_went_is_an_end_only_where_nothing_follows(
    runs: tuple[KubernetesRuns, Driver], api_server: Any, before: Any, suspended: bool | None, heard: Heard, deleted: bool
) -> None:
    api_server.answer = _job(suspended, asked := list[str]())
    runs[0].pod_changed(before, None)
    assert runs[1].heard == heard
    assert ("DELETE" in asked) is deleted


def test_a_pod_that_ends_because_it_is_taken_back_takes_its_job_with_it(runs: tuple[KubernetesRuns, Driver], api_server: Any) -> None:
    api_server.answer = _job(True, asked := list[str]())
    runs[0].pod_changed(pod({"running": {}}), pod(ENDED, deletionTimestamp="2026-11-24T10:00:00Z"))
    assert runs[1].heard == [("started", ""), ("ended", TAKEN_BACK)]
    assert asked == ["GET", "DELETE"]
    # told by the pod alone, without anybody who takes it away, it is the step's own end
    runs[1].heard.clear()
    runs[0].pod_changed(pod({"running": {}}), pod(ENDED))
    assert runs[1].heard[-1] == ("ended", "its pod ended with exit code 143 and left no result: told to stop")


def _job(suspended: bool | None, asked: list[str]) -> Callable[[str, str, Any], Any]:
    def answer(method: str, path: str, body: Any) -> Any:
        assert path.partition("?")[0] == JOBS
        asked.append(method)
        return (404, {}, {}) if suspended is None else (200, {}, job(suspended=suspended))

    return answer
