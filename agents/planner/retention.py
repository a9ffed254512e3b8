"""What ended long ago is forgotten, so that the planner's memory does not grow for ever."""

from collections.abc import Callable, Sequence

from autonomic.agents.logs import logger
from autonomic.seams.clock import Clock

EVERY_SECONDS = 3600.0
_FIRST_SECONDS = 60.0
_log = logger(__name__)

Forget = Callable[[float], None]
"""Forgets what ended before a time (seconds since the epoch)."""


class Retention:
    """Forgets once an hour, while `active` says that this planner is the one that acts.

    `forgetting` are asked one after another; one that fails is asked again in an hour.
    """

    def __init__(self, clock: Clock, keep_seconds: float, active: Callable[[], bool], forgetting: Sequence[Forget]) -> None:
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._active = active
        self._forgetting = forgetting

    def start(self) -> None:
        """Begins a minute from now."""
        self._clock.call_at(self._clock.now() + _FIRST_SECONDS, self._turn)

    def _turn(self) -> None:
        before = self._clock.now() - self._keep_seconds
        for forget in self._forgetting if self._active() else ():
            try:
                forget(before)
            except Exception:  # noqa: BLE001 the boundary of an alarm: what is too much is forgotten later
                _log.exception("what ended long ago could not be forgotten; it is tried again in an hour")
        self._clock.call_at(self._clock.now() + EVERY_SECONDS, self._turn)
