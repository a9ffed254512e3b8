from collections.abc import Callable, Sequence
from typing import Any

import pytest

from autonomic.seams.event import Event
from autonomic.seams.ids import SeededIds
from autonomic.seams.reading import Reading, error, missing, number
from autonomic.strategies.evaluator import EvaluatorState, evaluate
from autonomic.strategies.spec.strategy import Strategy

MakeStrategy = Callable[..., Strategy]


class Run:
    """Evaluates a strategy at the seconds 0, 1, 2 … and keeps what fires; the state goes through JSON each time."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.state = EvaluatorState()
        self.ids = SeededIds()
        self.now = 0.0
        self.fired: list[float] = []
        self.events: list[Event] = []

    def step(self, **values: Any) -> None:
        readings: dict[str, Reading | Sequence[Reading]] = {
            name: number(value, self.now, "test") if isinstance(value, int | float) else value for name, value in values.items()
        }
        state = EvaluatorState.model_validate_json(self.state.model_dump_json())
        self.state, events = evaluate(self.strategy, state, readings, self.now, self.ids)
        self.fired += [self.now] * len(events)
        self.events += events
        self.now += 1

    def over(self, values: Sequence[Any]) -> list[float]:
        for value in values:
            self.step(p99=value, replicas=1)
        return self.fired


def test_a_breach_fires_once_and_again_after_the_cooldown_while_it_lasts(make_strategy: MakeStrategy) -> None:
    assert Run(make_strategy()).over([0.05] * 3 + [0.2] * 70) == [3, 33, 63]


def test_the_interval_bounds_how_often_a_breach_fires_again(make_strategy: MakeStrategy) -> None:
    assert Run(make_strategy(guard={}, on={"every": "10s"})).over([0.2] * 25) == [0, 10, 20]
    assert Run(make_strategy(guard={}, on={"any": [{"every": "10s"}, {"every": "4s"}]})).over([0.2] * 9) == [0, 4, 8]


def test_nothing_fires_while_the_condition_is_false(make_strategy: MakeStrategy) -> None:
    run = Run(make_strategy())
    assert run.over([0.05] * 100) == []
    assert not run.state.breaches[""].firing


def test_a_new_breach_fires_at_once(make_strategy: MakeStrategy) -> None:
    assert Run(make_strategy()).over([0.2, 0.2, 0.05, 0.2]) == [0, 3]


def test_a_new_breach_inside_the_cooldown_fires_again_when_the_cooldown_is_over(make_strategy: MakeStrategy) -> None:
    assert Run(make_strategy()).over([0.2] * 5 + [0.05] * 5 + [0.2] * 60) == [0, 10, 30, 60]


def test_it_must_hold_for_the_whole_time_without_a_break(make_strategy: MakeStrategy) -> None:
    strategy = make_strategy(for_="5s")
    assert Run(strategy).over([0.2] * 5 + [0.05] + [0.2] * 5) == []
    assert Run(strategy).over([0.2] * 7) == [5]


def test_an_unknown_condition_breaks_a_breach_that_has_not_begun(make_strategy: MakeStrategy) -> None:
    gap = missing(0.0, "test", "no sample")
    assert Run(make_strategy(for_="5s")).over([0.2] * 5 + [gap] + [0.2] * 5) == []


def test_an_unknown_condition_neither_ends_a_breach_nor_fires(make_strategy: MakeStrategy) -> None:
    gap = error(0.0, "test", "refused")
    run = Run(make_strategy())
    assert run.over([0.2] + [gap] * 40) == [0]
    assert run.state.breaches[""].firing
    assert run.over([0.2]) == [0, 41]


def test_between_clear_and_when_a_breach_lasts_but_does_not_fire(make_strategy: MakeStrategy) -> None:
    strategy = make_strategy(clear="p99 < 0.08")
    assert Run(strategy).over([0.2] + [0.09] * 40 + [0.2]) == [0, 41]
    assert Run(strategy).over([0.2, 0.09, 0.2]) == [0]
    assert Run(strategy).over([0.2, 0.07, 0.2]) == [0, 2]


def test_a_clear_that_overlaps_when_does_not_fire_all_the_time(make_strategy: MakeStrategy) -> None:
    assert Run(make_strategy(clear="p99 < 10")).over([0.2] * 20) == [0]


def test_events_carry_the_readings_and_when_they_expire(make_strategy: MakeStrategy) -> None:
    run = Run(make_strategy(expires="7s"))
    run.over([0.2])
    (event,) = run.events
    assert (event.strategy, event.target, event.observed_at, event.expires_at) == ("keep-latency", "online/predictor", 0.0, 7.0)
    assert {name: reading.value for name, reading in event.readings.items()} == {"p99": 0.2, "replicas": 1.0}


def test_a_reading_past_its_age_is_missing(make_strategy: MakeStrategy) -> None:
    run = Run(make_strategy())
    run.now = 100.0
    run.step(p99=number(0.2, 94.9, "test"), replicas=1)
    assert run.fired == []
    run.step(p99=number(0.2, 96.5, "test"), replicas=1)
    assert run.fired == [101.0]


def test_without_when_every_evaluation_fires(make_strategy: MakeStrategy) -> None:
    assert Run(make_strategy(when=None)).over([0.05] * 3) == [0, 1, 2]


@pytest.mark.parametrize(("policy", "fired"), [("hold", []), ({"fallback": 0.5}, [0]), ({"fallback": 0.05}, []), ({"last": "1m"}, [])])
def test_a_missing_reading_is_held_or_stands_in(make_strategy: MakeStrategy, policy: Any, fired: list[float]) -> None:
    run = Run(make_strategy(missing=policy))
    assert run.over([missing(0.0, "test", "gone")] * 3) == fired
    assert all(event.readings["p99"].substituted for event in run.events)


def test_the_last_good_reading_stands_in_until_it_is_too_old(make_strategy: MakeStrategy) -> None:
    gap = missing(0.0, "test", "gone")
    strategy = make_strategy(missing={"last": "8s"}, for_="5s", guard={"cooldown": "2s"})
    assert Run(strategy).over([0.2] + [gap] * 20) == [5, 7]
    own = {"p99": {"promql": "p99", "missing": "hold"}, "replicas": {"platform": "ready_replicas"}}
    assert Run(make_strategy(missing={"last": "8s"}, for_="5s", readings=own)).over([0.2] + [gap] * 20) == []


def by_node(now: float, **values: float) -> list[Reading]:
    return [number(value, now, "test", {"node": node}) for node, value in values.items()]


@pytest.fixture
def per_node(make_strategy: MakeStrategy) -> Strategy:
    readings = {"online": {"promql": "online", "by": "node"}, "batch": {"promql": "batch", "by": "node"}, "load": {"promql": "load"}}
    return make_strategy(readings=readings, when="online > 1 && batch > 1 && load > 0")


def test_each_label_value_in_all_readings_is_a_breach_of_its_own(per_node: Strategy) -> None:
    run = Run(per_node)
    run.step(online=by_node(0, a=2, b=2, c=0), batch=by_node(0, b=2, c=2, d=2), load=1)
    assert [event.by for event in run.events] == [{"node": "b"}]
    assert run.events[0].readings["batch"].value == 2
    run.step(online=by_node(1, a=2, b=2), batch=by_node(1, a=2, b=2), load=1)
    assert [event.by for event in run.events] == [{"node": "b"}, {"node": "a"}]


def test_no_label_values_fire_nothing(per_node: Strategy) -> None:
    run = Run(per_node)
    run.step(online=[], batch=[], load=1)
    assert run.events == []


def test_a_failed_reading_with_by_keeps_what_is_known(per_node: Strategy) -> None:
    run = Run(per_node)
    run.step(online=by_node(0, a=2), batch=by_node(0, a=2), load=1)
    known = run.state.breaches
    run.step(online=[error(1, "test", "refused")], batch=by_node(1, a=2), load=1)
    assert run.state.breaches == known
    assert len(run.events) == 1
