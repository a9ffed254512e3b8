"""Where readings come from."""

from collections.abc import Sequence
from typing import Any, Protocol

from autonomic.seams.event import Event
from autonomic.seams.reading import Reading
from autonomic.seams.word import Word


class Query(Word):
    """One reading of one strategy, resolved: `signal` names its source, `args` are that signal's own."""

    strategy: str
    name: str
    target: str
    signal: str
    args: dict[str, Any]
    max_age_seconds: float | None = None


Answer = Reading | Sequence[Reading]
"""One reading, or, to a query with `by`, one for each value of that label (each has it among its `labels`)."""


class Signal(Protocol):
    """A source of readings. `read` never raises: what cannot be had is missing or an error."""

    def read(self, queries: Sequence[Query], now: float) -> list[Answer]:
        """The answer to each query, in their order."""
        ...


class EventSource(Protocol):
    """A source of events, each seen once."""

    def watch(self, cursor: Any) -> tuple[list[Event], Any]:
        """The events after `cursor` and the cursor after them; None is the start."""
        ...
