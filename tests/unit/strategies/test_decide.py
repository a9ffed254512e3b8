import re
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest

from autonomic.seams.decision import Action, Decision
from autonomic.seams.event import Event
from autonomic.seams.reading import Reading, missing, number
from autonomic.strategies.decide import decide
from autonomic.strategies.spec.strategy import Strategy

MakeStrategy = Callable[..., Strategy]


def readings(**values: float | None) -> dict[str, Reading]:
    return {name: missing(0.0, "t", "gone") if value is None else number(value, 0.0, "t") for name, value in values.items()}


def fired(**fields: Any) -> Event:
    given: dict[str, Any] = {"id": "event-1", "source": "monitor", "strategy": "s", "observed_at": 100.0, "expires_at": 130.0, **fields}
    return Event(**given)


def answer(strategy: Strategy, values: Mapping[str, Reading], event: Event | None = None, now: float = 101.0) -> Decision:
    return decide(strategy, None, event or fired(), values, now)[1]


def test_an_event_that_still_holds_gives_the_declared_actions(make_strategy: MakeStrategy) -> None:
    decision = answer(make_strategy(constraint="replicas < 4"), readings(p99=0.2, replicas=3))
    assert decision.actions == (Action(primitive="rescale", target="online/predictor", args={"by": 1}),)
    assert decision.why == "p99 > 0.1 is true"


@pytest.mark.parametrize(
    ("values", "now", "why"),
    [
        (readings(p99=0.2, replicas=3), 131.0, "expired 1.0 s ago"),
        (readings(p99=0.05, replicas=3), 101.0, "is not true any more"),
        (readings(p99=None, replicas=3), 101.0, r"p99 missing \(gone\) cannot be judged"),
        (readings(p99=0.2, replicas=4), 101.0, "the constraint `replicas < 4` with replicas=4 is not true"),
        (readings(p99=0.2, replicas=None), 101.0, "the constraint .* cannot be judged"),
    ],
)
def test_it_says_why_nothing_is_done(make_strategy: MakeStrategy, values: Mapping[str, Reading], now: float, why: str) -> None:
    decision = answer(make_strategy(constraint="replicas < 4"), values, now=now)
    assert decision.actions == ()
    assert re.search(why, decision.why)


def test_arguments_are_filled_from_a_closed_set_of_names(make_strategy: MakeStrategy) -> None:
    message = "p99 of ${by.node} is ${reading.p99}, asked by ${event.data.who}, ${event.trigger}"
    strategy = make_strategy(do=[{"notify": {"message": message}}])
    event = fired(by={"node": "n1"}, data={"who": "Ada"}, trigger="when")
    decision = answer(strategy, readings(p99=0.25, replicas=1), event)
    assert decision.actions[0].args == {"message": "p99 of n1 is 0.25, asked by Ada, when"}


@pytest.mark.parametrize("name", ["by.node", "reading.replicas", "event.data.who", "event.readings", "strategy.name", "by", ""])
def test_a_name_that_is_not_there_holds_the_strategy_back(make_strategy: MakeStrategy, name: str) -> None:
    strategy = make_strategy(do=[{"notify": {"message": "x ${%s}" % name}}])  # noqa: UP031 - braces
    decision = answer(strategy, readings(p99=0.25, replicas=None))
    if name == "by":
        assert decision.actions[0].args == {"message": "x {}"}
    else:
        assert decision.actions == ()
        assert "cannot be filled in" in decision.why


def test_what_was_filled_in_is_not_looked_at_again(make_strategy: MakeStrategy) -> None:
    strategy = make_strategy(do=[{"notify": {"message": "${event.data.who}"}}])
    decision = answer(strategy, readings(p99=0.25), fired(data={"who": "${reading.p99}"}))
    assert decision.actions[0].args == {"message": "${reading.p99}"}


def double(state: Any, event: Event, values: Mapping[str, Reading], now: float) -> tuple[Any, Decision]:
    times = (state or 0) + 1
    action = Action(primitive="rescale", target="online/predictor", args={"by": times})
    return times, Decision(strategy="mine", target="mine", actions=(action,), why=f"asked {times} times")


def wrong(state: Any, event: Event, values: Mapping[str, Reading], now: float) -> tuple[Any, Decision]:
    return 5, Decision(strategy="", target="", actions=(Action(primitive="explode", target="x"),), why="")


def broken(state: Any, event: Event, values: Mapping[str, Reading], now: float) -> tuple[Any, Decision]:
    raise RuntimeError("no idea")


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> str:
    """The module name under which the functions of this file are found."""
    module = ModuleType("decide_functions")
    module.__dict__.update(double=double, wrong=wrong, broken=broken)
    monkeypatch.setitem(sys.modules, "decide_functions", module)
    return "decide_functions"


def test_a_function_decides_with_a_state_of_its_own(make_strategy: MakeStrategy, functions: str) -> None:
    strategy = make_strategy(do=None, decide=f"{functions}:double")
    state, first, _ = decide(strategy, None, fired(), readings(p99=0.2), 101.0)
    state, second, _ = decide(strategy, state, fired(), readings(p99=0.2), 101.0)
    assert state == 2
    assert (first.actions[0].args, second.actions[0].args) == ({"by": 1}, {"by": 2})
    assert (second.strategy, second.target, second.why) == ("keep-latency", "online/predictor", "asked 2 times")


@pytest.mark.parametrize(("function", "why"), [("wrong", "'explode'"), ("broken", "RuntimeError: no idea"), ("absent", "AttributeError")])
def test_a_function_that_fails_does_nothing_and_keeps_its_state(
    make_strategy: MakeStrategy, functions: str, function: str, why: str
) -> None:
    strategy = make_strategy(do=None, decide=f"{functions}:{function}")
    state, decision, _ = decide(strategy, 7, fired(), readings(p99=0.2), 101.0)
    assert (state, decision.actions) == (7, ())
    assert why in decision.why


def test_a_function_is_not_asked_where_the_condition_is_unknown(make_strategy: MakeStrategy, functions: str) -> None:
    strategy = make_strategy(do=None, decide=f"{functions}:double")
    state, decision, _ = decide(strategy, 7, fired(), readings(p99=None), 101.0)
    assert (state, decision.actions) == (7, ())
