"""Since when strategies have waited for a type of event."""

from typing import Any

from autonomic.agents.journal import SqlJournal
from autonomic.agents.monitor.waits import Waits
from autonomic.seams.clock import VirtualClock
from autonomic.strategies.advice import events_from_outside
from autonomic.strategies.spec.strategy import Strategy


def strategy(name: str, *events: str, calls: str = "") -> Strategy:
    do: list[dict[str, Any]] = [{"notify": {"message": "x"}}]
    if calls:
        do.append({"call": {"to": "monitor", "type": calls}})
    spec = {"target": "shop/api", "on": {"any": [{"event": event} for event in events] or [{"every": "1m"}]}, "do": do}
    return Strategy.model_validate({"apiVersion": "autonomic.dev/v1alpha1", "kind": "Strategy", "metadata": {"name": name}, "spec": spec})


def test_the_waiting_begins_with_the_first_strategy_lasts_over_restarts_and_ends_with_the_last() -> None:
    journal, clock = SqlJournal("sqlite://"), VirtualClock()
    waits = Waits(journal, clock)
    begin = clock.now()
    waits.keep([strategy("one", "my.type")])
    clock.sleep(100)
    waits.keep([strategy("two", "my.type", "other.type")])
    again = Waits(journal, clock)
    assert (again.since("my.type"), again.since("other.type")) == (begin, begin + 100)
    again.keep([strategy("two", "other.type")])
    assert (again.since("my.type"), Waits(journal, clock).since("my.type")) == (None, None)
    clock.sleep(5)
    again.keep([strategy("one", "my.type")])
    assert (again.since("my.type"), again.since("other.type")) == (begin + 105, None)


def test_a_custom_event_that_nothing_here_sends_is_warned_of_with_the_types_that_are_known() -> None:
    (warning,) = events_from_outside([strategy("late", "my.data.arrived"), strategy("also", "my.data.arrived")])
    assert warning.startswith("late, also: waits for events of the custom type 'my.data.arrived', which nothing here sends")
    assert "alert.firing" in warning


def test_what_we_send_and_what_a_strategy_here_sends_is_not_warned_of() -> None:
    assert events_from_outside([strategy("fails", "dev.autonomic.run.failed"), strategy("timed")]) == []
    assert events_from_outside([strategy("late", "my.data.arrived"), strategy("sends", calls="my.data.arrived")]) == []
