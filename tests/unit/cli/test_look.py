"""`autonomic status` in an outage: each part by itself, and the right culprit."""

import fcntl
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from autonomic.agents.settings import Settings
from autonomic.cli import look
from autonomic.cli.client import Client
from autonomic.platforms.host import restarts
from autonomic.platforms.host.restarts import Restart

WORKFLOW = {"name": "shop", "type": "online", "spec": {}, "state": {}, "services": {}, "differs": [], "detail": ""}
STRATEGY = {"name": "keep", "target": "shop/api"}
WAITING = {"strategy": "late", "evaluated_at": None, "event": "my.type", "waiting_since": 7.0, "received_at": None}
LISTS = {
    "/v1/workflows": [WORKFLOW],
    "/v1/strategies": [STRATEGY],
    "/v1/triggers": [{"strategy": "keep", "evaluated_at": 5.0, "event": None}, WAITING],
}
Part = Callable[..., str]


@pytest.fixture
def part() -> Iterator[Part]:
    """Starts a part that answers, but not on the paths that are frozen; returns its URL."""
    servers: list[ThreadingHTTPServer] = []
    over = threading.Event()

    def start(*frozen: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None: ...

            def do_GET(self) -> None:
                if any(word in self.path for word in frozen):
                    over.wait(60)
                    return
                path = self.path.partition("?")[0]
                body = json.dumps([] if path == "/v1/freezes" else {"items": LISTS.get(path, []), "next": ""}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def seen(tmp_path: Path, part: Part, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """What status sees of parts that answer, but for the URLs that are given."""
    monkeypatch.setattr(look, "ASK_SECONDS", 0.5)
    monkeypatch.setattr("autonomic.cli.client.READY_SECONDS", 0.5)

    def see(**urls: str) -> dict[str, Any]:
        names = ("monitor", "planner", "tuner", "host", "mlflow", "prometheus", "front")
        given = {f"{name}_url": urls.get(name) or part() for name in names}
        Settings(home=tmp_path, **given).save()
        with Client(tmp_path) as client:
            return look.look(client)

    return see


def states(data: dict[str, Any]) -> dict[str, str]:
    return {name: one["state"] for name, one in data["parts"].items() if one["state"] != "ready"}


def test_where_all_answers_nothing_is_unknown_and_every_strategy_was_looked_at(seen: Any) -> None:
    data = seen()
    assert (states(data), data["unknown"]) == ({}, {})
    assert [item["last_look"] for item in data["strategies"]] == [5.0]


def test_an_event_that_a_strategy_waits_for_and_nobody_has_sent_is_shown(seen: Any) -> None:
    (waiting,) = seen()["events"]
    event, strategy, since, received = look.event_row(waiting)
    assert (event, strategy, received) == ("my.type", "late", "never")
    assert since
    assert look.event_row({**waiting, "received_at": 9.0})[3] not in ("", "never")


def test_a_frozen_host_is_the_culprit_and_the_documents_are_shown_all_the_same(seen: Any, part: Part) -> None:
    data = seen(host=part("/"), planner=part("observe=true"))
    assert states(data) == {"host": "unreachable"}
    assert list(data["unknown"]) == ["observed"]
    (workflow,) = data["workflows"]
    assert (workflow["name"], workflow["state"]) == ("shop", None)
    assert "did not answer in time" in workflow["detail"]
    assert len(data["strategies"]) == 1


def test_a_monitor_that_is_away_takes_nothing_but_the_looks(seen: Any) -> None:
    data = seen(monitor="http://127.0.0.1:1")
    assert states(data) == {"monitor": "unreachable"}
    assert data["unknown"] == {}
    assert [look.last_look(item) for item in data["strategies"]] == ["never"]


def test_a_front_or_a_registry_that_is_frozen_is_named_alone(seen: Any, part: Part) -> None:
    assert states(seen(front=part("/"))) == {"front": "unreachable"}
    assert states(seen(mlflow=part("/"))) == {"mlflow": "unreachable"}


def test_a_part_that_was_started_again_says_when_and_why(seen: Any, tmp_path: Path) -> None:
    restarts.record(tmp_path, Restart(time=time.time() - 100_000, part="planner", why="long ago"))
    restarts.record(tmp_path, Restart(time=time.time() - 5, part="front", why="HAProxy had ended"))
    parts = seen()["parts"]
    assert "HAProxy had ended" in parts["front"]["detail"]
    assert parts["front"]["state"] == "ready"
    assert parts["planner"]["detail"] == ""


def test_what_starts_parts_again_is_a_part(tmp_path: Path) -> None:
    assert look.supervisor(tmp_path) is None
    with (tmp_path / "up.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert (look.supervisor(tmp_path) or {})["state"] == "ready"
    found = look.supervisor(tmp_path) or {}
    assert found["state"] == "not ready"
    assert "nothing supervises" in found["detail"]
