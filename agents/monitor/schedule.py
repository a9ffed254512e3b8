"""When a strategy's condition is looked at."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from autonomic.seams.event import Event
from autonomic.strategies.cron import cron_trigger
from autonomic.strategies.spec.strategy import On, Strategy


class Trigger(NamedTuple):
    """One way in which a strategy is looked at; its full name is `strategy/name`."""

    strategy: str
    name: str
    on: On


def triggers_of(strategy: Strategy) -> list[Trigger]:
    """The triggers of a strategy: named for their kind (every, at, cron, call, event), the second of a kind `every-2`."""
    counts: dict[str, int] = {}
    triggers: list[Trigger] = []
    for on in _flat(strategy.spec.on):
        kind = kind_of(on)
        counts[kind] = counts.get(kind, 0) + 1
        name = kind if counts[kind] == 1 else f"{kind}-{counts[kind]}"
        triggers.append(Trigger(strategy.name, name, on))
    return triggers


def kind_of(on: On) -> str:
    """Which of its keys is given."""
    return next(name for name in ("every", "at", "cron", "call", "event", "any") if getattr(on, name) is not None)


def _flat(on: On) -> Iterator[On]:
    if on.any is None:
        yield on
        return
    for inner in on.any:
        yield from _flat(inner)


def next_time(on: On, after: float) -> float | None:
    """The first time of a `cron` or `at` trigger that is later than `after`, None where there is none."""
    moment = datetime.fromtimestamp(after, UTC)
    if on.at is not None:
        at = on.at if on.at.tzinfo else on.at.replace(tzinfo=ZoneInfo(on.timezone))
        return at.timestamp() if at > moment else None
    if on.cron is None:
        return None
    found = cron_trigger(on.cron, on.timezone).get_next_fire_time(moment, moment)
    return found.timestamp() if found is not None else None


def described(trigger: Trigger) -> str:
    """What the trigger waits for, in the words of the strategy."""
    kind = kind_of(trigger.on)
    value = getattr(trigger.on, kind)
    return f"every {value:g} s" if kind == "every" else f"{kind} {value}"


def subject_of(event: Event) -> str:
    """The name of the trigger that fired."""
    return f"{event.strategy}/{event.trigger}"
