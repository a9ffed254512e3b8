"""Wrong requests get a 4xx problem+json, and nothing is half done."""

import json
import re
from typing import Any

import httpx
import pytest

HEAD = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow"}
ENDPOINTS = [
    ("GET", "/v1/strategies"),
    ("GET", "/v1/decisions"),
    ("GET", "/v1/plans"),
    ("GET", "/v1/workflows"),
    ("GET", "/v1/runs"),
    ("GET", "/v1/events"),
    ("GET", "/v1/stream"),
    ("POST", "/v1/events"),
    ("POST", "/v1/plans/x:approve"),
    ("POST", "/v1/plans/x:reject"),
    ("POST", "/v1/plans/x:cancel"),
    ("POST", "/v1/plans/x:revert"),
    ("POST", "/v1/primitives/rescale"),
    ("GET", "/v1/freezes"),
    ("POST", "/v1/freezes"),
    ("POST", "/v1/freezes:lift"),
    ("POST", "/v1/strategies/x:reinstate"),
    ("POST", "/v1/workflows/x:delete"),
    ("POST", "/v1/apply"),
    ("POST", "/v1/diff"),
    ("POST", "/v1/packages"),
    ("GET", "/v1/searches"),
    ("GET", "/v1/searches/x"),
    ("POST", "/v1/searches"),
    ("POST", "/v1/searches/x:stop"),
]


def is_problem(answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in (statuses or range(400, 500)), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_no_token_and_a_wrong_token_are_401(system: Any, method: str, path: str) -> None:
    url = f"{system.settings.tuner_url if 'searches' in path else system.settings.planner_url}{path}"
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eA=="}):
        is_problem(httpx.request(method, url, headers=headers, trust_env=False), 401)


def test_a_scope_that_is_too_small_is_403(system: Any, online: Any) -> None:
    system.apply(online("scope"))
    with system.client(system.settings.planner_url, "read") as reader, system.client(system.settings.planner_url, "act") as actor:
        assert reader.get("/v1/plans").status_code == 200
        assert reader.post("/v1/diff", json={"documents": []}).status_code == 200
        is_problem(reader.post("/v1/primitives/rescale", json={"target": "scope/s0", "args": {"to": 2}}), 403)
        is_problem(reader.post("/v1/events", json={}), 403)
        is_problem(actor.post("/v1/apply", json={"documents": []}), 403)
        is_problem(actor.post("/v1/packages", content=b"PK"), 403)
        is_problem(actor.post("/v1/primitives/delete", json={"target": "scope"}), 403)
    with system.client(system.settings.tuner_url, "read") as reader:
        assert reader.get("/v1/searches").status_code == 200
        is_problem(reader.post("/v1/searches", json={}), 403)
        is_problem(reader.post("/v1/searches/x:stop"), 403)
    assert system.see()["states"]["scope/s0"]["service"]["roles"]["champion"]["wanted"] == 1


def test_unknown_things_are_404(system: Any) -> None:
    for path in ("decisions/x", "plans/x", "workflows/x", "runs/x", "runs/x/steps/y/log", "strategies/x", "nothing"):
        is_problem(system.planner.get(f"/v1/{path}"), 404)
    for path in ("plans/x:approve", "plans/x:cancel", "plans/x:revert", "strategies/x:reinstate"):
        is_problem(system.planner.post(f"/v1/{path}"), 404)
    is_problem(system.planner.post("/v1/primitives/explode", json={"target": "a"}), 404)
    is_problem(system.planner.post("/v1/primitives/rescale", json={"target": "nothing/s0", "args": {"to": 2}}), 404)
    is_problem(system.planner.delete("/v1/plans"), 405)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'"text"',
        b"1e999",
        b'{"target": 5}',
        b'{"target": "a/b/c"}',
        b'{"target": "limits/s0", "args": []}',
        b'{"target": "limits/s0", "args": {"by": "one"}}',
        b'{"target": "limits/s0", "args": {"by": 1, "to": 2}}',
        b'{"target": "limits/s0", "args": {}}',
        b'{"target": "limits/s0", "args": {"to": -1}}',
        b'{"target": "limits/s0", "args": {"to": 2}, "force": true}',
        b'{"target": "limits/s0", "args": {"to": 2}, "dry_run": "perhaps"}',
        b'{"target": "\\u0000"}',
        b'{"target": "limits/s0", "args": {"to": NaN}}',
        b"[" * 5000,
    ],
)
def test_a_wrong_primitive_request_is_refused(system: Any, online: Any, body: bytes) -> None:
    system.apply(online("limits"))
    is_problem(system.planner.post("/v1/primitives/rescale", content=body, headers={"Content-Type": "application/json"}), 400, 404, 422)
    assert system.see()["states"]["limits/s0"]["service"]["roles"]["champion"]["wanted"] == 1


@pytest.mark.parametrize(
    "documents",
    [
        None,
        {},
        [1],
        [[]],
        [{}],
        [{"kind": "Nothing"}],
        [{"kind": "Workflow"}],
        [{"kind": ["Workflow"]}],
        [{"kind": "Workflow", "metadata": "x"}],
        [{"kind": "Strategy", "metadata": {"name": {}}, "spec": {}}],
        [{**HEAD, "metadata": {"name": "UPPER"}, "spec": {"type": "online", "services": []}}],
        [{**HEAD, "metadata": {"name": "ok"}, "spec": {"type": "batch", "steps": [{"name": "a", "needs": ["a"], "command": ["x"]}]}}],
    ],
)
def test_wrong_documents_change_nothing(system: Any, documents: Any) -> None:
    before = system.get("/v1/workflows", limit=1000)
    is_problem(system.planner.post("/v1/apply", json={"documents": documents}), 422)
    is_problem(system.planner.post("/v1/diff", json={"documents": documents}), 422)
    assert system.get("/v1/workflows", limit=1000) == before


@pytest.mark.parametrize("value", [b"NaN", b"1e999", b'"\\ud800"'])
def test_values_that_no_journal_can_keep_are_refused(system: Any, batch: Any, value: bytes) -> None:
    document = json.dumps(batch("kept", x=0)).encode().replace(b'"x": 0', b'"x": ' + value)
    before = system.get("/v1/workflows", limit=1000)
    for path, body in (
        ("/v1/apply", b'{"documents": [' + document + b"]}"),
        ("/v1/primitives/run", b'{"target": "kept", "args": {"parameters": {"x": ' + value + b"}}}"),
    ):
        is_problem(system.planner.post(path, content=body, headers={"Content-Type": "application/json"}), 400)
    assert system.get("/v1/workflows", limit=1000) == before


def test_events_are_taken_whole_or_not_at_all(system: Any) -> None:
    good = {"specversion": "1.0", "id": "whole-1", "source": "me", "type": "x.y"}
    fired = {**good, "id": "whole-2", "type": "dev.autonomic.trigger.fired", "data": {"id": 5}}
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    is_problem(system.planner.post("/v1/events", content=json.dumps([good, fired]), headers=headers), 422)
    assert system.planner.post("/v1/events", content=json.dumps([good]), headers=headers).json()["duplicates"] == 0
    is_problem(system.planner.post("/v1/events", json={**good, "specversion": "2.0"}), 422)
    is_problem(system.planner.post("/v1/events", content=b"{}", headers={"Content-Type": "text/plain"}), 415)


def test_pages_and_filters_refuse_what_they_did_not_give_out(system: Any) -> None:
    for path in ("decisions", "plans", "events", "runs"):
        for params in ({"limit": 0}, {"limit": 10_000}, {"limit": "x"}, {"cursor": "; drop table"}):
            is_problem(system.planner.get(f"/v1/{path}", params=params), 422)
    for params in ({"limit": 0}, {"limit": "x"}, {"cursor": "search-none"}):
        is_problem(system.tuner.get("/v1/searches", params=params), 422)
    is_problem(system.planner.get("/v1/plans", params={"phase": "odd"}), 422)
    is_problem(system.planner.get("/v1/runs", params={"status": "odd"}), 422)
    is_problem(system.planner.get("/v1/stream", params={"since": "-1"}), 422)
    is_problem(system.planner.get("/v1/stream", headers={"Last-Event-ID": "abc"}), 422)


def test_planner_and_tuner_describe_their_endpoints(system: Any) -> None:
    described = {
        agent: {
            re.sub(r"{\w+}", "x", path): methods for path, methods in getattr(system, agent).get("/openapi.json").json()["paths"].items()
        }
        for agent in ("planner", "tuner")
    }
    for method, path in ENDPOINTS:
        endpoints = described["tuner" if "searches" in path else "planner"]
        assert method.lower() in endpoints[path.replace("primitives/rescale", "primitives/x")]


def test_a_body_that_is_too_long_is_413(system: Any) -> None:
    is_problem(system.planner.post("/v1/apply", content=b"x" * (9 * 1024 * 1024)), 413)
