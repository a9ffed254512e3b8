"""`POST /v1/events`: CloudEvents 1.0 over HTTP, structured, in batches, and in binary mode, through the official SDK.

Ours are the choice of the mode, batches, compression, limits, strict JSON, and what the SDK makes up (docs/decisions/cloudevents.md).
"""

import base64
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from cloudevents.core.bindings.common import CONTENT_TYPE_HEADER
from cloudevents.core.bindings.http import CE_PREFIX, HTTPMessage, from_binary
from cloudevents.core.exceptions import BaseCloudEventException, CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import REQUIRED_ATTRIBUTES
from cloudevents.core.v1.event import CloudEvent as SdkEvent
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from autonomic.agents.auth import ACT
from autonomic.agents.bus import BATCH_TYPE
from autonomic.agents.problems import ProblemError
from autonomic.agents.strict_json import load_json
from autonomic.platforms.host.answers import JsonAnswer
from autonomic.seams.event import CloudEvent

STRUCTURED_TYPE = JSONFormat.CONTENT_TYPE
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
        return [_binary(by_name, body)]
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


class _Strict(JSONFormat):
    """The SDK's JSON format with strict JSON as data: what is no JSON is refused and not taken as text."""

    def read_data(self, body: bytes, datacontenttype: str | None) -> Any:
        if not body:
            return None
        media_type = (datacontenttype or self.DEFAULT_CONTENT_TYPE).strip().lower()
        try:
            return load_json(body) if self.JSON_CONTENT_TYPE_PATTERN.match(media_type) else body.decode()
        except UnicodeDecodeError:
            raise ProblemError(415, f"data of content type {datacontenttype!r} is neither JSON nor text in UTF-8") from None


_FORMAT = _Strict()


def _event(document: Any, where: str) -> CloudEvent:
    """The event of a JSON document."""
    if not isinstance(document, dict):
        raise _no_event(where, f"found {type(document).__name__}")
    # null is how JSON writes that a member is not set
    members = {name: value for name, value in document.items() if value is not None}
    data, encoded = members.pop("data", None), members.pop("data_base64", None)
    if encoded is not None:
        if data is not None:
            raise _no_event(where, "it has data and data_base64; give one of them")
        data = _FORMAT.read_data(_decoded(encoded, where), str(members.get("datacontenttype") or "") or None)
    _check_required(members, where)
    try:
        # the SDK keeps what it is given, and adds to it
        SdkEvent({**members, **_parsed_time(members.get("time"))}, data)
    except (BaseCloudEventException, ValueError, TypeError) as invalid:
        raise _no_event(where, _words(invalid)) from None
    return _made({**members, "data": data}, where)


def _binary(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    where = "the ce- headers"
    given = {name: _unquoted(value) for name, value in headers.items() if name.startswith(CE_PREFIX)}
    _check_required({name.removeprefix(CE_PREFIX) for name in given}, where)
    if headers.get(CONTENT_TYPE_HEADER, "").strip() and body:
        given[CONTENT_TYPE_HEADER] = headers[CONTENT_TYPE_HEADER].strip()
    try:
        event = from_binary(HTTPMessage(given, body), _FORMAT, SdkEvent)
    except (BaseCloudEventException, ValueError, TypeError) as invalid:
        raise _no_event(where, _words(invalid)) from None
    attributes = event.get_attributes()
    time = attributes.pop("time")
    given_time = {"time": time.isoformat()} if f"{CE_PREFIX}time" in given and isinstance(time, datetime) else {}
    return _made({**attributes, **given_time, "data": event.get_data()}, where)


def _check_required(found: Any, where: str) -> None:
    # the SDK makes up an id, by which nobody could see a duplicate
    lacking = [name for name in REQUIRED_ATTRIBUTES if name not in found]
    if lacking:
        raise _no_event(where, f"{', '.join(lacking)} must be given")


def _parsed_time(time: Any) -> dict[str, Any]:
    if time is None:
        return {}
    return {"time": datetime.fromisoformat(time) if isinstance(time, str) else time}


def _decoded(encoded: Any, where: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (ValueError, TypeError):
        raise _no_event(where, "data_base64 is not valid base64") from None


def _unquoted(value: str) -> str:
    """A header's value without the double quotes that the HTTP binding allows around it; the SDK decodes the rest."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def _made(members: dict[str, Any], where: str) -> CloudEvent:
    try:
        return CloudEvent.model_validate(members)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        raise _no_event(where, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _words(invalid: Exception) -> str:
    if isinstance(invalid, CloudEventValidationError):
        return "; ".join(dict.fromkeys(str(one) for errors in invalid.errors.values() for one in errors))
    return f"time: {invalid}"


def _no_event(where: str, why: str) -> ProblemError:
    return ProblemError(422, f"{where} is no CloudEvent 1.0: {why}")
