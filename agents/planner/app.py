"""The planner's HTTP service."""

import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from autonomic.agents import cloudevents
from autonomic.agents.app import create_app, new_registry
from autonomic.agents.auth import Tokens
from autonomic.agents.planner import api_act, api_people, api_read, stream
from autonomic.agents.planner.metrics import Metrics
from autonomic.agents.planner.service import Planner
from autonomic.agents.settings import Settings


def create(settings: Settings, tokens: Tokens) -> FastAPI:
    """The planner's application; its threads live from the start of the service to its graceful stop."""
    registry = new_registry()
    planner = Planner(settings, tokens, Metrics(registry))
    events = stream.Stream(planner.journal)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        _before_stop(events.close)
        planner.start()
        yield
        await run_in_threadpool(planner.stop)

    return create_app(
        "planner",
        settings,
        tokens=tokens,
        routers=[
            cloudevents.router(planner.accept),
            api_read.router(planner),
            api_act.router(planner),
            api_people.router(planner),
            stream.router(events, planner.journal),
        ],
        missing=planner.missing,
        lifespan=lifespan,
        registry=registry,
        body_limits={"/v1/packages": api_act.MAX_PACKAGE_BYTES},
    )


def _before_stop(function: Callable[[], None]) -> None:
    # the server waits for open answers before it leaves the lifespan, and a stream would stay open until it is cut off
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)

        def handle(received: int, frame: FrameType | None, previous: Any = previous) -> None:
            function()
            if callable(previous):
                previous(received, frame)

        signal.signal(number, handle)
