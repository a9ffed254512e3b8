"""Cron expressions: five fields, with weekdays counted as cron counts them."""

from typing import Any
from zoneinfo import ZoneInfo

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def cron_trigger(expression: str, timezone: str) -> Any:
    """APScheduler's trigger for five fields of cron.

    Raises:
        ValueError: it is not valid.
    """
    from apscheduler.triggers.cron import CronTrigger  # pyright: ignore[reportMissingTypeStubs]  # 50 ms, and few strategies have a cron

    fields = expression.split()
    if len(fields) != 5:
        raise ValueError(f"cron takes five fields (minute hour day month weekday); found {expression!r}")
    text = " ".join([*fields[:4], weekdays(fields[4])])
    return CronTrigger.from_crontab(text, ZoneInfo(timezone))  # pyright: ignore[reportUnknownMemberType]


def weekdays(field: str) -> str:
    """The weekday field with names for numbers: cron counts from Sunday (0 or 7), APScheduler from Monday."""
    if field == "*":
        return field
    days: set[int] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        if first == "*":
            low, high = 0, 6
        else:
            low = _day(first)
            high = _day(last) if dash else (6 if step else low)
        if high < low:
            high += 7
        days.update(day % 7 for day in range(low, high + 1, int(step or 1)))
    return ",".join(name for day, name in enumerate(_DAYS) if day in days)


def _day(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if text in ("0", "1", "2", "3", "4", "5", "6", "7"):
        return int(text)
    raise ValueError(f"{text!r} is no weekday; write 0 to 7 (0 and 7 are Sunday) or sun to sat")
