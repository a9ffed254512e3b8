import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from autonomic.agents.auth import Tokens
from autonomic.agents.journal import SqlJournal
from autonomic.agents.settings import Settings
from autonomic.workflows.processes import free_port

WEB = {
    "apiVersion": "autonomic.dev/v1alpha1",
    "kind": "Workflow",
    "metadata": {"name": "web"},
    "spec": {"type": "online", "services": [{"name": "api", "model": "models:/m/1"}]},
}
"""What the strategies of these tests aim at."""


class Peer:
    """A real HTTP server on a fixed port in the place of the planner or the host; it can go away and come back."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.pages: dict[str, Any] = {}
        self.posts: list[tuple[str, Any]] = []
        self.statuses: dict[str, int] = {}
        self._server: ThreadingHTTPServer | None = None

    def events(self) -> list[dict[str, Any]]:
        """Each once: delivery is at least once, and what comes twice has the same id."""
        posted: dict[str, dict[str, Any]] = {}
        for path, body in list(self.posts):
            for event in body if path == "/v1/events" else []:
                posted.setdefault(event["id"], event)
        return list(posted.values())

    def up(self) -> None:
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None: ...

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def gone(self) -> bool:
                # connections that are kept open end with the server
                if peer._server is self.server:
                    return False
                self.close_connection = True
                return True

            def do_GET(self) -> None:
                if self.gone():
                    return
                page = peer.pages.get(self.path)
                text = page if isinstance(page, str) else json.dumps(page)
                self.answer(404 if page is None else 200, text.encode())

            def do_POST(self) -> None:
                if self.gone():
                    return
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path in peer.pages:
                    self.answer(200, json.dumps(peer.pages[self.path]).encode())
                    return
                body = json.loads(content)
                if self.path.partition("?")[0].endswith(":find"):
                    found = [name for name in body if name != "unknown"]
                    self.answer(200, json.dumps({name: [] for name in found}).encode())
                    return
                status = peer.statuses.get(self.path, 202)
                if status < 400:
                    peer.posts.append((self.path, body))
                self.answer(status, b"{}")

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def down(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class Monitor:
    """The monitor as a process in its home."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tokens = Tokens.load(settings.tokens_path)
        self.process: subprocess.Popen[bytes] | None = None
        # trust_env: nothing on loopback goes through a proxy
        self.client = httpx.Client(base_url=settings.monitor_url, timeout=60, trust_env=False)
        self.log = settings.home / "monitor.log"
        self.started_seconds = 0.0

    def start(self) -> None:
        environment = {**os.environ, "AUTONOMIC_HOME": str(self.settings.home)}
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "autonomic.agents.monitor"], env=environment, stdout=log, stderr=log)
        wait_until(self._answers, 120, lambda: self.log.read_text())
        self.started_seconds = time.monotonic() - began

    def _answers(self) -> bool:
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.process = None
        return code

    def call(self, method: str, path: str, token: str = "admin", **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[token]}", **options.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **options)

    def has_cursor(self, name: str) -> bool:
        """Whether its journal keeps a cursor of this name."""
        journal = SqlJournal(self.settings.journal("monitor"))
        try:
            return journal.state(name)[0] is not None
        finally:
            journal.close()

    def apply(self, *strategies: dict[str, Any]) -> None:
        data = {"strategies": list(strategies), "workflows": [WEB]}
        event = {
            "specversion": "1.0",
            "id": f"specs-{time.time_ns()}",
            "source": "test",
            "type": "dev.autonomic.specs.applied",
            "data": data,
        }
        assert self.call("POST", "/v1/events", json=event).status_code == 202

    def readings(self, strategy: str) -> dict[str, list[dict[str, Any]]]:
        items = self.call("GET", f"/v1/readings?strategy={strategy}").json()["items"]
        return {item["name"]: item["readings"] for item in items}


def wait_until(condition: Callable[[], bool], seconds: float = 120, say: Callable[[], str] = lambda: "") -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not happen within {seconds} s; {say()[-2000:]}"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    return wait_until


@pytest.fixture
def strategy() -> Callable[..., dict[str, Any]]:
    def make(name: str, **spec: Any) -> dict[str, Any]:
        body = {"target": "web/api", "do": [{"notify": {"message": "x"}}], **spec}
        return {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Strategy", "metadata": {"name": name}, "spec": body}

    return make


@pytest.fixture(scope="session")
def make_peer() -> type[Peer]:
    return Peer


@pytest.fixture
def planner() -> Iterator[Peer]:
    peer = Peer()
    peer.up()
    yield peer
    peer.down()


@pytest.fixture
def host() -> Iterator[Peer]:
    peer = Peer()
    peer.pages = {"/v1/sd": [], "/metrics": ""}
    peer.up()
    yield peer
    peer.down()


@pytest.fixture
def monitor_of(tmp_path: Path, planner: Peer) -> Iterator[Callable[..., Monitor]]:
    """Starts the monitor beside a host at this address, which may want a token of its own."""
    made: list[Monitor] = []

    def make(host_url: str, host_token: str = "") -> Monitor:
        url = f"http://127.0.0.1:{free_port()}"
        settings = Settings(home=tmp_path, monitor_url=url, planner_url=planner.url, tuner_url="", host_url=host_url)
        settings.save()
        if host_token:
            tokens = Tokens.load(settings.tokens_path)
            settings.tokens_path.write_text(json.dumps({**tokens.values, "host": host_token}))
        made.append(Monitor(settings))
        made[0].start()
        return made[0]

    yield make
    for monitor in made:
        monitor.kill()
        monitor.client.close()


@pytest.fixture
def monitor(monitor_of: Callable[..., Monitor], host: Peer) -> Monitor:
    return monitor_of(host.url)
