"""An API server of a few objects that answers as it is told to; what a real one does is tested on a real cluster."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from autonomic.platforms.kubernetes.settings import KubernetesSettings

Answer = tuple[int, dict[str, str], Any]


class ApiServer:
    """ConfigMaps with resource versions. `trouble` are answers that are given first; `asked` is what came."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.trouble: list[Answer] = []
        self.asked: list[tuple[str, str]] = []
        self.watched: Callable[[str], list[dict[str, Any]]] = lambda version: []
        self.version = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: object) -> None:
                return

            def _serve(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "null")
                status, headers, value = outer.answer(self.command, self.path, body)
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for name, text in headers.items():
                    self.send_header(name, text)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - the names are http.server's

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, body: Any) -> Answer:
        with self._lock:
            self.asked.append((method, path))
            if self.trouble:
                return self.trouble.pop(0)
            where, _, query = path.partition("?")
            name = where.partition("/configmaps")[2].lstrip("/")
            if "watch=true" in query:
                version = query.partition("resourceVersion=")[2].partition("&")[0]
                events = self.watched(version)
                return 200, {}, b"".join(json.dumps(event).encode() + b"\n" for event in events)
            if method == "GET" and not name:
                return 200, {}, {"items": list(self.objects.values()), "metadata": {"resourceVersion": str(self.version)}}
            if method == "POST":
                name = body["metadata"]["name"]
                return self._problem(409, "AlreadyExists") if name in self.objects else self._put(name, body)
            there = self.objects.get(name)
            if method == "PATCH" and "kind" in body:
                # server-side apply makes what is not there
                return self._put(name, {**(there or {}), **body})
            if there is None:
                return self._problem(404, "NotFound")
            if method == "GET":
                return 200, {}, there
            wanted = (body.get("preconditions") or body.get("metadata") or {}).get("resourceVersion")
            if wanted and wanted != there["metadata"]["resourceVersion"]:
                return self._problem(409, "Conflict")
            if method == "DELETE":
                return 200, {}, self.objects.pop(name)
            data = {key: value for key, value in {**there.get("data", {}), **body["data"]}.items() if value is not None}
            return self._put(name, {**there, "data": data})

    def _put(self, name: str, item: dict[str, Any]) -> Answer:
        self.version += 1
        meta = {"uid": f"uid-{name}", **item["metadata"], "resourceVersion": str(self.version)}
        self.objects[name] = {**item, "metadata": meta}
        return 201, {}, self.objects[name]

    def _problem(self, status: int, reason: str) -> Answer:
        return status, {}, {"kind": "Status", "reason": reason, "message": f"{reason} it is", "code": status}


@pytest.fixture
def api_server() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def settings(api_server: ApiServer, tmp_path: Path) -> KubernetesSettings:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": api_server.url}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return KubernetesSettings(home=tmp_path, kubeconfig=str(path), namespace="here", image="image:1", request_seconds=5)
