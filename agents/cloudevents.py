"""`POST /v1/events`: CloudEvents 1.0 over HTTP, structured, in batches, and in binary mode."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from autonomic.agents.auth import ACT
from autonomic.agents.bus import BATCH_TYPE
from autonomic.agents.problems import ProblemError
from autonomic.agents.strict_json import load_json
from autonomic.seams.event import CloudEvent
from autonomic.workflows.platforms.base.answers import JsonAnswer

STRUCTURED_TYPE = "application/cloudevents+json"
MAX_EVENTS = 10_000
Accept = Callable[[Sequence[CloudEvent]], int]
"""Commits events and returns how many of them were new."""


def router(accept: Accept) -> APIRouter:
    """The endpoint; `accept` has committed the events when it returns, and only then is 202 answered."""
    api = APIRouter(tags=["events"])

    @api.post(
        "/v1/events",
        status_code=202,
        dependencies=[ACT],
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    STRUCTURED_TYPE: {"schema": CloudEvent.model_json_schema()},
                    BATCH_TYPE: {"schema": {"type": "array", "items": {"type": "object"}}},
                    "application/json": {"schema": {}},
                },
            }
        },
    )
    async def events(request: Request) -> JsonAnswer:
        """Takes CloudEvents: structured or batch by Content-Type, else binary mode by the `ce-` headers. Duplicates count once."""
        found = parse(request.headers.items(), await request.body())
        new = await run_in_threadpool(accept, found)
        return JsonAnswer({"accepted": len(found), "duplicates": len(found) - new}, 202)

    return api


def parse(headers: Sequence[tuple[str, str]], body: bytes) -> list[CloudEvent]:
    """The events of one request.

    Raises:
        ProblemError: 400 for what is not JSON, 415 for an unknown content type, 422 for what is no CloudEvent.
    """
    by_name = {name.lower(): value for name, value in headers}
    media_type = by_name.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == BATCH_TYPE:
        documents = load_json(body)
        if not isinstance(documents, list):
            raise ProblemError(422, f"{BATCH_TYPE} is a JSON array of events; found {type(documents).__name__}")
        if len(documents) > MAX_EVENTS:
            raise ProblemError(413, f"{len(documents)} events in one batch; at most {MAX_EVENTS} are taken at a time")
        return [_event(document, f"[{place}]") for place, document in enumerate(documents)]
    if "ce-specversion" in by_name:
        return [_binary(by_name, media_type, body)]
    if media_type in (STRUCTURED_TYPE, "application/json"):
        return [_event(load_json(body), "event")]
    raise ProblemError(415, f"content type {media_type!r}; send {STRUCTURED_TYPE}, {BATCH_TYPE}, or binary mode with ce- headers")


def _event(document: Any, where: str) -> CloudEvent:
    try:
        event = CloudEvent.model_validate(document)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        at = ".".join(map(str, first["loc"]))
        raise ProblemError(422, f"{where} is no CloudEvent 1.0: {at or 'the document'}: {first['msg']}") from None
    empty = [name for name in ("id", "source", "type") if not getattr(event, name)]
    if empty:
        raise ProblemError(422, f"{where} is no CloudEvent 1.0: {', '.join(empty)} must not be empty")
    return event


def _binary(headers: dict[str, str], media_type: str, body: bytes) -> CloudEvent:
    document: dict[str, Any] = {name[3:]: value for name, value in headers.items() if name.startswith("ce-")}
    if body:
        is_json = media_type in ("", "application/json") or media_type.endswith("+json")
        try:
            document["data"] = load_json(body) if is_json else body.decode()
        except UnicodeDecodeError:
            raise ProblemError(415, f"data of content type {media_type!r} is neither JSON nor text in UTF-8") from None
        if media_type:
            document["datacontenttype"] = media_type
    return _event(document, "the ce- headers")
