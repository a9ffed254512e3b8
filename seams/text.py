"""Text that UTF-8 can hold: what comes from outside is made so where it enters, and whatever goes out encodes without failing."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, cast

_LONE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"
"""Stands for each character that UTF-8 cannot hold."""
_CREDENTIALS = re.compile(r"://([^/?#\s:]*)(:?)[^/?#\s]*@")
_DEEPEST = 200
_BITS = 10_000
"""Python writes no integer of more than 4300 digits."""


def well_formed(text: str) -> str:
    """The text with each lone surrogate (half of a UTF-16 pair, or a byte of a file name that is not UTF-8) replaced by U+FFFD.

    >>> well_formed("caf\\ud83d") == "caf\\ufffd"
    True
    """
    return text if text.isascii() else _LONE.sub(REPLACEMENT, text)


def well_formed_value(value: Any) -> Any:
    """A copy of a JSON value in which every text is well formed, keys too."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, dict):
        entries = cast(dict[Any, Any], value)
        return {well_formed(key) if isinstance(key, str) else key: well_formed_value(item) for key, item in entries.items()}
    if isinstance(value, list):
        return [well_formed_value(item) for item in cast(list[Any], value)]
    if isinstance(value, tuple):
        return tuple(well_formed_value(item) for item in cast(tuple[Any, ...], value))
    return value


def shown(text: str) -> str:
    """The text as people and records may see it: well formed, and without the password of any URL in it.

    >>> shown("http://reader:s3cret@prometheus:9090 did not answer")
    'http://reader:***@prometheus:9090 did not answer'
    """
    return _CREDENTIALS.sub(_masked, well_formed(text)) if "@" in text else well_formed(text)


def _masked(found: re.Match[str]) -> str:
    # a name without a password may be a token
    return f"://{found[1]}:***@" if found[2] else "://***@"


def encode(text: str) -> bytes:
    """UTF-8 that cannot fail: like `well_formed(text).encode()`."""
    return well_formed(text).encode()


def encode_json(value: Any) -> bytes:
    """`value` as compact JSON in UTF-8, whatever it holds.

    Lone surrogates become U+FFFD, NaN and infinities null, anything that is no JSON its text, and what is nested deeper
    than 200 levels, or within itself, its type's name: one odd value never costs the whole answer.
    """
    try:
        return _dumps(value)
    except (ValueError, TypeError, RecursionError):
        return _dumps(_plain(value, _DEEPEST))


def _dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _plain(value: Any, levels: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < _BITS else "<int>"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset) and levels == 0:
        return f"<{type(cast(Any, value)).__name__}>"
    if isinstance(value, Mapping):
        return {_text(key): _plain(item, levels - 1) for key, item in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, levels - 1) for item in cast(list[Any], value)]
    return _text(value)


def _text(value: Any) -> str:
    try:
        return well_formed(str(value))
    except Exception:  # noqa: BLE001 the value's own __str__ may do anything
        return f"<{type(value).__name__}>"
