"""The model server: one model behind the Open Inference Protocol v2 over HTTP.

Alone: `python -m autonomic.workflows.serving.server CONFIG.json`, where the file holds a `ServerConfig`; it prints
`{"port": N}` when it is ready, and drains on SIGTERM.
"""

import asyncio
import contextlib
import hmac
import json
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from autonomic.seams.errors import Permanent, Retryable
from autonomic.workflows.serving import oip
from autonomic.workflows.serving.batcher import Answer, Batcher
from autonomic.workflows.serving.config import ServerConfig
from autonomic.workflows.serving.ending import end_process
from autonomic.workflows.serving.model import LoadedModel, load_model
from autonomic.workflows.serving.predictions import PredictionLog
from autonomic.workflows.serving.probe import check_answers
from autonomic.workflows.serving.progress import Progress
from autonomic.workflows.serving.server_metrics import ServerMetrics, request_start
from autonomic.workflows.serving.worker import ModelFailed, Worker

__all__ = ["ModelServer", "ServerConfig", "main"]

_START_SECONDS = 30.0
_log = logging.getLogger(__name__)
_BACKLOG = 512
# longer than the front keeps an idle connection, so that it is the front that closes it
_KEEP_ALIVE_SECONDS = 75
_BEAT_SECONDS = 1.0
# what is larger is decoded or encoded beside the event loop
_LARGE_BYTES = 2**17
_MANY_ROWS = 1000
_EXTENSIONS = ["binary_tensor_data", "classification"]


class ModelServer:
    """Serves one model from a thread with an event loop of its own."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._metrics = ServerMetrics(config)
        self._draining = False
        self._busy = 0
        self._waiting = 0
        self._server: _Uvicorn | None = None
        self._thread: threading.Thread | None = None
        self._log: PredictionLog | None = None
        self._model: LoadedModel
        self._batcher: Batcher
        self._progress: Progress | None = None
        self._admission: asyncio.Semaphore

    def start(self) -> int:
        """Loads the model, listens, and returns the port; the server is ready then.

        Raises:
            Permanent: the model does not load or does not answer, or the log or the port cannot be used.
        """
        config = self._config
        sys.path[:0] = [folder for folder in config.python_path if folder not in sys.path]
        self._model = load_model(config.model_folder)
        import torch

        torch.set_num_threads(config.threads)
        if warning := check_answers(self._model):
            _log.warning("%s", warning)
        if config.predictions:
            self._log = PredictionLog(config.predictions)
        listener = _listen(config.address, config.port)
        port = int(listener.getsockname()[1])
        settings = uvicorn.Config(
            self._app(),
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            server_header=False,
            date_header=False,
        )
        self._server = _Uvicorn(settings)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), daemon=True, name=f"model-server-{port}")
        self._thread.start()
        if not self._server.listening.wait(_START_SECONDS):
            raise Permanent(f"the model server did not listen on {config.address}:{port} within {_START_SECONDS:g} s")
        return port

    def alive(self) -> bool:
        """Whether it still serves, or may do so again by itself."""
        return not self.death()

    def death(self) -> str:
        """Why it does not serve and never will again; "" while it is alive."""
        if self._thread is None or not self._thread.is_alive():
            return "the model server has ended"
        return self._progress.death() if self._progress is not None else ""

    def drain(self, timeout_seconds: float) -> bool:
        """Says "not ready", finishes the requests that it has and those that still come, and stops.

        Returns:
            False where some were cut off because the time was over.
        """
        self._draining = True
        if self._server is None or self._thread is None:
            return True
        deadline = time.monotonic() + timeout_seconds
        while self._busy and time.monotonic() < deadline:
            time.sleep(0.01)
        finished = self._busy == 0
        self._server.should_exit = True
        self._server.force_exit = not finished
        self._thread.join(max(5.0, deadline - time.monotonic()))
        if self._log is not None:
            self._log.close()
        return finished

    def stop(self) -> None:
        """Stops at once: `drain(0)`."""
        self.drain(0.0)

    def _app(self) -> Starlette:
        model = "/v2/models/{name}"
        routes = [
            Route("/v2", self._server_metadata),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
            Route("/metrics", self._exposition),
        ]
        for path in (model, model + "/versions/{version}"):
            routes += [
                Route(path, self._model_metadata),
                Route(path + "/ready", self._model_ready),
                Route(path + "/infer", self._infer, methods=["POST"]),
            ]
        app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers={HTTPException: _http_error, Exception: _failure})
        # a redirect would name this server's own path, which is another one in front of it
        app.router.redirect_slashes = False
        app.add_middleware(_WithoutTrailingSlash)
        return app

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        config = self._config
        with ThreadPoolExecutor(1, thread_name_prefix="inference") as executor:
            worker = Worker(config, self._model, self._log, self._metrics)
            batcher = Batcher(worker, executor, config.max_batch_size, config.max_wait_seconds, config.chunk_rows)
            self._batcher, self._progress = batcher, Progress(config.timeout_seconds, lambda: batcher.busy_seconds)
            self._admission = asyncio.Semaphore(config.max_in_flight)
            tasks = [asyncio.create_task(self._batcher.run()), asyncio.create_task(_beat(self._progress))]
            yield
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _server_metadata(self, _request: Request) -> Response:
        from autonomic import __version__

        return _json({"name": "autonomic", "version": __version__, "extensions": _EXTENSIONS})

    async def _live(self, _request: Request) -> Response:
        why = self.death()
        return _json({"live": not why, **({"why": why} if why else {})}, 503 if why else 200)

    async def _ready(self, _request: Request) -> Response:
        return self._readiness()

    async def _model_ready(self, request: Request) -> Response:
        self._check_model(request)
        return self._readiness(name=self._config.name)

    def _readiness(self, **more: str) -> Response:
        why = "it drains" if self._draining else self._progress.lack_of_readiness() if self._progress is not None else "it starts"
        return _json({**more, "ready": not why, **({"why": why} if why else {})}, 503 if why else 200)

    async def _model_metadata(self, request: Request) -> Response:
        self._check_model(request)
        file = self._model.file
        return _json(oip.metadata(self._config.name, self._config.model_version, file.inputs, file.served_outputs))

    async def _exposition(self, _request: Request) -> Response:
        return Response(self._metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _infer(self, request: Request) -> Response:
        start = request_start(request.headers.get("x-request-start"))
        self._busy += 1
        try:
            response = await self._answer(request)
        except HTTPException as error:
            response = _json({"error": error.detail}, error.status_code, error.headers)
        except ClientDisconnect:
            # nobody reads this; 499 is what proxies count for it
            response = _json({"error": "the client went away"}, 499)
        finally:
            self._busy -= 1
        self._metrics.count(response.status_code)
        if response.status_code == 200:
            self._metrics.duration.observe(time.time() - start)
        return response

    async def _answer(self, request: Request) -> Response:
        self._authorise(request)
        self._check_model(request)
        body = await self._body(request)
        asked = await self._decode(request, body)
        del body
        answer = await self._while_somebody_waits(request, self._admitted(asked))
        # the protocol's parameters hold no lists
        parameters = {"role": self._config.role, **({"prediction_ids": ",".join(answer.ids)} if answer.ids else {})}
        encoded = (self._config.name, self._config.model_version, asked, answer.outputs, parameters)
        if asked.rows < _MANY_ROWS:
            data, header_length = oip.encode_response(*encoded)
        else:
            data, header_length = await asyncio.to_thread(oip.encode_response, *encoded)
        if header_length is None:
            return Response(data, media_type="application/json")
        return Response(data, media_type="application/octet-stream", headers={oip.HEADER_LENGTH: str(header_length)})

    async def _decode(self, request: Request, body: bytes) -> oip.InferRequest:
        file = self._model.file
        given = (body, request.headers.get(oip.HEADER_LENGTH), file.inputs, file.served_outputs, self._config.max_rows)
        try:
            # what takes long is done beside the event loop, which answers others meanwhile
            return oip.decode_request(*given) if len(body) < _LARGE_BYTES else await asyncio.to_thread(oip.decode_request, *given)
        except oip.TooManyRows as error:
            raise HTTPException(413, str(error)) from error
        except oip.BadRequest as error:
            raise HTTPException(400, str(error)) from error

    async def _while_somebody_waits(self, request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
        """The outcome of `work`, which is dropped when the client goes away or has waited for as long as the service allows."""
        seconds = self._config.timeout_seconds
        working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait((working, gone), timeout=seconds or None, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if gone.done():
                raise ClientDisconnect
            raise HTTPException(504, f"there was no answer within {seconds:g} s; what was left of the request was dropped")
        finally:
            working.cancel()
            gone.cancel()
            # what it holds is free for others before this returns
            await asyncio.gather(working, gone, return_exceptions=True)

    async def _admitted(self, asked: oip.InferRequest) -> Answer:
        if self._admission.locked() and self._waiting >= self._config.max_waiting:
            raise HTTPException(503, f"{self._waiting} requests wait here already; try again later", {"Retry-After": "1"})
        self._waiting += 1
        self._metrics.queue.set(self._waiting)
        try:
            await self._admission.acquire()
        finally:
            self._waiting -= 1
            self._metrics.queue.set(self._waiting)
        self._metrics.in_flight.inc()
        try:
            return await self._batcher.infer(asked.id, asked.inputs, asked.rows)
        except Retryable as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
        except ModelFailed as error:
            raise HTTPException(500, str(error)) from error
        finally:
            self._metrics.in_flight.dec()
            self._admission.release()

    def _authorise(self, request: Request) -> None:
        if not self._config.token:
            return
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._config.token}".encode()):
            raise HTTPException(401, "this service asks for a bearer token of its own", {"WWW-Authenticate": "Bearer"})

    def _check_model(self, request: Request) -> None:
        name, version = request.path_params["name"], request.path_params.get("version", self._config.model_version)
        if name != self._config.name:
            raise HTTPException(404, f"there is no model {name!r} here; this server has {self._config.name!r}")
        if version != self._config.model_version:
            raise HTTPException(404, f"there is no version {version!r} of {name!r} here; this server has {self._config.model_version!r}")

    async def _body(self, request: Request) -> bytes:
        if request.headers.get("content-encoding", "identity") != "identity":
            raise HTTPException(415, "a compressed body is not understood here; send it as it is")
        most = self._config.max_body_bytes
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise HTTPException(413, f"the body is larger than {most} bytes, the most that is taken", {"Connection": "close"})
            parts.append(part)
        return b"".join(parts)


class _WithoutTrailingSlash:
    """Answers `/v2/` as `/v2`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self._app(scope, receive, send)


class _Uvicorn(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise Permanent(f"the model server cannot listen on {address}:{port}: {error.strerror}") from error
    listener.set_inheritable(False)
    return listener


def _json(document: dict[str, Any], status: int = 200, headers: Any = None) -> Response:
    return Response(json.dumps(document, separators=(",", ":")), status, headers, "application/json")


async def _disconnected(request: Request) -> None:
    """Returns when the client of a request whose body was read goes away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _beat(progress: Progress) -> None:
    while True:
        progress.beat()
        await asyncio.sleep(_BEAT_SECONDS)


async def _http_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return await _failure(_request, error)
    return _json({"error": error.detail}, error.status_code, error.headers)


async def _failure(_request: Request, error: Exception) -> Response:
    return _json({"error": f"the model server failed: {type(error).__name__}"}, 500)


def main(arguments: list[str]) -> int:
    """Serves what the configuration file says until SIGTERM or SIGINT."""
    if len(arguments) != 1:
        print("usage: python -m autonomic.workflows.serving.server CONFIG.json", file=sys.stderr)
        return 2
    leave = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave.set())
    try:
        server = ModelServer(ServerConfig.model_validate_json(Path(arguments[0]).read_text()))
        port = server.start()
    except (OSError, ValidationError, Permanent) as error:
        print(f"the model server does not start: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"port": port}), flush=True)
    while server.alive() and not leave.wait(1.0):
        pass
    if not leave.is_set():
        print(f"the model server ends: {server.death()}", file=sys.stderr)
        return 1
    return 0 if server.drain(30.0) else 1


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
