from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from autonomic.agents.journal import SqlJournal
from autonomic.agents.monitor.intake import Intake
from autonomic.agents.monitor.loop import MonitorLoop
from autonomic.agents.monitor.metrics import MonitorMetrics
from autonomic.agents.monitor.reader import Reader
from autonomic.agents.monitor.watched import Work
from autonomic.agents.problems import ProblemError
from autonomic.seams.clock import VirtualClock
from autonomic.seams.event import SPECS_APPLIED, CloudEvent, Event
from autonomic.seams.ids import SeededIds
from autonomic.seams.reading import error, number
from autonomic.seams.signal import Answer, Query
from autonomic.strategies.spec.strategy import Strategy


class Values:
    """A source whose values the test sets; it counts what it is asked."""

    def __init__(self) -> None:
        self.value: Any = 0.0
        self.asked: list[Query] = []
        self.calls = 0

    def read(self, queries: Sequence[Query], now: float) -> list[Answer]:
        self.asked += queries
        self.calls += 1
        if isinstance(self.value, Exception):
            raise self.value
        return [self._answer(now) for _ in queries]

    def cursor_after(self, query: Query) -> dict[str, Any] | None:
        return {"value": self.value} if "after" in query.args else None

    def _answer(self, now: float) -> Answer:
        if isinstance(self.value, dict):
            return [number(value, now, "promql", {"node": node}) for node, value in self.value.items()]
        return error(now, "promql", "down") if self.value is None else number(self.value, now, "promql")


class Bench:
    """A monitor on a virtual clock; `restart` gives another on the same journal."""

    def __init__(self, url: str, clock: VirtualClock, values: Values, seed: int = 0) -> None:
        self.clock = clock
        self.values = values
        self.journal = SqlJournal(url, clock.now)
        self.metrics = MonitorMetrics()
        reader = Reader({"promql": values, "mlflow": values})
        self.loop = MonitorLoop(clock, SeededIds(seed), self.journal, reader, self.metrics, inline=True)
        self.intake = Intake(self.journal, self.loop, clock, self.metrics)
        self.intake.restore()

    def apply(self, *documents: dict[str, Any]) -> None:
        self.intake.accept([event(SPECS_APPLIED, {"strategies": list(documents)}, str(self.clock.now()))])

    def run(self, seconds: float) -> None:
        end = self.clock.now() + seconds
        while (delay := self.loop.tick()) is not None and self.clock.now() + delay <= end:
            self.clock.advance(delay)
        self.clock.advance(max(0.0, end - self.clock.now()))

    def fired(self) -> list[Event]:
        return [Event.model_validate(CloudEvent.model_validate_json(text).data) for _, text in self.journal.outbox("planner", 10_000)]


def event(type_: str, data: Any = None, identifier: str = "1") -> CloudEvent:
    return CloudEvent(id=identifier, source="test", type=type_, data=data)


def strategy(name: str = "s", **spec: Any) -> dict[str, Any]:
    document = {
        "apiVersion": "autonomic.dev/v1alpha1",
        "kind": "Strategy",
        "metadata": {"name": name},
        "spec": {"target": "web/api", "do": [{"notify": {"message": "x"}}], **spec},
    }
    return Strategy.model_validate(document).model_dump(mode="json", by_alias=True)


LOAD = {"load": {"promql": "load"}}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'monitor.db'}"


@pytest.fixture
def bench(url: str) -> Bench:
    return Bench(url, VirtualClock(), Values())


@pytest.fixture
def restart(url: str, bench: Bench) -> Callable[[], Bench]:
    return lambda: Bench(url, bench.clock, bench.values, seed=1)


def test_an_interval_is_kept_without_drift(bench: Bench) -> None:
    bench.apply(strategy(on={"every": "250ms"}, readings=LOAD, when="load > 1"))
    bench.run(10)
    assert len(bench.values.asked) == 41
    assert bench.metrics.missed._value.get() == 0
    assert bench.fired() == []


def test_a_breach_fires_once_it_held_long_enough_and_carries_its_readings(bench: Bench) -> None:
    bench.apply(strategy(**{"on": {"every": "1s"}, "readings": LOAD, "when": "load > 1", "for": "5s", "guard": {"cooldown": "1h"}}))
    bench.run(3.5)
    bench.values.value = 2.0
    began = bench.clock.now()
    bench.run(30)
    (fired,) = bench.fired()
    assert 5 <= fired.observed_at - began < 6.5
    assert (fired.strategy, fired.trigger, fired.target) == ("s", "every", "web/api")
    assert fired.readings["load"].value == 2.0
    assert fired.expires_at == fired.observed_at + 30


def test_a_source_that_fails_or_breaks_fires_nothing_and_the_loop_goes_on(bench: Bench) -> None:
    bench.apply(strategy(on={"every": "1s"}, readings=LOAD, when="load < 1"), strategy("t", on={"every": "1s"}))
    bench.values.value = None
    bench.run(5)
    bench.values.value = ZeroDivisionError("a bug")
    bench.run(5)
    assert {fired.strategy for fired in bench.fired()} == {"t"}
    bench.values.value = 0.0
    bench.run(1)
    assert [fired.strategy for fired in bench.fired()].count("s") == 1


def test_each_label_value_fires_by_itself(bench: Bench) -> None:
    readings = {"load": {"promql": "load", "by": "node"}}
    bench.apply(strategy(on={"every": "1s"}, readings=readings, when="load > 1", guard={"cooldown": "1h"}))
    bench.values.value = {"a": 0.0, "b": 2.0, "c": 3.0}
    bench.run(10)
    assert sorted(fired.by["node"] for fired in bench.fired()) == ["b", "c"]


def test_how_long_a_condition_held_and_that_it_fired_survive_a_restart(bench: Bench, restart: Callable[[], Bench]) -> None:
    bench.apply(strategy(**{"on": {"every": "1s"}, "readings": LOAD, "when": "load > 1", "for": "5s", "guard": {"cooldown": "1h"}}))
    bench.values.value = 2.0
    bench.run(3)
    after = restart()
    after.run(2.5)
    assert len(after.fired()) == 1
    again = restart()
    again.run(60)
    assert len(again.fired()) == 1


def test_a_changed_strategy_looks_afresh_and_a_removed_one_not_at_all(bench: Bench) -> None:
    spec: dict[str, Any] = {"on": {"every": "1s"}, "readings": LOAD, "when": "load > 1", "guard": {"cooldown": "1h"}}
    bench.apply(strategy(**spec))
    bench.values.value = 2.0
    bench.run(5)
    assert len(bench.fired()) == 1
    bench.apply(strategy(**{**spec, "priority": 60}))
    bench.run(5)
    assert len(bench.fired()) == 2
    bench.apply()
    asked = len(bench.values.asked)
    bench.run(60)
    assert len(bench.values.asked) == asked
    assert bench.journal.states("strategy/") == {}


def test_applying_another_strategy_leaves_the_interval_of_the_first(bench: Bench) -> None:
    bench.apply(strategy(on={"every": "1h"}, readings=LOAD, when="load > 1"))
    bench.run(60)
    bench.apply(strategy(on={"every": "1h"}, readings=LOAD, when="load > 1"), strategy("t", on={"call": True}))
    bench.run(60)
    assert len(bench.values.asked) == 1


def test_cron_fires_at_its_minutes(bench: Bench) -> None:
    bench.apply(strategy(on={"cron": "*/10 * * * *"}))
    bench.run(3600)
    times = [fired.observed_at for fired in bench.fired()]
    assert len(times) == 6
    assert all(time % 600 == 0 for time in times)


def test_a_date_fires_once_also_over_restarts(bench: Bench, restart: Callable[[], Bench]) -> None:
    from datetime import UTC, datetime

    date = datetime.fromtimestamp(bench.clock.now() + 100, UTC)
    bench.apply(strategy(on={"at": date.isoformat()}))
    bench.run(50)
    assert bench.fired() == []
    bench.clock.advance(3600)
    late = restart()
    late.run(1)
    assert len(late.fired()) == 1
    again = restart()
    again.run(3600)
    assert len(again.fired()) == 1


def test_a_date_that_was_past_when_it_was_applied_does_not_fire(bench: Bench, restart: Callable[[], Bench]) -> None:
    bench.apply(strategy(on={"at": "2001-01-01T00:00:00Z"}))
    bench.run(60)
    after = restart()
    after.run(60)
    assert after.fired() == []


def test_an_event_from_outside_fires_the_strategies_that_wait_for_it_and_counts_once(bench: Bench) -> None:
    bench.apply(strategy(on={"event": "my.type"}), strategy("t", on={"event": "other.type"}))
    assert bench.intake.accept([event("my.type", {"n": 3}, "a"), event("my.type", {"n": 4}, "b"), event("my.type", {"n": 3}, "a")]) == 2
    assert bench.intake.accept([event("my.type", {"n": 3}, "a")]) == 0
    assert [(fired.strategy, fired.trigger, fired.data["n"]) for fired in bench.fired()] == [("s", "event", 3), ("s", "event", 4)]
    assert bench.fired()[0].data["event"]["type"] == "my.type"
    assert bench.intake.newest("my.type") == ({"n": 4}, bench.clock.now())
    assert bench.journal.states("due/") == {}


def test_an_event_that_was_committed_and_not_looked_at_is_looked_at_after_a_restart(
    bench: Bench, restart: Callable[[], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.apply(strategy(on={"event": "my.type"}))
    monkeypatch.setattr(bench.loop, "ask", lambda *_: None)
    bench.intake.accept([event("my.type", {"n": 3})])
    assert bench.fired() == []
    after = restart()
    assert [fired.data["n"] for fired in after.fired()] == [3]
    assert after.journal.states("due/") == {}


def test_an_event_from_outside_waits_for_a_reading_that_is_missing(bench: Bench, restart: Callable[[], Bench]) -> None:
    bench.apply(strategy(on={"event": "my.type"}, readings=LOAD, when="load > 1", expires="2m"))
    bench.values.value = None
    bench.intake.accept([event("my.type", {"n": 3}, "a"), event("my.type", {"n": 4}, "b")])
    bench.run(50)
    assert bench.fired() == []
    assert len(bench.journal.states("due/")) == 2
    bench.loop.stop()
    after = restart()
    after.run(5)
    assert after.fired() == []
    bench.values.value = 2.0
    after.run(3)
    assert sorted(fired.data["n"] for fired in after.fired()) == [3, 4]
    assert after.journal.states("due/") == {}
    after.run(600)
    assert len(after.fired()) == 2


def test_an_event_whose_condition_cannot_be_judged_before_it_expires_is_given_up(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.apply(strategy(on={"event": "my.type"}, readings=LOAD, when="load > 1", expires="20s"))
    bench.values.value = None
    bench.intake.accept([event("my.type")])
    bench.run(18)
    assert len(bench.journal.states("due/")) == 1
    assert "given up" not in caplog.text
    bench.run(5)
    assert bench.journal.states("due/") == {}
    assert caplog.text.count("given up") == 1
    bench.values.value = 2.0
    bench.run(600)
    assert bench.fired() == []


def test_events_that_wait_are_looked_at_together(bench: Bench) -> None:
    bench.apply(*[strategy(f"s{number}", on={"event": "my.type"}, readings=LOAD, when="load > 1") for number in range(50)])
    bench.values.value = None
    bench.intake.accept([event("my.type")])
    before = bench.values.calls
    bench.values.value = 2.0
    bench.run(3)
    assert bench.values.calls - before == 1
    assert sorted(fired.strategy for fired in bench.fired()) == sorted(f"s{number}" for number in range(50))


def test_an_event_whose_evaluation_failed_is_looked_at_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.apply(strategy(on={"event": "my.type"}))

    def broken(*_: Any) -> Any:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr("autonomic.agents.monitor.loop.evaluate", broken)
        bench.intake.accept([event("my.type", {"n": 3})])
        bench.run(5)
    assert len(bench.journal.states("due/")) == 1
    bench.run(3)
    assert [fired.data["n"] for fired in bench.fired()] == [3]
    bench.run(60)
    assert (len(bench.fired()), bench.journal.states("due/")) == (1, {})


def test_an_event_whose_condition_is_false_is_over_at_once(bench: Bench) -> None:
    bench.apply(strategy(on={"event": "my.type"}, readings=LOAD, when="load > 1"))
    bench.intake.accept([event("my.type")])
    assert bench.journal.states("due/") == {}
    bench.values.value = 2.0
    bench.run(60)
    assert bench.fired() == []


def test_an_event_that_waits_is_looked_at_by_the_strategy_that_is_applied_meanwhile(bench: Bench) -> None:
    bench.apply(strategy(on={"event": "my.type"}, readings=LOAD, when="load > 1"))
    bench.values.value = None
    bench.intake.accept([event("my.type")])
    bench.run(1)
    bench.values.value = 2.0
    bench.apply(strategy(on={"event": "my.type"}, readings=LOAD, when="load > 0"))
    bench.apply(strategy(on={"event": "my.type"}, readings=LOAD, when="load > 0"), strategy("t"))
    bench.run(3)
    assert len(bench.fired()) == 1
    bench.run(60)
    assert len(bench.fired()) == 1


@pytest.mark.parametrize(
    "on", [{"cron": "* * * * *"}, {"at": "2023-11-14T22:14:00Z"}, {"every": "48s"}], ids=["cron", "at", "a long interval"]
)
def test_a_date_waits_for_a_reading_that_is_missing(bench: Bench, on: dict[str, Any]) -> None:
    bench.apply(strategy(on=on, readings=LOAD, when="load > 1"))
    bench.values.value = None
    bench.run(50)
    bench.values.value = 2.0
    bench.run(4)
    assert [fired.trigger for fired in bench.fired()] == list(on)
    bench.run(30)
    assert len(bench.fired()) == 1


def test_a_date_that_was_not_clear_comes_again_after_a_restart(bench: Bench, restart: Callable[[], Bench]) -> None:
    bench.apply(strategy(on={"at": "2023-11-14T22:14:00Z"}, readings=LOAD, when="load > 1"))
    bench.values.value = None
    bench.run(50)
    bench.loop.stop()
    after = restart()
    bench.values.value = 2.0
    after.run(4)
    assert [fired.trigger for fired in after.fired()] == ["at"]


def test_a_set_of_specs_that_is_not_valid_changes_nothing(bench: Bench) -> None:
    bench.apply(strategy())
    for data in (
        None,
        {},
        {"strategies": {}},
        {"strategies": [{"kind": "Strategy"}]},
        {"strategies": [1]},
        {"strategies": [], "workflows": [1]},
    ):
        with pytest.raises(ProblemError) as refused:
            bench.intake.accept([event(SPECS_APPLIED, data, "x")])
        assert refused.value.status == 422
    assert [watched.name for watched in bench.loop.all()] == ["s"]
    assert bench.intake.accept([event(SPECS_APPLIED, {"strategies": []}, "x")]) == 1


def test_a_reading_since_fired_hands_on_what_was_counted(bench: Bench, restart: Callable[[], Bench]) -> None:
    readings = {"picked": {"mlflow": {"metric": "picked", "aggregate": "sum"}, "since": "fired"}}
    bench.apply(strategy(on={"every": "10s"}, readings=readings, when="picked >= 100", guard={"cooldown": "1s"}))
    bench.values.value = 120.0
    bench.run(1)
    assert bench.values.asked[-1].args["after"] == {}
    watched = bench.loop.get("s")
    assert watched is not None
    # whoever acts on the event reads what fired it
    assert watched.asked(again=True)[0].args["after"] == {}
    bench.values.value = 7.0
    after = restart()
    after.run(11)
    assert after.values.asked[-1].args["after"] == {"value": 120.0}
    assert len(after.fired()) == 1


def test_looking_on_request_fires_only_where_the_condition_holds(bench: Bench) -> None:
    bench.apply(strategy(on={"call": True}, readings=LOAD, when="load > 1"))
    watched = bench.loop.get("s")
    assert watched is not None
    assert bench.loop.ask(watched, Work("call")).result() == ()
    bench.values.value = 2.0
    (fired,) = bench.loop.ask(watched, Work("call")).result()
    assert fired.trigger == "call"
    assert [found.id for found in bench.fired()] == [fired.id]


def test_the_last_good_reading_stands_in_after_a_restart(bench: Bench, restart: Callable[[], Bench]) -> None:
    readings = {"load": {"promql": "load", "missing": {"last": "1m"}}}
    bench.apply(strategy(on={"every": "1s"}, readings=readings, when="load > 1", guard={"cooldown": "1h"}))
    bench.run(2)
    bench.values.value = 2.0
    bench.run(15)
    after = restart()
    bench.values.value = None
    after.run(2)
    watched = after.loop.get("s")
    assert watched is not None
    assert watched.memory.state.breaches[""].holds is True
