"""Where the official SDK departs from the specification: ours holds to it, and each case fails here once the SDK is mended."""

import json
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http
from cloudevents.core.formats.json import JSONFormat

from autonomic.agents.cloudevents import STRUCTURED_TYPE, parse
from autonomic.agents.problems import ProblemError

CE = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def sdk(headers: dict[str, str], body: Any = b"") -> Any:
    return from_http(HTTPMessage(headers, body if isinstance(body, bytes) else json.dumps(body).encode()), JSONFormat())


def ours(headers: dict[str, str], body: Any = b"") -> Any:
    (event,) = parse(list(headers.items()), body if isinstance(body, bytes) else json.dumps(body).encode())
    return event


def test_the_content_type_decides_on_the_mode_and_not_the_headers_beside_it() -> None:
    headers = {"content-type": STRUCTURED_TYPE, **CE, "ce-id": "of the header"}
    assert sdk(headers, EVENT).get_id() == "of the header"
    assert ours(headers, EVENT).id == "1"


@pytest.mark.parametrize("name", ["id", "specversion"])
def test_what_is_required_is_not_made_up(name: str) -> None:
    body = {key: value for key, value in EVENT.items() if key != name}
    assert sdk({"content-type": STRUCTURED_TYPE}, body).get_attributes()[name]
    headers = {key: value for key, value in CE.items() if key != f"ce-{name}"}
    assert sdk(headers).get_attributes()[name]
    for given in ({"content-type": STRUCTURED_TYPE}, {"content-type": "application/json"}):
        with pytest.raises(ProblemError, match=f"{name} must be given"):
            ours(given, body)
    with pytest.raises(ProblemError):
        ours(headers)


def test_a_time_that_is_not_given_stays_so_and_one_that_is_given_is_kept() -> None:
    assert sdk(CE).get_time() is not None
    assert (ours(CE).time, ours({"content-type": STRUCTURED_TYPE}, EVENT).time) == (None, None)
    assert ours({"content-type": STRUCTURED_TYPE}, {**EVENT, "time": "2026-01-02T03:04:05Z"}).time == "2026-01-02T03:04:05Z"
    assert ours({**CE, "ce-time": "2026-01-02T03:04:05Z"}).time == "2026-01-02T03:04:05+00:00"
    with pytest.raises(ProblemError, match="time"):
        ours({**CE, "ce-time": "yesterday"})


def test_a_member_that_is_null_is_not_set() -> None:
    headers, body = {"content-type": STRUCTURED_TYPE}, {**EVENT, "time": None, "subject": None, "data": 3}
    with pytest.raises(TypeError):
        sdk(headers, body)
    assert (ours(headers, body).subject, ours(headers, body).data) == (None, 3)


def test_data_in_base64_are_what_their_content_type_says() -> None:
    headers, body = {"content-type": STRUCTURED_TYPE}, {**EVENT, "data_base64": "eyJ2YWx1ZSI6IDV9", "datacontenttype": "application/json"}
    assert isinstance(sdk(headers, body).get_data(), bytes)
    assert ours(headers, body).data == {"value": 5}


def test_a_body_that_is_no_json_is_refused_where_json_is_announced() -> None:
    headers = {"content-type": "application/json", **CE}
    assert sdk(headers, b"{").get_data() == "{"
    with pytest.raises(ProblemError) as refused:
        ours(headers, b"{")
    assert refused.value.status == 400


def test_quotes_around_a_header_are_not_a_part_of_its_value() -> None:
    headers = {**CE, "ce-subject": '"a%20b"'}
    assert sdk(headers).get_subject() == '"a b"'
    assert ours(headers).subject == "a b"


def test_the_sdk_judges_the_names_and_values_of_attributes() -> None:
    with pytest.raises(ProblemError, match="Extension attribute"):
        ours({"content-type": STRUCTURED_TYPE}, {**EVENT, "No_Such_Name": "x"})
    with pytest.raises(ProblemError, match="subject"):
        ours({"content-type": STRUCTURED_TYPE}, {**EVENT, "subject": ""})
