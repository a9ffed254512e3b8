"""`webhook`: a number in the newest event of a type that came from outside."""

from collections.abc import Callable, Sequence
from typing import Any

from autonomic.seams.reading import Reading, missing, number
from autonomic.seams.signal import Answer, Query
from autonomic.signals.guard import guarded

Newest = Callable[[str], tuple[Any, float] | None]
"""The data of the newest event of a type and when it came in; None where none ever came."""


class WebhookSignal:
    """Readings of events."""

    def __init__(self, newest: Newest) -> None:
        self._newest = newest

    def read(self, queries: Sequence[Query], now: float) -> list[Answer]:
        return [guarded("webhook", now, lambda query=query: self._answer(query, now)) for query in queries]

    def _answer(self, query: Query, now: float) -> Reading:
        type_, field = query.args["webhook"], query.args.get("field", "value")
        found = self._newest(type_)
        if found is None:
            return missing(now, "webhook", f"no event of type {type_!r} came in yet")
        value, time = found
        for part in field.split("."):
            value = _step(value, part)
        if isinstance(value, bool):
            value = float(value)
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                value = None
        if not isinstance(value, int | float):
            return missing(time, "webhook", f"the newest event of type {type_!r} has no number under {field!r}")
        return number(value, time, "webhook")


def _step(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and part.isascii() and part.isdecimal() and int(part) < len(value):
        return value[int(part)]
    return None
