"""The monitor's HTTP service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from autonomic.agents import cloudevents
from autonomic.agents.app import create_app, new_registry
from autonomic.agents.auth import Tokens
from autonomic.agents.monitor import api
from autonomic.agents.monitor.service import MonitorService
from autonomic.agents.settings import Settings

MAX_EVENTS_BYTES = 64 * 1024 * 1024
"""The full set of ten thousand strategies travels in one event."""


def create(settings: Settings, tokens: Tokens) -> FastAPI:
    """The monitor's application; its threads live from the start of the service to its graceful stop."""
    registry = new_registry()
    service = MonitorService(settings, tokens, registry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.start)
        try:
            yield
        finally:
            await run_in_threadpool(service.stop)

    return create_app(
        "monitor",
        settings,
        tokens=tokens,
        routers=[api.router(service), cloudevents.router(service.intake.accept)],
        missing=service.missing,
        lifespan=lifespan,
        registry=registry,
        body_limits={"/v1/events": MAX_EVENTS_BYTES},
    )
