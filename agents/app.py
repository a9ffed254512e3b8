"""What every agent's HTTP service has: health, readiness, metrics, errors, limits, request ids."""

import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from starlette.exceptions import HTTPException

from autonomic import __version__
from autonomic.agents import problems
from autonomic.agents.auth import Tokens
from autonomic.agents.logs import logger, request_id
from autonomic.agents.settings import Settings
from autonomic.platforms.host.answers import JsonAnswer

MAX_BODY_BYTES = 8 * 1024 * 1024
Missing = Callable[[], dict[str, str]]
"""What is missing for the agent to do its work, by part, each with a sentence; empty when it is ready."""
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
_log = logger(__name__)
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}")
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})


def create_app(
    name: str,
    settings: Settings,
    *,
    tokens: Tokens,
    routers: Sequence[APIRouter] = (),
    missing: Missing = dict,
    lifespan: Lifespan | None = None,
    registry: CollectorRegistry | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    body_limits: dict[str, int] | None = None,
) -> FastAPI:
    """The service of the agent `name`.

    Args:
        name: monitor, planner or tuner.
        settings: found again as `app.state.settings`.
        tokens: what `auth.READ`, `ACT` and `ADMIN` check against.
        routers: the agent's own endpoints; give each router or endpoint its scope.
        missing: asked by /readyz, quickly: it must not call other services.
        lifespan: entered before the first request, left at the graceful stop.
        registry: the agent's metrics, shown at /metrics (one of its own where none is given).
        max_body_bytes: a longer request body is refused with 413.
        body_limits: other limits for paths that begin with the key.
    """
    registry = registry or new_registry()
    requests = Counter("autonomic_http_requests", "Requests answered.", ["method", "status"], registry=registry)

    @asynccontextmanager
    async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
        if lifespan is None:
            yield
            return
        async with lifespan(app):
            yield

    app = FastAPI(title=f"autonomic {name}", version=__version__, lifespan=_lifespan, redoc_url=None, default_response_class=JsonAnswer)
    app.state.settings = settings
    app.state.tokens = tokens
    app.state.registry = registry
    problems.install(app)
    app.include_router(_operations(name, missing, registry))
    for router in routers:
        app.include_router(router)
    app.add_middleware(_Envelope, limit=max_body_bytes, limits=body_limits or {}, requests=requests)
    return app


def new_registry() -> CollectorRegistry:
    """A registry with the process's own metrics."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _operations(name: str, missing: Missing, registry: CollectorRegistry) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok", "agent": name, "version": __version__}

    @router.get("/readyz")
    def readyz() -> Response:
        """Whether the agent can do its work: 200, or 503 with what is missing."""
        parts = missing()
        if not parts:
            return JsonAnswer({"status": "ready", "missing": {}})
        detail = "; ".join(f"{part}: {why}" for part, why in sorted(parts.items()))
        return problems.response(503, detail, missing=parts)

    @router.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


class _Envelope:
    """Around every request: its id, the limit of its body, a log line, and a problem+json for what nobody caught."""

    def __init__(self, app: Any, limit: int, limits: dict[str, int], requests: Counter) -> None:
        self._app = app
        self._limit = limit
        self._limits = limits
        self._requests = requests

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        identifier = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        context = request_id.set(identifier)
        started = time.monotonic()
        status = 0

        async def send_with_id(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", identifier.encode())]
            await send(message)

        limit = next((limit for path, limit in self._limits.items() if scope["path"].startswith(path)), self._limit)
        try:
            await self._limited(scope, receive, send_with_id, headers, limit)
        except Exception as error:  # noqa: BLE001 the last boundary: whatever nobody caught becomes an answer and a log line
            _log.error("request failed", exc_info=error, extra={"method": scope["method"], "path": scope["path"]})
            if status == 0:
                detail = f"{type(error).__name__} inside the agent; its log has more under the request id {identifier}"
                await problems.response(500, detail)(scope, receive, send_with_id)
        finally:
            self._requests.labels(scope["method"], str(status)).inc()
            level = 10 if scope["path"] in _QUIET or scope["method"] == "GET" else 20
            seconds = round(time.monotonic() - started, 6)
            _log.log(level, "request", extra={"method": scope["method"], "path": scope["path"], "status": status, "seconds": seconds})
            request_id.reset(context)

    async def _limited(self, scope: Any, receive: Any, send: Any, headers: dict[bytes, bytes], limit: int) -> None:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            await problems.response(413, _too_large(limit), {"Connection": "close"})(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Any:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, _too_large(limit))
            return message

        await self._app(scope, receive_limited, send)


def _too_large(limit: int) -> str:
    return f"the body is longer than {limit} bytes; send less at a time"
