"""Since when strategies have waited for each type of event."""

from collections.abc import Iterable

from autonomic.agents.journal import SqlJournal
from autonomic.seams.clock import Clock
from autonomic.strategies.spec.strategy import Strategy
from autonomic.strategies.triggers import triggers_of

WAITS = "waits/"


class Waits:
    """State `waits/TYPE` is when a strategy in force began to wait for events of a type, in seconds since the epoch."""

    def __init__(self, journal: SqlJournal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._since: dict[str, float] = {key.removeprefix(WAITS): value["since"] for key, value in journal.states(WAITS).items()}

    def since(self, event_type: str) -> float | None:
        """When the waiting began, None where nobody waits."""
        return self._since.get(event_type)

    def keep(self, strategies: Iterable[Strategy]) -> None:
        """These strategies are in force from now on; what one of them waited for before keeps its time."""
        now = self._clock.now()
        types = {trigger.on.event for strategy in strategies for trigger in triggers_of(strategy) if trigger.on.event}
        found = {name: self._since.get(name, now) for name in types}
        if found == self._since:
            return
        with self._journal.transaction() as transaction:
            transaction.put_states({WAITS + name: {"since": time} for name, time in found.items() if name not in self._since})
            for name in self._since.keys() - found.keys():
                transaction.delete_state(WAITS + name)
        self._since = found
