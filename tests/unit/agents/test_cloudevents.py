import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.agents.cloudevents import parse
from autonomic.agents.problems import ProblemError

BATCH = "application/cloudevents-batch+json"
EVENT = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}


def parsed(content_type: str, body: Any, **headers: str) -> list[Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = [("Content-Type", content_type), *((name.replace("_", "-"), value) for name, value in headers.items())]
    return parse(named, raw)


def test_one_event_in_structured_mode_keeps_its_extensions() -> None:
    (event,) = parsed("application/cloudevents+json; charset=utf-8", {**EVENT, "data": {"a": 1}, "traceparent": "x"})
    assert event.data == {"a": 1}
    assert event.model_dump(exclude_none=True)["traceparent"] == "x"


def test_a_batch_keeps_its_order() -> None:
    assert [event.id for event in parsed(BATCH, [{**EVENT, "id": str(n)} for n in range(5)])] == ["0", "1", "2", "3", "4"]
    assert parsed(BATCH, []) == []


def test_binary_mode_takes_the_headers_and_the_body_as_data() -> None:
    headers = {"ce_specversion": "1.0", "CE_ID": "7", "ce_source": "s", "ce_type": "t"}
    (event,) = parsed("application/json", {"a": 1}, **headers)
    assert (event.id, event.data, event.datacontenttype) == ("7", {"a": 1}, "application/json")
    (event,) = parsed("text/plain", b"hello", **headers)
    assert event.data == "hello"
    (event,) = parsed("", b"", **headers)
    assert event.data is None


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (400, "application/json", b"{"),
        (400, "application/json", b'{"data": NaN}'),
        (400, "application/json", json.dumps({**EVENT, "data": "\ud800"}).encode()),
        (400, BATCH, b"[" * 100_000),
        (400, "application/json", b"\xff\xfe{"),
        (413, BATCH, json.dumps([EVENT] * 10_001).encode()),
        (415, "text/html", b"<p>"),
        (415, "", b""),
        (422, "application/json", b"[]"),
        (422, "application/json", b"null"),
        (422, BATCH, b"{}"),
        (422, BATCH, b"[1]"),
        (422, "application/json", json.dumps({**EVENT, "specversion": "0.3"}).encode()),
        (422, "application/json", json.dumps({**EVENT, "id": ""}).encode()),
        (422, "application/json", json.dumps({**EVENT, "id": 5}).encode()),
    ],
)
def test_what_is_no_event_is_refused_and_said(status: int, content_type: str, body: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        parsed(content_type, body)
    assert refused.value.status == status
    assert refused.value.detail


@given(
    content_type=st.sampled_from(["application/json", BATCH, "application/cloudevents+json", "x"]),
    body=st.binary(max_size=80)
    | st.recursive(
        st.none() | st.text() | st.floats(),
        lambda inner: (
            st.dictionaries(st.sampled_from(["specversion", "id", "source", "type", "data", "x"]), inner, max_size=6)
            | st.lists(inner, max_size=4)
        ),
    ),
    headers=st.dictionaries(st.sampled_from(["ce-id", "ce-source", "ce-type", "ce-specversion", "ce-data"]), st.text(max_size=5)),
)
def test_whatever_comes_is_an_event_or_a_problem(content_type: str, body: Any, headers: dict[str, str]) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        events = parse([("content-type", content_type), *headers.items()], raw)
        status = 202
    except ProblemError as problem:
        events, status = [], problem.status
    assert status in (202, 400, 413, 415, 422)
    assert all(event.id and event.source and event.type for event in events)


CE = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]
WHOLE = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"value":4}}'


@pytest.mark.parametrize(
    ("headers", "body", "data"),
    [
        ([("content-type", "application/cloudevents+json"), *CE], WHOLE, {"value": 4}),
        ([("content-type", "application/json")], WHOLE.replace(b'"data":{"value":4}', b'"data_base64":"eyJ2YWx1ZSI6IDV9"'), {"value": 5}),
        ([("content-type", "text/json; charset=utf-8"), *CE], b'{"value": 7}', {"value": 7}),
        ([("content-type", "application/x+json"), *CE], b'{"value": 7}', {"value": 7}),
        ([("content-type", "text/plain"), *CE], "€".encode(), "€"),
        ([("content-type", "application/json"), ("content-encoding", "gzip"), *CE], gzip.compress(b'{"value": 8}'), {"value": 8}),
        ([("content-type", "application/json"), ("content-encoding", "deflate"), *CE], zlib.compress(b'{"value": 8}'), {"value": 8}),
    ],
)
def test_every_mode_gives_the_data_that_was_sent(headers: list[tuple[str, str]], body: bytes, data: Any) -> None:
    (event,) = parse(headers, body)
    assert (event.id, event.source, event.type, event.data) == ("1", "/s", "t", data)


def test_header_values_are_decoded_as_the_binding_encodes_them() -> None:
    (event,) = parse([*CE, ("ce-subject", "Euro%20%E2%82%AC")], b"")
    assert event.subject == "Euro €"
    (quoted,) = parse([*CE, ("ce-subject", '"a \\"b\\" 100%25"')], b"")
    assert quoted.subject == 'a "b" 100%'


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ([("content-encoding", "br"), *CE], b"{}", 415),
        ([("content-encoding", "gzip"), *CE], b"{}", 400),
        ([("content-encoding", "gzip"), *CE], gzip.compress(b"{}")[:-4], 400),
        ([("content-encoding", "gzip"), *CE], gzip.compress(b" " * (64 * 1024 * 1024 + 1)), 413),
        ([("content-type", "application/json")], WHOLE.replace(b'"data"', b'"data_base64":"eA==","data"'), 422),
        ([("content-type", "application/json")], WHOLE.replace(b'"data":{"value":4}', b'"data_base64":"?"'), 422),
    ],
)
def test_an_encoding_that_is_broken_unknown_or_too_large_is_a_problem(headers: list[tuple[str, str]], body: bytes, status: int) -> None:
    with pytest.raises(ProblemError) as refused:
        parse(headers, body)
    assert refused.value.status == status
