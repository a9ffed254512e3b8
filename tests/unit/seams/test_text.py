import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.agents import problems
from autonomic.seams.errors import Permanent
from autonomic.seams.reading import error, missing
from autonomic.seams.text import REPLACEMENT, encode, encode_json, shown, well_formed, well_formed_value

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT | st.integers(), inner, max_size=4),
    max_leaves=12,
)


@given(ANY_TEXT)
def test_any_text_becomes_one_that_utf8_can_hold_and_keeps_every_other_character(text: str) -> None:
    cleaned = well_formed(text)
    assert encode(text).decode() == cleaned
    assert len(cleaned) == len(text)
    assert all(new == old or (new == REPLACEMENT and "\ud800" <= old <= "\udfff") for new, old in zip(cleaned, text, strict=True))
    assert well_formed(cleaned) == cleaned


@pytest.mark.parametrize("text", ["", "plain", "café 🙂", "a\0b"])
def test_text_that_utf8_can_hold_stays_as_it_is(text: str) -> None:
    assert well_formed(text) == text


def test_a_value_is_made_well_formed_however_deep_keys_too() -> None:
    given = {"\ud83d": [1, None, {"name": ("b\udcff", True)}]}
    assert well_formed_value(given) == {REPLACEMENT: [1, None, {"name": (f"b{REPLACEMENT}", True)}]}
    json.dumps(well_formed_value(given), ensure_ascii=False).encode()


@given(JSON)
def test_whatever_a_value_holds_it_can_be_written_and_read(value: Any) -> None:
    json.loads(encode_json(value).decode())
    json.dumps(well_formed_value(value), ensure_ascii=False).encode()


def test_one_odd_value_costs_nothing_beside_it() -> None:
    itself: dict[str, Any] = {}
    itself["again"] = itself

    class Silent:
        def __str__(self) -> str:
            raise RuntimeError

    odd = {"nan": math.nan, "set": {1}, "half": "\ud83d", "long": 10**5000, "object": Silent(), 3: "number", (1, 2): "pair", "good": 1.5}
    found = json.loads(encode_json({**odd, "itself": itself}))
    assert found.pop("itself")
    assert found == {
        "nan": None,
        "set": [1],
        "half": REPLACEMENT,
        "long": "<int>",
        "object": "<Silent>",
        "3": "number",
        "(1, 2)": "pair",
        "good": 1.5,
    }


def test_plain_values_are_written_as_they_are() -> None:
    value = {"a": [1, 2.5, None, True, "é"], "b": {"c": []}}
    assert json.loads(encode_json(value)) == value


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("http://reader:s3cret@p:9090/x failed", "http://reader:***@p:9090/x failed"),
        ("https://s3cret@p", "https://***@p"),
        ("postgresql://:s3cret@db/x", "postgresql://:***@db/x"),
        ("http://u:p@s3cret@p and http://u:s3cret@q", "http://u:***@p and http://u:***@q"),
        ("http://p/a@b mail@example.com", "http://p/a@b mail@example.com"),
    ],
)
def test_a_password_in_a_url_is_never_shown(text: str, seen: str) -> None:
    assert shown(text) == seen
    assert seen == str(Permanent(text)) == error(0.0, "promql", text).detail == missing(0.0, "promql", text).detail
    assert seen == problems.body(500, text)["detail"]
