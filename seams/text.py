"""Text that UTF-8 can hold: what comes from outside is made so where it enters, and whatever goes out encodes without failing."""

import re
from typing import Any

_LONE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"
"""Stands for each character that UTF-8 cannot hold."""


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
        return {well_formed(key) if isinstance(key, str) else key: well_formed_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [well_formed_value(item) for item in value]
    if isinstance(value, tuple):
        return tuple(well_formed_value(item) for item in value)
    return value


def encode(text: str) -> bytes:
    """UTF-8 that cannot fail: like `well_formed(text).encode()`."""
    return well_formed(text).encode()
