"""A strategy's answer to an event: pure, so that it can be judged again from what was recorded."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

from pydantic import ValidationError

from autonomic.primitives.table import ARGUMENTS
from autonomic.seams.decision import Action, Decision
from autonomic.seams.event import Event
from autonomic.seams.reading import Reading
from autonomic.strategies.conditions import Condition
from autonomic.strategies.spec.strategy import Strategy
from autonomic.workflows.spec.references import UnknownReference, resolve

DecideFunction = Callable[[Any, Event, Mapping[str, Reading], float], tuple[Any, Decision]]
"""What a user writes for `decide:`; pure, the state is JSON."""


def decide(
    strategy: Strategy, state: Any, event: Event, readings: Mapping[str, Reading], now: float
) -> tuple[Any, Decision, tuple[str, ...]]:
    """The state afterwards, the decision, and what was considered, step by step.

    The event must not have expired, `when` must still be true with `readings` (read again for this decision), and the
    constraint too; what cannot be known holds the strategy back. Then come the actions of `do:`, or what the function
    of `decide:` says.

    Args:
        strategy: what was declared.
        state: what the function of `decide:` returned last, None before.
        event: what fired.
        readings: fresh readings by name, for the event's label values.
        now: seconds since the epoch.
    """
    considered: list[str] = []

    def no(why: str) -> tuple[Any, Decision, tuple[str, ...]]:
        return state, Decision(strategy=strategy.name, target=strategy.spec.target, why=why), tuple(considered)

    spec = strategy.spec
    if now > event.expires_at:
        return no(f"the event expired {now - event.expires_at:.1f} s ago; what it saw may not be true any more")
    considered.append(f"the event is {now - event.observed_at:.2f} s old and has not expired")
    for word, told, holds in _conditions(strategy, readings):
        if holds is None:
            return no(f"{told} cannot be judged: what is missing holds the strategy back")
        if not holds:
            return no(f"{told} is not true{' any more' if word == 'condition' else ''}")
        considered.append(f"{told} is true")
    if spec.decide is not None:
        return _by_function(strategy, state, event, readings, now, tuple(considered))
    try:
        actions = tuple(_action(strategy, action.primitive, action.target, action.args, event, readings) for action in spec.do)
    except (UnknownReference, ValidationError) as wrong:
        return no(f"the arguments of its actions cannot be filled in: {_first_line(wrong)}")
    why = f"{spec.when} is true" if spec.when is not None else f"{strategy.name}/{event.trigger} fired"
    return state, Decision(strategy=strategy.name, target=spec.target, actions=actions, why=why), tuple(considered)


def unclear(strategy: Strategy, readings: Mapping[str, Reading]) -> str:
    """Which of a strategy's conditions holds it back because it cannot be judged, "" where none does."""
    for _, told, holds in _conditions(strategy, readings):
        if not holds:
            return f"{told} cannot be judged" if holds is None else ""
    return ""


def _conditions(strategy: Strategy, readings: Mapping[str, Reading]) -> Iterator[tuple[str, str, bool | None]]:
    """What has to hold, in its order: the word for it, how it is told, and whether it holds (None: it cannot be judged)."""
    for word, text in (("condition", strategy.spec.when), ("constraint", strategy.spec.constraint)):
        if text is not None:
            holds = Condition.compile(text, strategy.spec.readings).judge(readings)
            yield word, f"the {word} `{text}` with {_say(text, strategy, readings)}", holds


def _say(text: str, strategy: Strategy, readings: Mapping[str, Reading]) -> str:
    names = sorted(Condition.compile(text, strategy.spec.readings).names)
    return ", ".join(_value(name, readings.get(name)) for name in names) or "no readings"


def _value(name: str, reading: Reading | None) -> str:
    if reading is None:
        return f"{name} not read"
    if reading.status != "ok" or reading.value is None:
        return f"{name} {reading.status} ({reading.detail})"
    return f"{name}={reading.value:.6g}" + (" (substituted)" if reading.substituted else "")


def _action(
    strategy: Strategy, primitive: str, target: str | None, args: Mapping[str, Any], event: Event, readings: Mapping[str, Reading]
) -> Action:
    names = {
        "by": event.by,
        "reading": {name: reading.value for name, reading in readings.items() if reading.status == "ok"},
        "event": {"data": event.data, "id": event.id, "trigger": event.trigger},
    }
    filled = {key: resolve(value, names) for key, value in args.items()}
    ARGUMENTS[primitive].model_validate(filled)
    return Action(primitive=primitive, target=resolve(target, names) if target else strategy.spec.target, args=filled)


def _by_function(
    strategy: Strategy, state: Any, event: Event, readings: Mapping[str, Reading], now: float, considered: tuple[str, ...]
) -> tuple[Any, Decision, tuple[str, ...]]:
    name = str(strategy.spec.decide)
    nothing = Decision(strategy=strategy.name, target=strategy.spec.target, why="")
    try:
        after, decision = _function(name)(state, event, readings, now)
        checked = Decision.model_validate(decision.model_dump())
        for action in checked.actions:
            if action.primitive not in ARGUMENTS:
                raise ValueError(f"it named the primitive {action.primitive!r}; known are {', '.join(ARGUMENTS)}")
            ARGUMENTS[action.primitive].model_validate(action.args)
    except Exception as wrong:  # noqa: BLE001 - a user's function may raise anything; then nothing is done and its state stays
        why = f"its function {name} gave no decision: {type(wrong).__name__}: {_first_line(wrong)}"
        return state, nothing.model_copy(update={"why": why}), considered
    told = (*considered, f"its function {name} was asked")
    return after, checked.model_copy(update={"strategy": strategy.name, "target": strategy.spec.target}), told


@lru_cache(maxsize=256)
def _function(name: str) -> DecideFunction:
    module, _, function = name.partition(":")
    return cast(DecideFunction, getattr(importlib.import_module(module), function))


def _first_line(wrong: Exception) -> str:
    return " ".join(str(wrong).split())[:300]
