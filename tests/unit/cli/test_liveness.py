"""Parts that live and do not answer: found, ended, recorded and published."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from autonomic.cli import liveness
from autonomic.cli.liveness import Liveness, Looked, Patience, Published
from autonomic.platforms.host import restarts
from autonomic.platforms.host.restarts import Restart
from autonomic.seams.event_types import PART_RESTARTED

SERVE = """
import http.server, socketserver
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): ...
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"{}")
server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def test_a_process_counts_as_frozen_after_its_silence_and_never_while_it_starts_or_was_not_asked() -> None:
    patience = Patience(30)
    assert not any(patience.missed("host", 7, now) for now in (0, 100, 200, 300))
    patience.answered("host", 7, 300)
    assert [patience.missed("host", 7, now) for now in (310, 320)] == [0, 0]
    assert patience.missed("host", 7, 331) == 31
    patience.answered("host", 7, 340)
    # a machine that was asleep: much time and few misses
    assert [patience.missed("host", 7, now) for now in (9000, 9001)] == [0, 0]
    # another process now, which starts
    assert not any(patience.missed("host", 8, now) for now in (9002, 9050, 9100))


@pytest.fixture
def frozen_part() -> "Iterator[tuple[str, subprocess.Popen[bytes]]]":
    process = subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    yield f"http://127.0.0.1:{port}/healthz", process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_frozen_process_is_ended_and_why_is_reported(
    frozen_part: "tuple[str, subprocess.Popen[bytes]]", monkeypatch: pytest.MonkeyPatch
) -> None:
    url, process = frozen_part
    reported: list[tuple[str, str]] = []
    looks = Liveness(lambda: [Looked("host", url, process.pid, liveness.end_group)], lambda *what: reported.append(what), frozen_seconds=0)
    looks.look()
    process.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(liveness, "ASK_SECONDS", 0.2)
    for _ in range(3):
        assert not reported
        looks.look()
    ((part, why),) = reported
    assert part == "host"
    assert f"process {process.pid} did not answer" in why
    assert process.wait(10) == -signal.SIGKILL
    # what has ended is not frozen, and is somebody else's to start
    looks.look()
    assert len(reported) == 1


@pytest.fixture
def agent() -> Iterator[Any]:
    """An agent that takes events, or (`away`) answers 503."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.asked.append(self.path)
            if not server.away:
                server.events += body
            self.send_response(503 if server.away else 202)
            self.send_header("Content-Length", "0")
            self.end_headers()

    class Server(ThreadingHTTPServer):
        away = True
        asked: list[str] = []
        events: list[dict[str, Any]] = []

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_restart_is_kept_in_the_home_at_once_and_published_once_when_the_agent_is_there(agent: Any, tmp_path: Path) -> None:
    published = Published(tmp_path, lambda: [f"http://127.0.0.1:{agent.server_port}"], lambda: "token")
    published.record("planner", "ended with code -9")
    published.publish()
    assert restarts.newest(tmp_path)["planner"].why == "ended with code -9"
    assert agent.events == []
    agent.away = False
    for _ in range(2):
        published.publish()
    (event,) = agent.events
    assert (event["type"], event["subject"], event["data"]["why"]) == (PART_RESTARTED, "planner", "ended with code -9")
    assert set(agent.asked) == {"/v1/events"}


def test_the_newest_restart_of_each_part_is_found_whatever_else_stands_in_the_file(tmp_path: Path) -> None:
    assert restarts.newest(tmp_path) == {}
    for time in (1.0, 2.0):
        restarts.record(tmp_path, Restart(time=time, part="front", why="HAProxy had ended"))
    with (tmp_path / "restarts.jsonl").open("a") as file:
        file.write('{"time": 3.0, "pa\n')
    restarts.record(tmp_path, Restart(time=4.0, part="host", why="x" * 100_000))
    restarts.record(tmp_path, Restart(time=5.0, part="host", why="last"))
    assert {name: one.time for name, one in restarts.newest(tmp_path).items()} == {"front": 2.0, "host": 5.0}
    for number in range(300):
        restarts.record(tmp_path, Restart(time=number, part="host", why="y" * 1000))
    assert (tmp_path / "restarts.jsonl").stat().st_size < 500_000
