"""Identifiers."""

import random
import secrets
import time
from typing import Protocol

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def _encode(number: int, length: int) -> str:
    digits: list[str] = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


class Ids(Protocol):
    """Makes ids that sort by the time they were made."""

    def new(self, kind: str) -> str:
        """A new id such as `decision-01h2…`; `kind` is its prefix."""
        ...


class RandomIds:
    """Ids of 48 bits of milliseconds and 50 random bits."""

    def new(self, kind: str) -> str:
        return f"{kind}-{_encode(time.time_ns() // 1_000_000, 10)}{_encode(secrets.randbits(50), 10)}"


class SeededIds:
    """Repeatable ids for simulation: a counter and bits of a seeded generator."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._count = 0

    def new(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{_encode(self._count, 10)}{_encode(self._random.getrandbits(50), 10)}"
