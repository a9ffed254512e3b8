"""When each trigger is looked at next: a heap of alarms on the monotonic clock, and dates on the wall clock."""

import heapq
import itertools
from collections.abc import Callable
from typing import NamedTuple

from autonomic.agents.monitor.schedule import next_time
from autonomic.agents.monitor.watched import Watched
from autonomic.seams.clock import Clock
from autonomic.strategies.triggers import Trigger

LOOK_SECONDS = 30.0
"""A date or cron time further away is looked at again after so long, because clocks are set."""


class _Alarm(NamedTuple):
    at: float
    order: int
    watched: Watched
    trigger: Trigger
    # the wall time of a cron or at trigger
    wall: float | None


class Alarms:
    """The alarms of all timed triggers. Not safe for several threads: the loop holds its lock meanwhile.

    Args:
        missed: told how many cycles of an interval were left out because nobody looked in time.
    """

    def __init__(self, clock: Clock, missed: Callable[[int], None]) -> None:
        self._clock = clock
        self._missed = missed
        self._alarms: list[_Alarm] = []
        self._order = itertools.count()

    def keep(self, wanted: Callable[[Watched], bool]) -> None:
        """Drops the alarms of what is not wanted any more."""
        self._alarms = [alarm for alarm in self._alarms if wanted(alarm.watched)]
        heapq.heapify(self._alarms)

    def set_first(self, watched: Watched, trigger: Trigger) -> bool:
        """Sets a new trigger's first alarm; True where that has to be remembered."""
        on, now = trigger.on, self._clock.now()
        if on.every is not None:
            heapq.heappush(self._alarms, _Alarm(self._clock.monotonic(), next(self._order), watched, trigger, None))
        elif on.cron is not None:
            self._set_wall(watched, trigger, next_time(on, now))
        elif on.at is not None and trigger.name not in watched.memory.made:
            # a date that came while nobody watched is made up for, unless it was past when the strategy was applied
            mark = f"set {trigger.name}"
            wall = now if mark in watched.memory.made and next_time(on, now) is None else next_time(on, now)
            self._set_wall(watched, trigger, wall)
            if wall is not None and mark not in watched.memory.made:
                watched.memory.made = (*watched.memory.made, mark)
                return True
        return False

    def due(self) -> list[tuple[Watched, Trigger]]:
        """What is to be looked at now; the alarm after it is set."""
        now = self._clock.monotonic()
        found: list[tuple[Watched, Trigger]] = []
        while self._alarms and self._alarms[0].at <= now:
            alarm = heapq.heappop(self._alarms)
            if not self._set_next(alarm, now):
                found.append((alarm.watched, alarm.trigger))
        return found

    def idle_seconds(self) -> float | None:
        """How long nothing is due, None for ever."""
        return max(0.0, self._alarms[0].at - self._clock.monotonic()) if self._alarms else None

    def next_times(self) -> dict[tuple[str, str], float]:
        """When each timed trigger is looked at next (seconds since the epoch), by strategy and trigger."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        return {
            (alarm.watched.name, alarm.trigger.name): alarm.wall if alarm.wall is not None else now + alarm.at - monotonic
            for alarm in self._alarms
        }

    def _set_wall(self, watched: Watched, trigger: Trigger, wall: float | None) -> None:
        if wall is not None:
            delay = min(max(0.0, wall - self._clock.now()), LOOK_SECONDS)
            heapq.heappush(self._alarms, _Alarm(self._clock.monotonic() + delay, next(self._order), watched, trigger, wall))

    def _set_next(self, alarm: _Alarm, now: float) -> bool:
        """Sets the alarm of the time after this one; True where it is not yet time for this one."""
        if alarm.wall is None:
            every = alarm.trigger.on.every or 0.0
            behind = int((now - alarm.at) // every)
            self._missed(behind)
            heapq.heappush(self._alarms, alarm._replace(at=alarm.at + (behind + 1) * every, order=next(self._order)))
            return False
        # a moment too early is the rounding of two clocks, and no reason to look again
        if self._clock.now() < alarm.wall - 0.001:
            self._set_wall(alarm.watched, alarm.trigger, alarm.wall)
            return True
        if alarm.trigger.on.cron is not None:
            self._set_wall(alarm.watched, alarm.trigger, next_time(alarm.trigger.on, max(self._clock.now(), alarm.wall)))
        return False
