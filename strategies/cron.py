"""Cron expressions: five fields, matched against the wall clock of a time zone.

As in Vixie's cron: days of the month and of the week that are both restricted are alternatives ("or"); a time that the
clocks skip comes when they have gone forward, and one that they repeat comes the first time. With `*` in the hour a time
comes in every real hour instead: none is made up for, and a repeated hour counts twice.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

MOST_DAYS = 40 * 366
"""What does not come within 40 years never comes: a 29 February on a given weekday takes at most that long."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class Cron(NamedTuple):
    """A parsed expression: the minutes of a day at which it fires, and the days on which it does."""

    minutes: tuple[int, ...]
    every_hour: bool
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    def on(self, day: date) -> bool:
        """Whether it fires on this day."""
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return of_month or of_week if self.either else of_month and of_week

    def next_after(self, after: float, zone: ZoneInfo) -> float | None:
        """The first time later than `after` (seconds since the epoch); None where it never comes."""
        # a day before, because clocks that go back around midnight bring yesterday's times again
        first = datetime.fromtimestamp(after, zone).date() - timedelta(days=1)
        for day in self._days_from(first):
            if (found := self._first_on(day, after, zone)) is not None:
                later = day + timedelta(days=1)
                also = self._first_on(later, after, zone) if self.on(later) else None
                return found if also is None else min(found, also)
        return None

    def _days_from(self, first: date) -> Iterator[date]:
        for number in range(min(MOST_DAYS, date.max.toordinal() - first.toordinal() - 1)):
            day = first + timedelta(days=number)
            if self.on(day):
                yield day

    def _first_on(self, day: date, after: float, zone: ZoneInfo) -> float | None:
        midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
        start, end = midnight.timestamp(), (midnight + timedelta(days=1)).timestamp()
        if end - start == 86400 and not _is_odd(midnight):
            place = bisect_right(self.minutes, (after - start) / 60)
            return start + self.minutes[place] * 60 if place < len(self.minutes) else None
        times = (time for minute in self.minutes for time in self._times(midnight + timedelta(minutes=minute)))
        return min((time for time in times if time > after), default=None)

    def _times(self, wall: datetime) -> Iterator[float]:
        """When the wall clock shows this time: once, twice, or not at all."""
        first, second = wall.timestamp(), wall.replace(fold=1).timestamp()
        if first == second:
            yield first
        elif first < second:
            yield first
            if self.every_hour:
                yield second
        elif not self.every_hour:
            yield _change_between(second, first, wall)


def parse(expression: str) -> Cron:
    """Five fields: minute, hour, day of the month, month, weekday (0 and 7 are Sunday).

    Raises:
        ValueError: it is not valid; says which field is not, and what is allowed.
    """
    fields = expression.lower().split()
    if len(fields) != 5:
        raise ValueError(f"cron takes five fields (minute hour day month weekday); found {len(fields)}")
    minutes = _field("minute", fields[0], 0, 59)
    hours = _field("hour", fields[1], 0, 23)
    return Cron(
        minutes=tuple(sorted(hour * 60 + minute for hour in hours for minute in minutes)),
        every_hour="*" in fields[1],
        days=_field("day", fields[2], 1, 31),
        months=_field("month", fields[3], 1, 12, _MONTHS),
        weekdays=frozenset(day % 7 for day in _field("weekday", fields[4], 0, 7, _DAYS)),
        either="*" not in fields[2] and "*" not in fields[4],
    )


@lru_cache(maxsize=4096)
def cron_of(expression: str) -> Cron:
    """`parse`, remembered."""
    return parse(expression)


def _field(what: str, text: str, least: int, most: int, names: Sequence[str] = ()) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        if slash and not (step.isascii() and step.isdecimal() and int(step) > 0):
            raise ValueError(f"{part!r} is no {what}: the step after / is a number from 1")
        first, dash, last = span.partition("-")
        if first == "*" and not dash:
            low, high = least, 6 if what == "weekday" else most
        else:
            low = _value(what, first, least, most, names)
            high = _value(what, last, least, most, names) if dash else ((6 if what == "weekday" else most) if slash else low)
        if high < low and what == "weekday":
            high += 7
        if high < low:
            raise ValueError(f"{part!r} is no {what}: the range ends before it begins")
        found.update(range(low, high + 1, int(step) if slash else 1))
    return frozenset(found)


def _value(what: str, text: str, least: int, most: int, names: Sequence[str]) -> int:
    if text in names:
        return names.index(text) + (1 if what == "month" else 0)
    if text.isascii() and text.isdecimal() and least <= int(text) <= most:
        return int(text)
    words = f", or {names[0]} to {names[-1]}" if names else ""
    raise ValueError(f"{text!r} is no {what}; write {least} to {most}{words}")


def _is_odd(midnight: datetime) -> bool:
    """Whether midnight itself is skipped or repeated, so that the length of the day does not show it."""
    return any(day.timestamp() != day.replace(fold=1).timestamp() for day in (midnight, midnight + timedelta(days=1)))


def _change_between(before: float, after: float, wall: datetime) -> float:
    """The moment between two at which the clocks went forward, to the second."""
    low, high = int(before), int(after)
    offset = datetime.fromtimestamp(low, UTC).astimezone(wall.tzinfo).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, UTC).astimezone(wall.tzinfo).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return float(high)
