"""Events that came in and are not handled yet: in the journal before they are acknowledged, so that none is lost."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import ValidationError

from autonomic.agents.journal import SqlJournal
from autonomic.agents.problems import ProblemError
from autonomic.seams.clock import Clock
from autonomic.seams.event import FIRED, CloudEvent, Event
from autonomic.seams.journal import Record, Transaction

EVENT = "event"
EVENT_FAILED = "event.failed"
_INBOX = "inbox/"


class Arrived(NamedTuple):
    """An event in the inbox; `key` sorts by arrival, `committed_at` is the time of the commit.

    `in_line`: it waits behind the events of its strategy that do, and no longer behind those of its target.
    """

    key: str
    event: CloudEvent
    committed_at: float
    in_line: bool = False

    @property
    def is_trigger(self) -> bool:
        """Whether it is to be decided on."""
        return self.event.type == FIRED

    @property
    def target(self) -> str:
        """Events of one target are handled one after another."""
        data = self.event.data
        target = data.get("target") if isinstance(data, dict) else None
        return target if isinstance(target, str) and target else self.event.subject or self.event.source


class Inbox:
    """State `inbox/N` holds an event until it is handled; a record of kind "event" stays."""

    def __init__(self, journal: SqlJournal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock

    def accept(self, events: Sequence[CloudEvent]) -> list[Arrived]:
        """Commits events; returns those that are new. Only fired triggers wait to be handled, the others are kept to be seen.

        Raises:
            ProblemError: 422, a fired trigger does not hold an `Event`; nothing was taken.
        """
        for event in events:
            _check(event)
        now = self._clock.now()
        arrived: list[Arrived] = []
        with self._journal.transaction() as transaction:
            for event in transaction.accept_many(events):
                told = event.model_dump(mode="json", exclude_none=True)
                cursor = transaction.append(Record(time=now, kind=EVENT, subject=event.subject or "", data=told))
                arrived.append(Arrived(f"{_INBOX}{cursor:016d}", event, now))
            waiting = [item for item in arrived if item.is_trigger]
            transaction.put_states({item.key: item.event.model_dump(mode="json", exclude_none=True) for item in waiting})
        return arrived

    def waiting(self) -> Iterable[Arrived]:
        """What was not handled before the last stop, in the order of arrival."""
        now = self._clock.now()
        return [Arrived(key, CloudEvent.model_validate(value), now) for key, value in self._journal.states(_INBOX).items()]

    def done(self, transaction: Transaction, item: Arrived) -> None:
        """Forgets a handled event, in the transaction that records what came of it."""
        transaction.delete_state(item.key)

    def failed(self, item: Arrived, why: str) -> None:
        """Gives an event up and says so."""
        data = {"why": why, "event": item.event.model_dump(mode="json", exclude_none=True)}
        with self._journal.transaction() as transaction:
            transaction.append(Record(time=self._clock.now(), kind=EVENT_FAILED, subject=item.target, data=data))
            transaction.delete_state(item.key)


def _check(event: CloudEvent) -> None:
    if event.type != FIRED:
        return
    try:
        Event.model_validate(event.data)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        at = ".".join(map(str, ("data", *first["loc"])))
        raise ProblemError(422, f"event {event.id!r} of type {FIRED} is no fired trigger: {at}: {first['msg']}") from None
