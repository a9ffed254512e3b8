"""When a strategy's condition is looked at."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from autonomic.seams.event import Event
from autonomic.strategies.cron import cron_of
from autonomic.strategies.spec.strategy import On
from autonomic.strategies.triggers import Trigger, kind_of


def next_time(on: On, after: float) -> float | None:
    """The first time of a `cron` or `at` trigger that is later than `after`, None where there is none."""
    moment = datetime.fromtimestamp(after, UTC)
    if on.at is not None:
        at = on.at if on.at.tzinfo else on.at.replace(tzinfo=ZoneInfo(on.timezone))
        return at.timestamp() if at > moment else None
    if on.cron is None:
        return None
    return cron_of(on.cron).next_after(after, ZoneInfo(on.timezone))


def described(trigger: Trigger) -> str:
    """What the trigger waits for, in the words of the strategy."""
    kind = kind_of(trigger.on)
    value = getattr(trigger.on, kind)
    return f"every {value:g} s" if kind == "every" else f"{kind} {value}"


def subject_of(event: Event) -> str:
    """The name of the trigger that fired."""
    return f"{event.strategy}/{event.trigger}"
