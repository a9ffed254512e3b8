import asyncio
import io
import json
import logging
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from autonomic.agents import logs
from autonomic.agents.app import create_app
from autonomic.agents.auth import ACT, ADMIN, READ, Tokens
from autonomic.agents.settings import Settings
from autonomic.agents.strict_json import StrictRoute
from autonomic.seams.errors import Permanent, Problem, Retryable, SpecError
from autonomic.seams.journal import StateConflict

Call = Callable[..., httpx.Response]
LIMIT = 2000


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens.load(tmp_path / "tokens.json")


@pytest.fixture
def missing() -> dict[str, str]:
    return {}


@pytest.fixture
def call(tmp_path: Path, tokens: Tokens, missing: dict[str, str]) -> Call:
    router = APIRouter(route_class=StrictRoute)

    @router.get("/v1/things/{number}", dependencies=[READ])
    def thing(number: int) -> int:
        return number

    @router.post("/v1/things", dependencies=[ACT])
    def put(body: dict[str, int]) -> dict[str, int]:
        return body

    @router.delete("/v1/things", dependencies=[ADMIN])
    def remove() -> None:
        return None

    @router.get("/v1/odd")
    def odd() -> dict[str, Any]:
        return {"half": "\ud83d", "loss": float("nan"), "good": 1}

    @router.get("/v1/raise/{name}")
    def raise_(name: str) -> None:
        raise {
            "retryable": Retryable("later", 7),
            "permanent": Permanent("never"),
            "conflict": StateConflict("old"),
            "spec": SpecError([Problem("wrong", "a.yaml", 3, 4)]),
            "unexpected": ZeroDivisionError("secret detail"),
        }[name]

    settings = Settings(home=tmp_path, monitor_url="", planner_url="", tuner_url="")
    app = create_app("monitor", settings, tokens=tokens, routers=[router], missing=lambda: missing, max_body_bytes=LIMIT)

    def call(method: str, path: str, token: str = "", **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://agent") as client:
                headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **options.pop("headers", {})}
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(ask())

    return call


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["detail"]
    return problem


def test_health_readiness_and_metrics_need_no_token(call: Call, missing: dict[str, str]) -> None:
    assert call("GET", "/healthz").json()["agent"] == "monitor"
    assert call("GET", "/readyz").json() == {"status": "ready", "missing": {}}
    missing["signal promql"] = "Prometheus does not answer"
    answer = call("GET", "/readyz")
    assert answer.status_code == 503
    assert problem_of(answer)["missing"] == missing
    assert 'autonomic_http_requests_total{method="GET",status="503"} 1.0' in call("GET", "/metrics").text
    assert "/v1/things" in call("GET", "/openapi.json").json()["paths"]


@pytest.mark.parametrize(("method", "path", "allowed"), [("GET", "/v1/things/1", "read"), ("DELETE", "/v1/things", "admin")])
def test_a_scope_opens_its_own_endpoints_and_those_of_lower_scopes(
    call: Call, tokens: Tokens, method: str, path: str, allowed: str
) -> None:
    scopes = ["read", "act", "admin"]
    for scope in scopes:
        expected = 200 if scopes.index(scope) >= scopes.index(allowed) else 403
        assert call(method, path, tokens[scope]).status_code == expected
    assert call(method, path, tokens["host"]).status_code == 401


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer nonsense", "Basic cmVhZDpyZWFk", "Bearer é"])
def test_without_a_known_token_it_is_401(call: Call, header: str) -> None:
    answer = call("GET", "/v1/things/1", headers={"Authorization": header.encode("latin-1")} if header else {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    problem_of(answer)


def test_a_token_without_the_scope_is_403_and_says_which_is_needed(call: Call, tokens: Tokens) -> None:
    answer = call("POST", "/v1/things", tokens["read"], json={"a": 1})
    assert answer.status_code == 403
    assert "needs act" in problem_of(answer)["detail"]


def test_every_error_is_a_problem(call: Call, tokens: Tokens) -> None:
    act = tokens["act"]
    for expected, answer in (
        (404, call("GET", "/nowhere")),
        (405, call("PATCH", "/v1/things", act)),
        (422, call("GET", "/v1/things/one", act)),
        (422, call("POST", "/v1/things", act, content=b'{"a": "x"}')),
        (503, call("GET", "/v1/raise/retryable")),
        (400, call("GET", "/v1/raise/permanent")),
        (409, call("GET", "/v1/raise/conflict")),
        (422, call("GET", "/v1/raise/spec")),
        (500, call("GET", "/v1/raise/unexpected")),
    ):
        assert answer.status_code == expected
        problem_of(answer)
    assert call("GET", "/v1/raise/retryable").headers["retry-after"] == "7"
    assert call("GET", "/v1/raise/spec").json()["problems"][0]["line"] == 3
    assert "secret detail" not in call("GET", "/v1/raise/unexpected").text


@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b'{"\\ud800": 1}', b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e999}', b"[" * 1900, b"[" * 101 + b"]" * 101]
)
def test_what_is_no_json_is_400_and_says_why(call: Call, tokens: Tokens, body: bytes) -> None:
    answer = call("POST", "/v1/things", tokens["act"], content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "not valid JSON" in problem_of(answer)["detail"]


def test_a_body_over_the_limit_is_413_also_without_a_length(call: Call, tokens: Tokens) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 300

    assert call("POST", "/v1/things", tokens["act"], content=b" " * (LIMIT + 1)).status_code == 413
    answer = call("POST", "/v1/things", tokens["act"], content=chunks())
    assert answer.status_code == 413
    assert str(LIMIT) in problem_of(answer)["detail"]


def test_a_request_id_is_kept_where_it_is_sound(call: Call) -> None:
    assert call("GET", "/healthz", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert call("GET", "/healthz", headers={"X-Request-Id": "a b"}).headers["x-request-id"] != "a b"


def test_tokens_are_made_once_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "home" / "tokens.json"
    first = Tokens.load(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Tokens.load(path).values == first.values
    assert len(set(first.values.values())) == 4
    assert list(path.parent.iterdir()) == [path]
    path.chmod(0o644)
    with pytest.raises(Permanent, match="mode 644"):
        Tokens.load(path)


def test_tokens_of_a_secret_may_be_read_by_the_group_that_a_pod_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokens.json"
    Tokens.load(path)
    path.chmod(0o440)
    with pytest.raises(Permanent, match="mode 440"):
        Tokens.load(path)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert Tokens.load(path)["read"]
    path.chmod(0o444)
    with pytest.raises(Permanent, match="mode 444"):
        Tokens.load(path)


def test_the_journals_url_in_the_environment_goes_before_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Settings(home=tmp_path, monitor_url="", planner_url="", tuner_url="", journal_url="sqlite:///x").save()
    assert Settings.load(tmp_path).journal("planner") == "sqlite:///x"
    monkeypatch.setenv("AUTONOMIC_JOURNAL_URL", "postgresql+psycopg://u:p@db/autonomic_{agent}")
    assert Settings.load(tmp_path).journal("planner") == "postgresql+psycopg://u:p@db/autonomic_planner"


def test_how_long_things_are_kept_is_said_in_the_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Settings(home=tmp_path, monitor_url="", planner_url="", tuner_url="").save()
    assert Settings.load(tmp_path).keep_days == 30
    monkeypatch.setenv("AUTONOMIC_KEEP_DAYS", "0.5")
    assert Settings.load(tmp_path).keep_days == 0.5
    monkeypatch.setenv("AUTONOMIC_KEEP_DAYS", "never")
    with pytest.raises(Permanent, match=r"(?s)settings\.json with AUTONOMIC_KEEP_DAYS of the environment is not valid.*keep_days"):
        Settings.load(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"read": "x", "act": "x", "admin": "x", "host": "x"}', '{"read": 1}'])
def test_a_broken_token_file_is_said_and_not_used(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(Permanent, match="it and new ones are made"):
        Tokens.load(path)


def test_logs_are_json_and_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    try:
        logs.setup("monitor", ["s3cret-token"])
        logs.logger("x").info("token s3cret-token", extra={"header": "Bearer abc.def", "url": "postgresql://me:pass@db/x"})
    finally:
        root.handlers[:], root.level = before
    line = json.loads(stream.getvalue())
    assert line["message"] == "token ***"
    assert line["header"] == "Bearer ***"
    assert line["url"] == "postgresql://me:***@db/x"
    assert line["agent"] == "monitor"


def test_an_answer_that_json_cannot_hold_is_given_all_the_same(call: Call) -> None:
    assert call("GET", "/v1/odd").json() == {"half": "\ufffd", "loss": None, "good": 1}
