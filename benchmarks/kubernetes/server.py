"""What the pods of these benchmarks serve: requests that take CPU, and a gauge that the benchmark sets.

It imports nothing heavy, so that a pod is there in a blink and what is measured beside it shows. Each request takes
BENCHMARK_WORK_SECONDS of CPU time, one request at a time.
"""

import hashlib
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from autonomic.workflows.serving.config import ServerConfig


class WorkServer:
    """Has the methods of `workflows.serving.server.ModelServer`. `POST /pressure` sets the gauge and answers when it did."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._work_seconds = float(os.environ.get("BENCHMARK_WORK_SECONDS", "0"))
        self._one_at_a_time = threading.Lock()
        self._draining = False
        self._in_flight = 0
        self._served = 0
        self._pressure = 0.0

    def start(self) -> int:
        """Serves in threads and returns the port."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: object) -> None:
                return

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._send(200, "text/plain; version=0.0.4", owner.exposition())
                else:
                    self._reply(503 if owner._draining else 200, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.path == "/pressure":
                    owner._pressure = float(body)
                    self._reply(200, {"exposed_at": time.time()})
                else:
                    owner.work()
                    self._reply(200, {"outputs": [{"name": "label", "data": [0]}]})

            def _reply(self, status: int, value: object) -> None:
                self._send(status, "application/json", json.dumps(value).encode())

            def _send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer((self._config.address, self._config.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return int(self._server.server_address[1])

    def work(self) -> None:
        """Takes the CPU time of one request."""
        self._in_flight += 1
        with self._one_at_a_time:
            end = time.thread_time() + self._work_seconds
            while time.thread_time() < end:
                hashlib.sha256(b"work" * 4096).digest()
            self._served += 1
            self._in_flight -= 1

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        lines = [
            f"benchmark_requests_total {self._served}",
            f"benchmark_in_flight {self._in_flight}",
            f"benchmark_pressure {self._pressure}",
        ]
        return ("\n".join(lines) + "\n").encode()

    def alive(self) -> bool:
        """Always: its threads end with the process."""
        return True

    def drain(self, timeout_seconds: float) -> bool:
        """Says that it is not ready any more, and waits for the requests that it has."""
        self._draining = True
        deadline = time.monotonic() + timeout_seconds
        while self._in_flight and time.monotonic() < deadline:
            time.sleep(0.01)
        self._server.shutdown()
        return not self._in_flight

    def stop(self) -> None:
        """Ends at once."""
        self.drain(0)
