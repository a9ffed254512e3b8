"""When a strategy's condition becomes an event: pure, with all state handed in and out.

A breach begins when `when` was true at every evaluation for `for`, and ends when `clear` is true (without `clear`: when
`when` is false). It fires once when it begins, and again each max(`on.every`, `guard.cooldown`) while `when` holds, so
that a breach which one action did not end is acted on again as soon as it may be. A new breach fires at once, even
shortly after another one; what follows keeps the pace of the first. An unknown condition changes nothing
but this: a breach that had not begun has to hold for the whole of `for` again.
"""

from collections.abc import Mapping
from typing import Any

from autonomic.seams.event import Event
from autonomic.seams.ids import Ids
from autonomic.seams.reading import Reading
from autonomic.seams.word import Word
from autonomic.strategies.conditions import Condition
from autonomic.strategies.readings import Read, fill, group
from autonomic.strategies.spec.strategy import On, Strategy

FORGET_SECONDS = 3600.0
"""A breach of a label value that is not seen any more is forgotten so long after it fired."""
_TICK = 1e-6  # sums of floating point intervals may fall short of the time they stand for


class Breach(Word):
    """What is known of the condition, for one label value. Times are seconds since the epoch.

    `holds` is the last judgement. `since`: it holds without a break since then. `firing`: the breach has begun and is
    not cleared, `began_at` is when it did. `fired_at` is its last event, `paced_at` the last one that did not follow another too closely.
    """

    holds: bool | None = None
    since: float | None = None
    firing: bool = False
    began_at: float | None = None
    fired_at: float | None = None
    paced_at: float | None = None


class EvaluatorState(Word):
    """What a strategy's evaluation remembers: a breach for each label value (`""` without `by`) and the last good readings."""

    breaches: dict[str, Breach] = {}
    last: dict[str, Reading] = {}


def evaluate(
    strategy: Strategy,
    state: EvaluatorState,
    readings: Read,
    now: float,
    ids: Ids,
    trigger: str = "when",
    data: Mapping[str, Any] | None = None,
) -> tuple[EvaluatorState, tuple[Event, ...]]:
    """The state after this evaluation at the time `now`, and the events that it fires.

    Args:
        readings: what was just read, by name; with `by` one reading for each label value.
        trigger: which of the strategy's triggers asked; it goes into the event.
        data: what the trigger brought (of an event that came in); it goes into the event.
    """
    filled, last = fill(strategy, readings, state.last, now)
    groups = group(strategy, filled)
    if groups is None:
        return state.model_copy(update={"last": last}), ()
    breaches = {
        key: breach
        for key, breach in state.breaches.items()
        if breach.firing and breach.fired_at is not None and now - breach.fired_at <= FORGET_SECONDS
    }
    events: list[Event] = []
    for labels, values in groups.items():
        key = ",".join(f"{name}={value}" for name, value in labels)
        breach, fires = _step(strategy, state.breaches.get(key, Breach()), values, now)
        breaches[key] = breach
        if fires:
            events.append(
                Event(
                    id=ids.new("event"),
                    source="monitor",
                    strategy=strategy.name,
                    trigger=trigger,
                    target=strategy.spec.target,
                    observed_at=now,
                    expires_at=now + strategy.spec.expires,
                    since=breach.began_at,
                    readings=values,
                    by=dict(labels),
                    data=dict(data or {}),
                )
            )
    return EvaluatorState(breaches=breaches, last=last), tuple(events)


def is_unclear(strategy: Strategy, state: EvaluatorState, readings: Read, now: float) -> bool:
    """Whether the condition cannot be judged with what was just read; `state` is from before or after that."""
    if strategy.spec.when is None:
        return False
    groups = group(strategy, fill(strategy, readings, state.last, now)[0])
    condition = Condition.compile(strategy.spec.when, strategy.spec.readings)
    return groups is None or any(condition.judge(values) is None for values in groups.values())


def refire_seconds(strategy: Strategy) -> float:
    """How long after an event the same breach fires again."""
    return max(_every(strategy.spec.on), strategy.spec.guard.cooldown)


def _every(on: On) -> float:
    if on.any is not None:
        return min((_every(inner) for inner in on.any), default=0.0)
    return on.every or 0.0


def _step(strategy: Strategy, breach: Breach, values: Mapping[str, Reading], now: float) -> tuple[Breach, bool]:
    spec = strategy.spec
    if spec.when is None:
        return Breach(holds=True, since=now, fired_at=now, paced_at=now), True
    holds = Condition.compile(spec.when, spec.readings).judge(values)
    since = (breach.since if breach.since is not None else now) if holds else None
    firing = breach.firing and not _cleared(strategy, holds, values)
    due = breach.paced_at is None or now - breach.paced_at >= refire_seconds(strategy) - _TICK
    new = not firing
    if new:
        fires = firing = bool(holds and since is not None and now - since >= spec.for_ - _TICK)
    else:
        fires = bool(holds and due)
    if not fires:
        return breach.model_copy(update={"holds": holds, "since": since, "firing": firing}), False
    began_at = now if new else breach.began_at
    return Breach(holds=holds, since=since, firing=True, began_at=began_at, fired_at=now, paced_at=now if due else breach.paced_at), True


def _cleared(strategy: Strategy, holds: bool | None, values: Mapping[str, Reading]) -> bool:
    clear = strategy.spec.clear
    if holds or clear is None:
        return holds is False
    return Condition.compile(clear, strategy.spec.readings).judge(values) is True
