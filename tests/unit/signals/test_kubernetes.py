"""Readings and events of what a host says of its cluster."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.reading import Reading
from autonomic.seams.signal import Query
from autonomic.signals.kubernetes import SOURCES, KubernetesEvents, KubernetesSignal, concerns
from autonomic.signals.queries import KUBERNETES_FILTERS, KubernetesQuery

NOW = 1000.0
PODS = [
    {"name": "a", "node": "n1", "role": "champion", "phase": "Running", "reasons": {}, "restarts": 2},
    {
        "name": "b",
        "node": "n2",
        "role": "champion",
        "phase": "Running",
        "reasons": {"CrashLoopBackOff": "", "OOMKilled": ""},
        "restarts": 3,
    },
    {"name": "c", "node": "", "role": "backup", "phase": "Pending", "reasons": {"Unschedulable": "0/2 nodes"}, "restarts": 0},
]
TOLD: dict[str, Any] = {
    "pods": {"items": PODS},
    "jobs": {"items": [{"name": "j", "conditions": ["Failed"]}, {"name": "k", "conditions": []}]},
    "nodes": {"items": [{"name": "n1", "conditions": ["Ready"]}, {"name": "n2", "conditions": ["MemoryPressure"]}]},
    "events": {"items": [{"reason": "FailedScheduling", "count": 4}, {"reason": "BackOff", "count": 1}]},
    "deployments": {"items": [{"role": "champion", "wanted": 3, "ready": 2}, {"role": "backup", "wanted": 1, "ready": 1}]},
    "usage": {
        "items": [
            {"name": "a", "node": "n1", "role": "champion", "cpu": 0.25, "memory": 100.0, "time": 990.0},
            {"name": "b", "node": "n2", "role": "champion", "cpu": 0.5, "memory": 50.0, "time": 980.0},
        ]
    },
}


def ask(told: Any = TOLD, target: str = "web/api", **args: Any) -> Any:
    asked: list[tuple[str, Sequence[str]]] = []

    def cluster(target: str, parts: Sequence[str]) -> Mapping[str, Any] | None:
        asked.append((target, parts))
        if isinstance(told, Exception):
            raise told
        return told

    query = Query(strategy="s", name="n", target=target, signal="kubernetes", args=args)
    (answer,) = KubernetesSignal(cluster).read([query], NOW)
    assert len(asked) == 1
    return answer


@pytest.mark.parametrize(
    ("args", "value"),
    [
        ({"metric": "pods"}, 3),
        ({"metric": "pods", "phase": "Running"}, 2),
        ({"metric": "pods", "reason": "OOMKilled"}, 1),
        ({"metric": "pods", "reason": "CrashLoopBackOff"}, 1),
        ({"metric": "pods", "reason": "Evicted"}, 0),
        ({"metric": "pods", "role": "backup"}, 1),
        ({"metric": "restarts"}, 5),
        ({"metric": "jobs", "condition": "Failed"}, 1),
        ({"metric": "nodes", "condition": "Ready"}, 1),
        ({"metric": "events"}, 5),
        ({"metric": "events", "reason": "FailedScheduling"}, 4),
        ({"metric": "ready_replicas"}, 3),
        ({"metric": "wanted_replicas", "role": "champion"}, 3),
        ({"metric": "cpu"}, 0.75),
        ({"metric": "memory"}, 150),
    ],
)
def test_each_number(args: dict[str, Any], value: float) -> None:
    reading = ask(**args)
    assert (reading.status, reading.value) == ("ok", value)


def test_a_measured_reading_is_as_old_as_the_oldest_measurement() -> None:
    assert ask(metric="cpu").time == 980.0


def test_by_node_there_is_one_number_for_each() -> None:
    def told(**args: Any) -> dict[str, float | None]:
        return {reading.labels["node"]: reading.value for reading in ask(by="node", **args)}

    assert told(metric="pods") == {"n1": 1, "n2": 1}
    assert told(metric="pods", reason="OOMKilled") == {"n2": 1}
    assert told(metric="cpu") == {"n1": 0.25, "n2": 0.5}
    # a node that is not ready is a 0 that is known
    assert told(metric="nodes", condition="Ready") == {"n1": 1, "n2": 0}


def test_what_cannot_be_seen_is_missing_and_never_zero() -> None:
    for args in ({"metric": "pods"}, {"metric": "nodes"}, {"metric": "events"}, {"metric": "cpu"}, {"metric": "ready_replicas"}):
        away = ask({part: {"missing": "forbidden"} for part in TOLD}, **args)
        assert (away.status, away.value, away.detail) == ("missing", None, "forbidden")
        assert ask({}, **args).status == "missing"
        assert ask(None, **args).status == "missing"
        for failure in (Retryable("the host is away"), Permanent("this platform is none")):
            assert (ask(failure, **args).status, ask(failure, **args).detail) == ("error", str(failure))
    empty = {part: {"items": []} for part in TOLD}
    assert ask(empty, metric="pods").value == 0
    assert ask(empty, metric="ready_replicas").status == "missing"
    assert ask(empty, metric="cpu").status == "missing"


def test_a_pod_that_was_not_measured_yet_makes_the_sum_unknown_where_it_runs() -> None:
    items = [*TOLD["usage"]["items"], {"name": "d", "node": "n2", "role": "champion", "cpu": None, "memory": None, "time": None}]
    told = {"usage": {"items": items}}
    assert (ask(told, metric="cpu").status, ask(told, metric="cpu").detail) == ("missing", "the metrics API does not know d yet")
    assert {reading.labels["node"]: reading.status for reading in ask(told, metric="cpu", by="node")} == {"n1": "ok", "n2": "missing"}


def test_each_target_is_asked_once_for_all_its_parts() -> None:
    asked: list[tuple[str, list[str]]] = []

    def cluster(target: str, parts: Sequence[str]) -> Mapping[str, Any]:
        asked.append((target, list(parts)))
        return TOLD

    args: list[dict[str, Any]] = [{"metric": "pods"}, {"metric": "restarts"}, {"metric": "cpu"}, {"metric": "pods", "of": "training"}]
    queries = [Query(strategy="s", name=str(n), target="web/api", signal="kubernetes", args=each) for n, each in enumerate(args)]
    assert all(isinstance(answer, Reading) and answer.status == "ok" for answer in KubernetesSignal(cluster).read(queries, NOW))
    assert asked == [("web/api", ["pods", "usage"]), ("training", ["pods"])]


@pytest.mark.parametrize("name", KUBERNETES_FILTERS)
def test_a_filter_that_does_not_fit_is_refused(name: str) -> None:
    values = {"phase": "Running", "reason": "x", "condition": "Ready", "role": "backup", "by": "node"}
    fitting = KUBERNETES_FILTERS[name]
    for metric in fitting:
        assert KubernetesQuery.model_validate({"metric": metric, name: values[name]}).metric == metric
    with pytest.raises(ValidationError, match=f"{name}: goes with {', '.join(fitting)}, and not with"):
        KubernetesQuery.model_validate({"metric": "wanted_replicas" if name != "role" else "nodes", name: values[name]})


# -- events


def fact(name: str, kind: str = "pod.oom_killed", target: str = "web/api") -> dict[str, Any]:
    return {"id": name, "type": f"dev.autonomic.kubernetes.{kind}", "time": 900.0, "target": target, "data": {"reason": "OOMKilled"}}


def test_each_fact_is_an_event_once_and_what_was_before_the_start_is_none() -> None:
    told: list[dict[str, Any]] = [fact("old")]
    events = KubernetesEvents("workloads", lambda source: {"facts": told})
    found, cursor = events.watch(None)
    assert found == []
    told.append(fact("new"))
    (event,), cursor = events.watch(cursor)
    assert (event.id, event.type, event.target) == ("kubernetes-new", "dev.autonomic.kubernetes.pod.oom_killed", "web/api")
    assert event.data == {"reason": "OOMKilled", "target": "web/api"}
    assert event.expires_at == 1200.0
    # another reader with the same cursor: a monitor that was started again
    assert KubernetesEvents("workloads", lambda source: {"facts": told}).watch(cursor) == ([], cursor)
    # what is gone is forgotten, and what is left is no news
    del told[0]
    assert events.watch(cursor) == ([], ["new"])


def test_a_cluster_that_is_away_tells_nothing_and_moves_no_cursor() -> None:
    events = KubernetesEvents("nodes", lambda source: {"missing": f"no {source}"})
    with pytest.raises(Retryable, match="no nodes"):
        events.watch(["a"])


def test_types_are_of_one_source_each() -> None:
    types = [each for types in SOURCES.values() for each in types]
    assert len(types) == len(set(types))


@pytest.mark.parametrize(
    ("kind", "subject", "target", "wanted"),
    [
        ("dev.autonomic.kubernetes.pod.evicted", "web/api", "web/api", True),
        ("dev.autonomic.kubernetes.pod.evicted", "web/api", "web", True),
        ("dev.autonomic.kubernetes.pod.evicted", "web/api", "web/other", False),
        ("dev.autonomic.kubernetes.pod.evicted", "web/api", "we", False),
        ("dev.autonomic.kubernetes.node.ready", "", "web", True),
        ("something.else", "web/api", "other", True),
    ],
)
def test_an_event_of_another_workflow_wakes_nobody(kind: str, subject: str, target: str, wanted: bool) -> None:
    assert concerns(kind, subject, target) is wanted
