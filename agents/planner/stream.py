"""`GET /v1/stream`: everything that happens, as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from autonomic.agents.auth import READ
from autonomic.agents.journal import Committed, SqlJournal
from autonomic.agents.problems import ProblemError
from autonomic.seams.journal import Record

HEARTBEAT_SECONDS = 10.0
_PAGE = 500


class Stream:
    """Wakes the readers of the journal whenever records were committed, in whatever thread."""

    def __init__(self, journal: SqlJournal) -> None:
        self._journal = journal
        self._readers: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._closing = False
        journal.listen(self._committed)

    def close(self) -> None:
        """Ends every stream, so that a graceful stop does not wait for its readers."""
        self._closing = True
        self._wake()

    def _committed(self, committed: Committed) -> None:
        if committed.records:
            self._wake()

    def _wake(self) -> None:
        for event, loop in list(self._readers.items()):
            loop.call_soon_threadsafe(event.set)

    async def events(self, cursor: int, kinds: tuple[str, ...] | None, request: Request) -> AsyncIterator[str]:
        """Records after `cursor` as they come, and a comment when nothing came for `HEARTBEAT_SECONDS`."""
        news = asyncio.Event()
        self._readers[news] = asyncio.get_running_loop()
        try:
            yield "retry: 1000\n\n"
            while not self._closing:
                news.clear()
                records = await run_in_threadpool(self._journal.read, cursor, kinds=kinds, limit=_PAGE)
                if records:
                    cursor = records[-1].cursor
                    yield "".join(map(_frame, records))
                    continue
                try:
                    await asyncio.wait_for(news.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    if await request.is_disconnected():
                        return
                    yield ": heartbeat\n\n"
        finally:
            del self._readers[news]


def _frame(record: Record) -> str:
    data = {"time": record.time, "kind": record.kind, "subject": record.subject, "data": record.data}
    return f"id: {record.cursor}\nevent: {record.kind}\ndata: {json.dumps(data, ensure_ascii=True)}\n\n"


def router(stream: Stream, journal: SqlJournal) -> APIRouter:
    """The endpoint."""
    api = APIRouter(tags=["stream"], dependencies=[READ])

    @api.get("/v1/stream", response_class=StreamingResponse)
    async def events(
        request: Request,
        last_event_id: Annotated[str | None, Header(description="Go on after this event.")] = None,
        since: Annotated[str | None, Query(description="Like Last-Event-ID; 0 is everything. Without both: from now on.")] = None,
        kinds: Annotated[str | None, Query(description="Only records of these kinds, separated by commas.", max_length=500)] = None,
    ) -> StreamingResponse:
        """Every record of the planner's journal, in order, none left out and none twice after a reconnection."""
        given = last_event_id if last_event_id is not None else since
        if given is None:
            cursor = await run_in_threadpool(journal.last_cursor)
        elif given.isascii() and given.isdecimal() and len(given) <= 18:
            cursor = int(given)
        else:
            raise ProblemError(422, f"event id {given!r} is not one that this stream gave out; 0 is the beginning")
        wanted = tuple(kind.strip() for kind in kinds.split(",") if kind.strip()) if kinds else None
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream.events(cursor, wanted, request), media_type="text/event-stream", headers=headers)

    return api
