"""What happened, what is known, and what has still to be sent; one transaction each."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from autonomic.seams.event import CloudEvent
from autonomic.seams.word import Word


class Record(Word):
    """An entry of the journal. `cursor` is its place, given when it is written (0 before)."""

    cursor: int = 0
    time: float
    kind: str
    subject: str = ""
    data: dict[str, Any]


class StateConflict(Exception):
    """A state was put against a version that is not the newest."""


class Transaction(Protocol):
    """All that is written in one transaction is there, or nothing of it."""

    def append(self, record: Record) -> int:
        """Writes a record and returns its cursor."""
        ...

    def state(self, key: str) -> tuple[Any, int]:
        """A value and its version; (None, 0) where there is none."""
        ...

    def put_state(self, key: str, value: Any, expected_version: int | None = None) -> int:
        """Writes a value and returns its new version.

        Raises:
            StateConflict: `expected_version` is given and is not the newest.
        """
        ...

    def delete_state(self, key: str) -> None: ...

    def send(self, destination: str, event: CloudEvent) -> None:
        """Puts an event into the outbox; it is delivered after the commit, at least once, in order per destination."""
        ...

    def accept(self, event: CloudEvent) -> bool:
        """Remembers an event that came in; False where it came before (source and id)."""
        ...


class Journal(Protocol):
    """An agent's memory."""

    def transaction(self) -> AbstractContextManager[Transaction]: ...

    def read(self, cursor: int = 0, *, kinds: Iterable[str] | None = None, subject: str | None = None, limit: int = 1000) -> list[Record]:
        """Records after `cursor` in their order, at most `limit`."""
        ...

    def latest(self, *, kinds: Iterable[str], subject: str | None = None, limit: int = 100) -> list[Record]:
        """The newest records, the newest first."""
        ...

    def states(self, prefix: str) -> dict[str, Any]:
        """All values whose key begins with `prefix`."""
        ...
