"""The HTTP interface of the host: bearer token, JSON, errors as application/problem+json."""

import contextlib
import hmac
import os
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Protocol

import anyio
import uvicorn
from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from autonomic.platforms.host.answers import JsonAnswer
from autonomic.platforms.host.intents import Intents
from autonomic.platforms.host.notices import Notices
from autonomic.seams.errors import AutonomicError, Permanent, Retryable
from autonomic.seams.plan import Change
from autonomic.seams.state import State
from autonomic.seams.text import shown
from autonomic.seams.word import Word
from autonomic.workflows.serving.predictions import Label

# what a probe and a Prometheus without our tokens may ask
_OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
PARTS = ("deployments", "events", "jobs", "nodes", "pods", "usage")
"""What may be asked of a target on Kubernetes."""
NEWS = ("events", "nodes", "workloads")
"""Of what Kubernetes has facts to tell: its events, its nodes, and our pods and Jobs."""
_MAX_BODY = 4 * 2**20
_MAX_PACKAGE = 256 * 2**20
_CHANGES_TOGETHER = 40


class ApplyRequest(Word):
    """A change and the fencing token of the one who wants it."""

    change: Change
    fence: int


_LABELS = TypeAdapter(list[Label])
_IDS = TypeAdapter(list[str])
_OBJECT = TypeAdapter(dict[str, Any])


class Host(Protocol):
    """What the interface hands requests to; see `host.BaseHost`. `runs` and `searches` are those of batch workflows."""

    intents: Intents
    notices: Notices
    runs: Any
    searches: Any

    def missing(self) -> Sequence[str]: ...

    def capabilities(self) -> frozenset[str]: ...

    def observe(self, target: str) -> State: ...

    def cluster(self, target: str, parts: list[str]) -> dict[str, Any] | None: ...

    def news(self, source: str) -> dict[str, Any]: ...

    def urls(self) -> dict[str, str]: ...

    def metrics(self, workflow: str = "") -> str: ...

    def scrape_targets(self) -> list[dict[str, Any]]: ...

    def drift(self, workflow: str, service: str) -> dict[str, Any] | None: ...

    def points(self, workflow: str, service: str, state: str) -> list[dict[str, Any]] | None: ...

    def look_up(self, workflow: str, service: str, ids: list[str], inputs: bool) -> dict[str, list[dict[str, Any]]] | None: ...

    def labels(self, workflow: str, service: str, labels: list[Label]) -> dict[str, Any] | None: ...

    def add_package(self, content: bytes) -> str: ...


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """An error as RFC 9457 wants it."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": shown(detail)}
    return JsonAnswer(body, status, headers, media_type="application/problem+json")


async def read_body(request: Request, limit: int = _MAX_BODY) -> bytes:
    """The body of a request.

    Raises:
        HTTPException: it is longer than `limit` bytes.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, f"The body is longer than {limit} bytes, which is the most that is allowed here")
    return bytes(body)


def create_app(host: Host, token: str) -> Starlette:
    """The application of one host; every path but /healthz, /readyz and /metrics asks for `token`.

    A change may take minutes, so that changes have threads of their own: whoever only looks finds one free.
    """
    changing = anyio.CapacityLimiter(_CHANGES_TOGETHER)

    def get(function: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            return _answer(await run_in_threadpool(function, request))

        return endpoint

    def post(function: Callable[[Request, bytes], Any], status: int = 200, limit: int = _MAX_BODY) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            body = await read_body(request, limit)
            return _answer(await anyio.to_thread.run_sync(function, request, body, limiter=changing), status)

        return endpoint

    def service_of(request: Request) -> tuple[str, str]:
        return request.path_params["workflow"], request.path_params["service"]

    def apply(_: Request, body: bytes) -> Any:
        wanted = ApplyRequest.model_validate_json(body)
        return host.intents.apply(wanted.change, wanted.fence)

    def outcome(request: Request) -> Any:
        return _found(host.intents.lookup(request.path_params["key"]), f"no outcome of {request.path_params['key']}")

    def exposition(request: Request) -> Any:
        return PlainTextResponse(host.metrics(request.query_params.get("workflow", "")), media_type="text/plain; version=0.0.4")

    def state(request: Request) -> Any:
        return host.observe("/".join(part for part in (request.path_params["workflow"], request.path_params.get("step")) if part))

    def states(_: Request, body: bytes) -> Any:
        found: dict[str, dict[str, Any]] = {"states": {}, "errors": {}}
        for target in _IDS.validate_json(body):
            try:
                found["states"][target] = _plain(host.observe(target))
            except AutonomicError as unknown:
                found["errors"][target] = str(unknown)
        return found

    def cluster(request: Request) -> Any:
        target = request.path_params["target"]
        parts = request.query_params.get("parts", "").split(",")
        if set(parts) - set(PARTS):
            raise HTTPException(422, f"parts is {','.join(parts)!r}; {', '.join(PARTS)} are allowed, with commas between")
        return _found(host.cluster(target, parts), f"no {target}")

    def news(request: Request) -> Any:
        source = request.path_params["source"]
        if source not in NEWS:
            raise HTTPException(404, f"There are no news of {source!r}; of {', '.join(NEWS)} there are")
        return host.news(source)

    async def health(_: Request) -> Response:
        # in no thread: where all of them are busy it lives all the same
        return JsonAnswer({"status": "ok", "epoch": host.intents.epoch, "pid": os.getpid()})

    def readiness(_: Request) -> Any:
        if lacking := host.missing():
            raise HTTPException(503, "; ".join(lacking))
        return {"status": "ready"}

    def run_(request: Request) -> Any:
        return _found(host.runs.get(request.path_params["run"]), f"no run {request.path_params['run']}")

    def log(request: Request) -> Any:
        tail, attempt = (_integer(request, name, 0) or None for name in ("tail", "attempt"))
        text = host.runs.log(request.path_params["run"], request.path_params["step"], tail, attempt)
        return PlainTextResponse(_found(text, f"no log of the step {request.path_params['step']} of {request.path_params['run']}"))

    def drift(request: Request) -> Any:
        return _found(host.drift(*service_of(request)), f"no service {'/'.join(service_of(request))}")

    def points(request: Request) -> Any:
        wanted = request.query_params.get("state", "all")
        if wanted not in ("unlabelled", "labelled", "all"):
            raise HTTPException(422, f"state is {wanted!r}; unlabelled, labelled and all are allowed")
        return _found(host.points(*service_of(request), wanted), f"no service {'/'.join(service_of(request))}")

    def look_up(request: Request, body: bytes) -> Any:
        wanted = request.query_params.get("inputs") == "true"
        return _found(host.look_up(*service_of(request), _IDS.validate_json(body), wanted), f"no service {'/'.join(service_of(request))}")

    def labels(request: Request, body: bytes) -> Any:
        return _found(host.labels(*service_of(request), _LABELS.validate_json(body)), f"no service {'/'.join(service_of(request))}")

    def search(request: Request) -> Any:
        return _found(host.searches.get(request.path_params["search"]), f"no search {request.path_params['search']}")

    def stop_search(request: Request, _: bytes) -> Any:
        return _found(host.searches.stop(request.path_params["search"]), f"no search {request.path_params['search']}")

    def hold_search(request: Request, body: bytes) -> Any:
        search = request.path_params["search"]
        held = host.searches.hold(search, str(_OBJECT.validate_json(body).get("why") or ""))
        return _found({"id": search} if held else None, f"no search {search}")

    def start_search(_: Request, body: bytes) -> Any:
        return host.searches.start(_OBJECT.validate_json(body))

    def package(_: Request, body: bytes) -> Any:
        return {"digest": host.add_package(body)}

    routes = [
        Route("/healthz", health),
        # that the process lives, and whether it can do what it is there for
        Route("/readyz", get(readiness)),
        Route("/metrics", get(exposition)),
        Route("/v1/sd", get(lambda _: host.scrape_targets())),
        Route("/v1/capabilities", get(lambda _: sorted(host.capabilities()))),
        Route("/v1/apply", post(apply), methods=["POST"]),
        Route("/v1/outcomes/{key:path}", get(outcome)),
        Route("/v1/states:find", post(states), methods=["POST"]),
        Route("/v1/state/{workflow}", get(state)),
        Route("/v1/state/{workflow}/{step}", get(state)),
        Route("/v1/cluster/{target:path}", get(cluster)),
        Route("/v1/news/{source}", get(news)),
        Route("/v1/watch", get(lambda request: host.notices.watch(_integer(request, "cursor", 0)))),
        Route("/v1/services", get(lambda _: host.urls())),
        Route("/v1/packages", post(package, 201, _MAX_PACKAGE), methods=["POST"]),
        Route("/v1/runs", get(lambda request: host.runs.list(request.query_params.get("workflow")))),
        Route("/v1/runs/{run}", get(run_)),
        Route("/v1/runs/{run}/steps/{step}/log", get(log)),
        Route("/v1/drift/{workflow}/{service}", get(drift)),
        Route("/v1/points/{workflow}/{service}", get(points)),
        Route("/v1/predictions/{workflow}/{service}:find", post(look_up), methods=["POST"]),
        Route("/v1/labels/{workflow}/{service}", post(labels), methods=["POST"]),
        Route("/v1/searches", post(start_search, 201), methods=["POST"]),
        Route("/v1/searches/{search}:hold", post(hold_search), methods=["POST"]),
        Route("/v1/searches/{search}:stop", post(stop_search), methods=["POST"]),
        Route("/v1/searches/{search}", get(search)),
    ]
    app = Starlette(routes=routes, exception_handlers=_HANDLERS)
    app.add_middleware(_TokenMiddleware, token=token)
    return app


class _TokenMiddleware:
    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                answer = problem(401, "The host wants its bearer token", {"WWW-Authenticate": "Bearer"})
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _answer(value: Any, status: int = 200) -> Response:
    return value if isinstance(value, Response) else JsonAnswer(_plain(value), status)


def _plain(value: Any) -> Any:
    if isinstance(value, Word):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _found(value: Any, what: str) -> Any:
    if value is None:
        raise HTTPException(404, f"There is {what} on this host")
    return value


def _integer(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit():
        raise HTTPException(422, f"{name} is {text!r}; a whole number is allowed")
    return int(text)


def _handle(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return problem(error.status_code, error.detail, dict(error.headers or {}))
    if isinstance(error, ValidationError):
        return problem(422, f"The body of {request.url.path} is not valid: {error}")
    if isinstance(error, Permanent):
        return problem(409, str(error))
    if isinstance(error, Retryable):
        return problem(503, str(error), {"Retry-After": f"{max(1, round(error.delay_seconds))}"})
    return problem(500, f"{type(error).__name__}: {error}")


_HANDLERS: dict[Any, Any] = dict.fromkeys((HTTPException, ValidationError, Permanent, Retryable, Exception), _handle)


class ApiServer:
    """uvicorn in a thread; started again when it ends without being asked to."""

    def __init__(self, app: Starlette, address: str, port: int) -> None:
        self._app = app
        self._address = address
        self._port = port
        self._stopping = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True, name="api")

    def start(self) -> None:
        """Returns when it listens."""
        self._thread.start()
        while not (self._server and self._server.started):
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends the server."""
        self._stopping.set()
        if self._server:
            self._server.should_exit = True
        self._thread.join(5)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            config = uvicorn.Config(
                self._app, host=self._address, port=self._port, log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=60
            )
            self._server = uvicorn.Server(config)
            # it exits where the port is not free yet, after the process before this one was killed
            with contextlib.suppress(SystemExit):
                self._server.run()
            self._stopping.wait(0.2)
