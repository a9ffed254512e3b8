"""`python -m autonomic.agents.monitor`: the monitor as a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from autonomic.agents import cloudevents, logs
from autonomic.agents.app import create_app, new_registry
from autonomic.agents.auth import Tokens
from autonomic.agents.monitor import api
from autonomic.agents.monitor.service import MonitorService
from autonomic.agents.serve import serve
from autonomic.agents.settings import Settings

MAX_EVENTS_BYTES = 64 * 1024 * 1024
"""The full set of ten thousand strategies travels in one event."""


def build(settings: Settings) -> FastAPI:
    """The monitor's service; it starts and stops with the application."""
    tokens = Tokens.load(settings.tokens_path)
    registry = new_registry()
    service = MonitorService(settings, tokens, registry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.start)
        try:
            yield
        finally:
            await run_in_threadpool(service.stop)

    routers = [api.router(service), cloudevents.router(service.intake.accept)]
    return create_app(
        "monitor",
        settings,
        tokens=tokens,
        routers=routers,
        missing=service.missing,
        lifespan=lifespan,
        registry=registry,
        body_limits={"/v1/events": MAX_EVENTS_BYTES},
    )


def main() -> None:
    """Runs until SIGTERM or SIGINT; the settings are those of AUTONOMIC_HOME."""
    settings = Settings.load()
    logs.setup("monitor", Tokens.load(settings.tokens_path).values.values())
    serve(build(settings), settings.monitor_url)


if __name__ == "__main__":
    main()
