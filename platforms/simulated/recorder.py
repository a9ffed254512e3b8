"""An effector that only remembers: for messages, calls and searches in simulations."""

from autonomic.seams.clock import Clock
from autonomic.seams.plan import Change, Outcome


class SimulatedRecorder:
    """Takes every change once and keeps it in `changes`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outcomes: dict[str, Outcome] = {}
        self.changes: list[Change] = []

    def apply(self, change: Change, fence: int) -> Outcome:
        """See `seams.platform.EffectorPort.apply`."""
        if change.key not in self._outcomes:
            now = self._clock.now()
            self.changes.append(change)
            self._outcomes[change.key] = Outcome(
                key=change.key, primitive=change.primitive, target=change.target, status="done", started_at=now, finished_at=now
            )
        return self._outcomes[change.key]

    def lookup(self, key: str) -> Outcome | None:
        """See `seams.platform.EffectorPort.lookup`."""
        return self._outcomes.get(key)
