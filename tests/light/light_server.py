"""What replicas start in tests of the platform: the real server for a real model, and a light one for a copy of `model/`.

The light one needs no torch: it starts in a blink, and answers every request with its role. Where it is to log predictions,
the input of a request is its `x`, and its id its `id`.
"""

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from autonomic.workflows.serving.config import ServerConfig
from autonomic.workflows.serving.predictions import Prediction, PredictionLog


def serve(config: ServerConfig) -> Any:
    """The server for the model of `config`."""
    described = Path(config.model_folder) / "model.json"
    if described.is_file() and json.loads(described.read_text())["architecture"] == "light_server:LightServer":
        return LightServer(config)
    from autonomic.workflows.serving.server import ModelServer

    return ModelServer(config)


class LightServer:
    """Has the methods of `workflows.serving.server.ModelServer`; a model folder with the file `broken` does not load."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._draining = False
        self._death = ""
        self._in_flight = 0
        self._registry = CollectorRegistry()
        buckets = (0.1, 0.25, 0.5, 1.0)
        self._seconds = Histogram(
            "autonomic_request_duration_seconds", "As real replicas say it.", buckets=buckets, registry=self._registry
        )
        self._predictions = PredictionLog(config.predictions) if config.predictions else None

    def start(self) -> int:
        if (Path(self._config.model_folder) / "broken").exists():
            raise RuntimeError(f"the model in {self._config.model_folder} is broken")
        light = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                return

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    own = f"light_in_flight {light._in_flight}\n".encode()
                    self._send(200, "text/plain; version=0.0.4", own + generate_latest(light._registry))
                else:
                    self._reply(503 if light._draining else 200, {})

            def do_POST(self) -> None:
                light._in_flight += 1
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if b'"hang"' in body:
                    light._hang()
                light._log(body)
                with light._seconds.time():
                    time.sleep(light._config.device_time_seconds)
                self._reply(200, {"role": light._config.role, "model": light._config.model})
                light._in_flight -= 1

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

    def _log(self, body: bytes) -> None:
        if self._predictions is not None:
            asked = json.loads(body)
            inputs = {"x": np.array(asked["x"], np.float32)}
            told = (time.time(), asked.get("id", ""), self._config.role, self._config.model_version, inputs, {}, 0, 0.5)
            self._predictions.append([Prediction(secrets.token_hex(8), *told)])

    def death(self) -> str:
        """Why it will never serve again: see `_hang`."""
        return self._death

    def _hang(self) -> None:
        """Is as one whose model never returns: a thread computes for ever."""
        threading.Thread(target=threading.Event().wait).start()
        self._death = "one batch has been in the model for 30 s"

    def alive(self) -> bool:
        return not self._death

    def drain(self, timeout_seconds: float) -> bool:
        self._draining = True
        deadline = time.monotonic() + timeout_seconds
        while self._in_flight and time.monotonic() < deadline:
            time.sleep(0.01)
        self._server.shutdown()
        return not self._in_flight

    def stop(self) -> None:
        self.drain(0)
