"""`POST /v1/events`: CloudEvents 1.0 over HTTP, structured, in batches, and in binary mode."""

import base64
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

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
MAX_UNPACKED_BYTES = 64 * 1024 * 1024
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
        ProblemError: 400 for what is not JSON, 413 for too much at once, 415 for an unknown content type or encoding, 422 for what is
            no CloudEvent.
    """
    by_name = {name.lower(): value for name, value in headers}
    body = _decompressed(by_name.get("content-encoding", "").strip().lower(), body)
    media_type = by_name.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == BATCH_TYPE:
        documents = load_json(body)
        if not isinstance(documents, list):
            raise ProblemError(422, f"{BATCH_TYPE} is a JSON array of events; found {type(documents).__name__}")
        if len(documents) > MAX_EVENTS:
            raise ProblemError(413, f"{len(documents)} events in one batch; at most {MAX_EVENTS} are taken at a time")
        return [_event(document, f"[{place}]") for place, document in enumerate(documents)]
    # the content type decides, whatever ce- headers say beside it
    if media_type == STRUCTURED_TYPE:
        return [_event(load_json(body), "event")]
    if "ce-specversion" in by_name:
        return [_binary(by_name, media_type, body)]
    if media_type == "application/json":
        return [_event(load_json(body), "event")]
    raise ProblemError(415, f"content type {media_type!r}; send {STRUCTURED_TYPE}, {BATCH_TYPE}, or binary mode with ce- headers")


def _decompressed(encoding: str, body: bytes) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ProblemError(415, f"content encoding {encoding!r}; gzip and deflate are allowed, or none")
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32 if "gzip" in encoding else zlib.MAX_WBITS)
    try:
        found = unpacking.decompress(body, MAX_UNPACKED_BYTES)
    except zlib.error as broken:
        raise ProblemError(400, f"the body is no {encoding}: {broken}") from None
    if unpacking.unconsumed_tail:
        raise ProblemError(413, f"the body is longer than {MAX_UNPACKED_BYTES} bytes when it is unpacked; send less at a time")
    if not unpacking.eof:
        raise ProblemError(400, f"the body is no whole {encoding}")
    return found


def _is_json(media_type: str) -> bool:
    return media_type in ("", "application/json", "text/json") or media_type.endswith("+json")


def _data(media_type: str, content: bytes) -> Any:
    try:
        return load_json(content) if _is_json(media_type) else content.decode()
    except UnicodeDecodeError:
        raise ProblemError(415, f"data of content type {media_type!r} is neither JSON nor text in UTF-8") from None


def _with_data(document: Any, where: str) -> Any:
    """The document with what stands in `data_base64` as its data."""
    if not isinstance(document, dict) or "data_base64" not in document:
        return document
    if "data" in document:
        raise ProblemError(422, f"{where} is no CloudEvent 1.0: it has data and data_base64; give one of them")
    try:
        content = base64.b64decode(document["data_base64"], validate=True)
    except (ValueError, TypeError):
        raise ProblemError(422, f"{where} is no CloudEvent 1.0: data_base64 is not valid base64") from None
    media_type = str(document.get("datacontenttype") or "").partition(";")[0].strip().lower()
    rest = {name: value for name, value in document.items() if name != "data_base64"}
    return {**rest, "data": _data(media_type, content)}


def _event(document: Any, where: str) -> CloudEvent:
    document = _with_data(document, where)
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


def _header(value: str) -> str:
    """A header's value as the HTTP binding writes it: perhaps in double quotes, with anything but plain ASCII percent-encoded."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return unquote(value)


def _binary(headers: dict[str, str], media_type: str, body: bytes) -> CloudEvent:
    document: dict[str, Any] = {name[3:]: _header(value) for name, value in headers.items() if name.startswith("ce-")}
    if body:
        document["data"] = _data(media_type, body)
        if media_type:
            document["datacontenttype"] = media_type
    return _event(document, "the ce- headers")
