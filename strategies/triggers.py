"""The triggers of a strategy, and which of them come again."""

from collections.abc import Iterator
from typing import NamedTuple

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


def comes_again(strategy: Strategy, on: On) -> bool:
    """Whether a trigger fires again by itself before its event would expire: a short interval does, an event or a date does not."""
    return on.every is not None and on.every <= strategy.spec.expires


def fires_again(strategy: Strategy, name: str) -> bool:
    """`comes_again` of a trigger by its name; what a person asks for (`call`) does not."""
    on = next((trigger.on for trigger in triggers_of(strategy) if trigger.name == name), None)
    return comes_again(strategy, on) if on is not None else name != "call"


def _flat(on: On) -> Iterator[On]:
    if on.any is None:
        yield on
        return
    for inner in on.any:
        yield from _flat(inner)
