"""What is kept of searches, and how one goes on after whoever drove it died."""

from pathlib import Path
from typing import Any

import pytest

from autonomic.platforms.host.store import MemoryStore
from autonomic.seams.clock import VirtualClock
from autonomic.seams.errors import Permanent
from autonomic.seams.state import RunState
from autonomic.workflows.runs import search_records
from autonomic.workflows.runs.search_book import SearchBook
from autonomic.workflows.runs.search_records import SearchRecords, SearchRequest, best_of
from autonomic.workflows.runs.search_space import known_points


def asked(search_id: str = "search-1", **fields: Any) -> dict[str, Any]:
    spec = {"type": "batch", "parameters": {"x": 9.0}, "steps": [{"name": "s", "command": ["true"]}]}
    document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "w"}, "spec": spec}
    given = {"id": search_id, "workflow": "w", "spec": document, "metric": "score", "mode": "max"}
    return {**given, "space": {"x": {"uniform": [0, 10]}}, "trials": 3, **fields}


class Runs:
    """The runs that were started, which end as they are told to."""

    def __init__(self) -> None:
        self.started: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, RunState] = {}

    def start(self, to: dict[str, Any]) -> None:
        self.started[to["run_id"]] = to

    def get(self, run_id: str) -> RunState | None:
        return self.ended.get(run_id)

    def end(self, run_id: str, status: Any = "succeeded", **outputs: Any) -> RunState:
        self.ended[run_id] = RunState(id=run_id, workflow="w", status=status, parameters={}, steps={}, outputs=outputs)
        return self.ended[run_id]


class Kept:
    def __init__(self, **fields: Any) -> None:
        self.store = MemoryStore()
        self.records = SearchRecords(self.store)
        self.runs = Runs()
        self.request = SearchRequest.read(asked(**fields), "", Path("/home"))
        self.records.add(self.request, 1.0)

    def book(self) -> SearchBook:
        state = self.records.state("search-1")
        assert state is not None
        return SearchBook(self.records, self.request, state, VirtualClock(), self.runs.start, self.runs.get)


def test_a_trial_is_a_run_with_its_parameters_and_its_value_is_an_output() -> None:
    kept = Kept(parameters={"epochs": 2})
    book = kept.book()
    book.open()
    trial = book.begin({"x": 9.0})
    assert trial.default
    assert kept.runs.started["search-1-0"]["parameters"] == {"epochs": 2, "x": 9.0}
    assert book.end(0, kept.runs.end("search-1-0", score=0.5)) == 0.5
    assert not book.begin({"x": 1.0}).default
    with pytest.raises(Permanent, match="gave no number 'score'; they gave other"):
        book.end(1, kept.runs.end("search-1-1", other=1))
    book.close("")
    state = kept.records.state("search-1")
    assert state is not None
    assert (state.status, state.best) == ("succeeded", {"number": 0, "parameters": {"x": 9.0}, "value": 0.5, "default": True})


def test_whoever_comes_next_takes_unfinished_trials_up_and_repeats_none() -> None:
    kept = Kept()
    first = kept.book()
    first.open()
    first.begin({"x": 9.0})
    first.end(0, kept.runs.end("search-1-0", score=0.5))
    first.begin({"x": 4.0})
    second = kept.book()
    points, valued = known_points(kept.request, second.state.trials)
    assert points == [{"x": 4.0}]
    assert valued == [({"x": 9.0}, 0.5)]
    assert second.left == 2
    assert second.begin({"x": 4.0}).number == 1
    assert second.begin({"x": 4.0}).number == 2
    assert list(kept.runs.started) == ["search-1-0", "search-1-1", "search-1-2"]


def test_one_that_was_asked_to_stop_is_stopped_with_what_ended() -> None:
    kept = Kept()
    book = kept.book()
    book.open()
    book.begin({"x": 9.0})
    book.begin({"x": 2.0})
    kept.runs.end("search-1-0", "stopped")
    kept.records.ask_to_stop("search-1")
    assert book.asked_to_stop
    book.close("")
    assert book.state.status == "stopped"
    assert [(trial.status, trial.detail) for trial in book.state.trials] == [("stopped", ""), ("stopped", "its run did not begin")]


def test_the_best_of_equals_is_the_first() -> None:
    kept = Kept()
    book = kept.book()
    for number, value in enumerate((1.0, 3.0, 3.0, 2.0)):
        book.begin({"x": float(number)})
        book.end(number, kept.runs.end(f"search-1-{number}", score=value))
    assert (best_of(book.state.trials, "max") or {})["number"] == 1
    assert (best_of(book.state.trials, "min") or {})["number"] == 0
    assert best_of((), "max") is None


def test_of_searches_that_ended_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_records, "KEPT_SEARCHES", 2)
    records = SearchRecords(MemoryStore())
    for number in range(4):
        state = records.add(SearchRequest.read(asked(f"search-{number}"), "", Path("/home")), float(number))
        if number != 1:
            records.put_state(state.model_copy(update={"status": "succeeded"}))
    # the one that has not ended stays, whatever its age
    assert records.ids() == ["search-1", "search-3"]
    # one that is added again is the one that is there
    again = records.add(SearchRequest.read(asked("search-3"), "", Path("/home")), 9.0)
    assert (again.created_at, again.status) == (3.0, "succeeded")


def test_one_whose_writer_died_before_its_state_was_kept_is_not_lost() -> None:
    kept = Kept()
    kept.store.delete("search/search-1/state")
    assert kept.records.add(kept.request, 5.0).status == "pending"


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"trials": 0}, "trials"), ({"space": {}}, "at least one parameter"), ({"space": {"x": {"normal": [0, 1]}}}, "normal is not one of")],
)
def test_what_cannot_be_searched_says_why(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(Permanent, match=why):
        SearchRequest.read(asked(**fields), "", Path("/home"))


def test_a_search_that_is_held_may_not_begin_another_trial_but_may_end() -> None:
    records, clock = SearchRecords(MemoryStore()), VirtualClock()
    request = SearchRequest.read(asked(), "", Path("/home"))
    state = records.add(request, 0.0)
    runs = Runs()
    book = SearchBook(records, request, state, clock, runs.start, runs.get)
    assert not book.held
    records.hold("search-1", "ana froze everything")
    assert book.held
    records.ask_to_stop("search-1")
    assert not book.held
    records.hold("search-1", "")
    assert records.held("search-1") == ""
