"""The tuner's HTTP service."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Response
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CollectorRegistry, Gauge

from autonomic.agents import cloudevents
from autonomic.agents.app import create_app, new_registry
from autonomic.agents.auth import ACT, READ, Tokens
from autonomic.agents.bus import HttpBus
from autonomic.agents.journal import SqlJournal
from autonomic.agents.pagination import Cursor, Limit, Page, page_after
from autonomic.agents.problems import not_found
from autonomic.agents.settings import Settings
from autonomic.agents.strict_json import StrictRoute
from autonomic.agents.tuner.planner_client import PlannerClient
from autonomic.agents.tuner.searches import Search, Searches, SearchRequest
from autonomic.platforms.host.client import HostPlatform
from autonomic.seams.clock import SystemClock
from autonomic.seams.event import CloudEvent
from autonomic.seams.ids import RandomIds
from autonomic.seams.journal import Record


def create(settings: Settings, tokens: Tokens) -> FastAPI:
    """The tuner's application; its threads live from the first request's readiness to the graceful stop."""
    clock = SystemClock()
    journal = SqlJournal(settings.journal("tuner"))
    platform = HostPlatform(settings.host_url, tokens["host"])
    bus = HttpBus(journal, clock, {"planner": settings.planner_url, "monitor": settings.monitor_url}, tokens["act"])
    planner = PlannerClient(settings.planner_url, tokens["read"])
    searches = Searches(journal, clock, RandomIds(), platform, planner.workflow, planner.freezes)
    registry = new_registry()
    _gauge(registry, searches)

    def accept(events: Sequence[CloudEvent]) -> int:
        with journal.transaction() as transaction:
            new = transaction.accept_many(events)
            told = [event.model_dump(mode="json", exclude_none=True) for event in new]
            transaction.append_many([Record(time=clock.now(), kind="event", subject=event["source"], data=event) for event in told])
        return len(new)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        bus.start()
        searches.start()
        yield
        await run_in_threadpool(searches.stop)
        await run_in_threadpool(bus.stop)
        platform.close()
        journal.close()

    return create_app(
        "tuner",
        settings,
        tokens=tokens,
        routers=[_router(searches), cloudevents.router(accept)],
        missing=lambda: {"platform": searches.missing} if searches.missing else {},
        lifespan=lifespan,
        registry=registry,
    )


def _router(searches: Searches) -> APIRouter:
    api = APIRouter(tags=["searches"], route_class=StrictRoute)

    def found(search_id: str) -> Search:
        search = searches.get(search_id)
        if search is None:
            raise not_found("search", search_id, "GET /v1/searches")
        return search

    @api.post("/v1/searches", status_code=201, dependencies=[ACT])
    def start(request: SearchRequest, response: Response) -> Search:
        """Starts a search over a batch workflow's parameters; 200 with the one whose id is known already."""
        search, is_new = searches.request(request)
        if not is_new:
            response.status_code = 200
        return search

    @api.get("/v1/searches", dependencies=[READ])
    def list_searches(limit: Limit = 100, cursor: Cursor = "") -> Page[Search]:
        """Searches, the newest first."""
        return page_after(searches.all(), lambda search: search.id, cursor, limit)

    @api.get("/v1/searches/{search_id}", dependencies=[READ])
    def one(search_id: str) -> Search:
        """A search with its trials and the best of them so far."""
        return found(search_id)

    @api.post("/v1/searches/{search_id}:stop", dependencies=[ACT])
    def stop(search_id: str) -> Search:
        """Stops a search; trials that ended are kept. One that has ended stays as it is."""
        return searches.end(found(search_id))

    return api


def _gauge(registry: CollectorRegistry, searches: Searches) -> None:
    gauge = Gauge("autonomic_searches_active", "Searches that have not ended.", registry=registry)
    gauge.set_function(lambda: sum(search.finished_at is None for search in searches.all()))
