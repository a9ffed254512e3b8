"""Events are told once, and what cannot be told stops nothing."""

from collections.abc import Iterator
from typing import Any

import pytest

from autonomic.platforms.host.records import WorkflowRecord
from autonomic.platforms.kubernetes.effects import done_to
from autonomic.platforms.kubernetes.events import Events, owner_of
from autonomic.platforms.kubernetes.objects.api import Api
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.clock import VirtualClock
from autonomic.seams.plan import Change

JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "run-1-work-1", "namespace": "here", "uid": "u1"}}


@pytest.fixture
def api(settings: KubernetesSettings) -> Iterator[Api]:
    made = Api(settings, VirtualClock())
    yield made
    made.close()


def test_an_event_is_told_once_for_each_key(api: Api, api_server: Any) -> None:
    sent: list[dict[str, Any]] = []

    def answer(method: str, path: str, body: Any) -> Any:
        assert (method, path.partition("?")[0]) == ("POST", "/api/v1/namespaces/here/events")
        known = body["metadata"]["name"] in [each["metadata"]["name"] for each in sent]
        sent.append(body)
        return (409, {}, {"reason": "AlreadyExists"}) if known else (201, {}, body)

    api_server.answer = answer
    events = Events(api, VirtualClock())
    events.start()
    for key in ("ended", "ended", "made"):
        events.tell(JOB, key, "AttemptFailed", "OOMKilled", good=False)
    events.tell(None, "ended", "AttemptFailed", "nobody")
    events.close()
    assert [each["metadata"]["name"] == sent[0]["metadata"]["name"] for each in sent] == [True, True, False]
    assert (sent[0]["type"], sent[0]["reason"], sent[0]["message"]) == ("Warning", "AttemptFailed", "OOMKilled")
    assert sent[0]["involvedObject"] == {"apiVersion": "batch/v1", "kind": "Job", "name": "run-1-work-1", "namespace": "here", "uid": "u1"}


def test_a_missing_right_keeps_an_event_back_and_nothing_else(api: Api, api_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    refusal = (403, {}, {"message": "events is forbidden: User me cannot create"})
    # asked again, after it said that it is ready
    api_server.trouble = [refusal, (200, {}, {}), refusal]
    events = Events(api, VirtualClock())
    events.start()
    for number in (1, 2):
        events.tell(JOB, f"made-{number}", "AttemptMade", f"attempt {number}")
    events.close()
    (record,) = caplog.records
    assert "attempt 1" in record.message
    assert "resource events" in record.message
    assert [method for method, _ in api_server.asked].count("POST") == 3


def test_what_made_a_pod_is_its_controller() -> None:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "run-1-work-1", "uid": "u1"}
    pod = {"metadata": {"namespace": "here", "ownerReferences": [{**owner, "uid": "u0"}, {**owner, "controller": True}]}}
    assert owner_of(pod) == JOB
    assert owner_of({"metadata": {"namespace": "here"}}) is None


ROLES = {
    role: {"model": f"file:///{role}", "app": f"web--api--{role}", "replicas": 2, "fingerprint": "x"} for role in ("champion", "canary")
}
RECORD = WorkflowRecord.model_validate(
    {
        "spec": {},
        "services": {
            "api": {
                "spec": {
                    "name": "api",
                    "model": "file:///champion",
                    "resources": {"cpu": 1, "memory": "1Gi", "min": {"cpu": 0.5, "memory": "512Mi"}},
                },
                "roles": ROLES,
                "weights": {"champion": 90, "canary": 10},
                "since": 0.0,
                "size": {"cpu": 0.5, "memory": 2**29, "gpu": 0.0},
                "placement": {"nodes": {"disk": "ssd"}},
            }
        },
    }
)
DONE = [
    ("rescale", "web/api", {"role": "canary", "replicas": 2}, {"web--api--canary": "canary of api: 2 replicas"}),
    (
        "upgrade",
        "web/api",
        {"models": {"canary": "x"}},
        {"web--api--canary": "canary of api: file:///canary, 2 replicas, 10% of the traffic"},
    ),
    (
        "reroute",
        "web/api",
        {},
        {"web--api--champion": "champion of api: 90% of the traffic", "web--api--canary": "canary of api: 10% of the traffic"},
    ),
    ("resize", "web/api", {}, {f"web--api--{role}": f"{role} of api: 0.5 CPU, 512Mi of memory for each replica" for role in ROLES}),
    ("reschedule", "web/api", {}, {f"web--api--{role}": f"{role} of api: placed by {{'nodes': {{'disk': 'ssd'}}}}" for role in ROLES}),
    ("rescale", "web/other", {"role": "canary", "replicas": 2}, {}),
]


@pytest.mark.parametrize(("primitive", "target", "to", "told"), DONE)
def test_a_change_is_told_of_the_applications_that_it_was_about(primitive: str, target: str, to: Any, told: dict[str, str]) -> None:
    assert dict(done_to(Change(key="k", primitive=primitive, target=target, to=to), RECORD)) == told
    assert list(done_to(Change(key="k", primitive="delete", target="web", to={}), None)) == []
