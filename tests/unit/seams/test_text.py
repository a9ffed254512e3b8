import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.seams.text import REPLACEMENT, encode, well_formed, well_formed_value

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


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
