import contextlib
import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SLOPPY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
POSTS = ("/v1/events", "/v1/alerts", "/v1/labels", "/v1/readings:read", "/v1/triggers/s/call:fire", "/v1/triggers/x/y:fire")
GETS = ("/v1/signals", "/v1/readings", "/v1/triggers", "/v1/events", "/v1/points")
LABEL = {"prediction_id": "p", "label": 1}
EVENT = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}


def fine(answer: Any) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


def test_nothing_that_is_sent_breaks_the_monitor(monitor: Any, strategy: Callable[..., dict[str, Any]]) -> None:
    monitor.apply(strategy("s", on={"call": True}))
    applied = monitor.call("GET", "/v1/triggers").json()

    @SLOPPY
    @given(
        path=st.sampled_from(POSTS), body=ANYTHING, kind=st.sampled_from(["application/json", "application/cloudevents-batch+json", "x"])
    )
    def send_json(path: str, body: Any, kind: str) -> None:
        fine(monitor.call("POST", path, content=json.dumps(body), headers={"Content-Type": kind}))

    @SLOPPY
    @given(path=st.sampled_from(POSTS), body=st.binary(max_size=100))
    def send_bytes(path: str, body: bytes) -> None:
        fine(monitor.call("POST", path, content=body, headers={"Content-Type": "application/json"}))

    @SLOPPY
    @given(
        path=st.sampled_from(GETS),
        query=st.dictionaries(
            st.sampled_from(["limit", "cursor", "strategy", "target", "state", "x"]), st.text(max_size=10) | st.integers(), max_size=3
        ),
    )
    def ask(path: str, query: dict[str, Any]) -> None:
        with contextlib.suppress(UnicodeEncodeError):
            answer = monitor.call("GET", path, params=query)
            # the host of this test knows no points
            assert answer.status_code != 500
            assert answer.status_code < 500 or path == "/v1/points"

    @SLOPPY
    @given(change=st.dictionaries(st.sampled_from(["workflow", "service", "labels"]), ANYTHING, max_size=2))
    def send_labels(change: dict[str, Any]) -> None:
        good = {"workflow": "web", "service": "api", "labels": [LABEL]}
        fine(monitor.call("POST", "/v1/labels", content=json.dumps({**good, **change}), headers={"Content-Type": "application/json"}))

    @SLOPPY
    @given(
        change=st.dictionaries(st.sampled_from(["specversion", "id", "source", "type", "data", "subject", "time"]), ANYTHING, max_size=3)
    )
    def send_event(change: dict[str, Any]) -> None:
        fine(monitor.call("POST", "/v1/events", content=json.dumps({**EVENT, **change}), headers={"Content-Type": "application/json"}))

    for attack in (send_json, send_bytes, ask, send_labels, send_event):
        attack()
    assert monitor.call("GET", "/healthz").status_code == 200
    assert [item["name"] for item in monitor.call("GET", "/v1/triggers").json()["items"]] == [item["name"] for item in applied["items"]]


def test_wrong_tokens_unknown_names_and_long_bodies_are_refused_and_leave_nothing(
    monitor: Any, strategy: Callable[..., dict[str, Any]]
) -> None:
    monitor.apply(strategy("s", on={"call": True}))
    for status, answer in (
        (401, monitor.call("GET", "/v1/readings", headers={"Authorization": "Bearer x"})),
        (401, monitor.call("POST", "/v1/events", "host", json=EVENT)),
        (403, monitor.call("POST", "/v1/events", "read", json=EVENT)),
        (403, monitor.call("POST", "/v1/labels", "read", json={})),
        (403, monitor.call("POST", "/v1/triggers/s/call:fire", "read")),
        (404, monitor.call("POST", "/v1/triggers/none/call:fire")),
        (404, monitor.call("POST", "/v1/triggers/s/every:fire")),
        (404, monitor.call("POST", "/v1/readings:read", json={"strategy": "none"})),
        (404, monitor.call("POST", "/v1/labels", json={"workflow": "web", "service": "none", "labels": [LABEL]})),
        (404, monitor.call("POST", "/v1/labels", json={"workflow": "none", "service": "api", "labels": [LABEL]})),
        (422, monitor.call("GET", "/v1/signals?limit=0")),
        (400, monitor.call("POST", "/v1/readings:read", json={"strategy": "s", "by": {"node": "a"}})),
        (404, monitor.call("GET", "/v1/nothing")),
        (405, monitor.call("DELETE", "/v1/events")),
        (413, monitor.call("POST", "/v1/labels", content=b" " * (9 * 1024 * 1024), headers={"Content-Type": "application/json"})),
        (415, monitor.call("POST", "/v1/events", content=b"<x/>", headers={"Content-Type": "text/xml"})),
        (422, monitor.call("POST", "/v1/labels", json={"workflow": "web", "service": "api", "labels": []})),
        (422, monitor.call("GET", "/v1/points?target=nonsense")),
    ):
        assert answer.status_code == status, answer.text
        fine(answer)
    assert monitor.call("GET", "/v1/events").json()["items"] == []
    described = monitor.call("GET", "/openapi.json").json()["paths"]
    assert {"/v1/events", "/v1/alerts", "/v1/labels", "/v1/triggers/{strategy}/{trigger}:fire", *GETS} <= set(described)


def test_a_label_for_a_prediction_that_nobody_made_is_refused_by_itself(monitor: Any) -> None:
    monitor.apply()
    good, bad = {**LABEL, "prediction_id": "made"}, {**LABEL, "prediction_id": "unknown"}
    both = monitor.call("POST", "/v1/labels", json={"workflow": "web", "service": "api", "labels": [good, bad]})
    assert (both.status_code, both.json()["accepted"]) == (202, 1)
    assert [one["prediction_id"] for one in both.json()["refused"]] == ["unknown"]
    assert "no such prediction" in both.json()["refused"][0]["why"]
    none = monitor.call("POST", "/v1/labels", json={"workflow": "web", "service": "api", "labels": [bad]})
    assert none.status_code == 422
    assert [one["prediction_id"] for one in none.json()["refused"]] == ["unknown"]
