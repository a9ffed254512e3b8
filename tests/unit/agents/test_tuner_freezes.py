"""A freeze holds searches: none starts, and none begins a further trial."""

from typing import Any

import pytest

from autonomic.agents.journal import SqlJournal
from autonomic.agents.tuner.searches import Searches, SearchRequest
from autonomic.primitives.people import Freeze
from autonomic.seams.clock import VirtualClock
from autonomic.seams.errors import Retryable
from autonomic.seams.ids import RandomIds
from autonomic.workflows.spec.workflow import Workflow

SPEC = {"type": "batch", "parameters": {"x": 1.0}, "steps": [{"name": "s", "command": ["true"]}]}
WORKFLOW = Workflow.model_validate(
    {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "training"}, "spec": SPEC}
)
FREEZE = Freeze(target="training", why="the audit", by="ana", since=0.0, until=86_400.0)


class Host:
    """Searches that were started, and what holds each."""

    def __init__(self) -> None:
        self.searches: dict[str, dict[str, Any]] = {}
        self.held: dict[str, str] = {}

    def capabilities(self) -> frozenset[str]:
        return frozenset()

    def start_search(self, search: dict[str, Any]) -> dict[str, Any]:
        return self.searches.setdefault(search["id"], {"status": "running", "detail": "", "trials": []})

    def search(self, search_id: str) -> dict[str, Any] | None:
        return self.searches.get(search_id)

    def stop_search(self, search_id: str) -> dict[str, Any]:
        raise AssertionError

    def hold_search(self, search_id: str, why: str) -> None:
        self.held[search_id] = why


class World:
    def __init__(self) -> None:
        self.host, self.freezes, self.away = Host(), [FREEZE], ""
        self.journal = SqlJournal("sqlite://")
        self.searches = self.tuner()

    def tuner(self) -> Searches:
        return Searches(self.journal, VirtualClock(), RandomIds(), self.host, lambda _: (WORKFLOW, ""), self.asked)

    def asked(self) -> list[Freeze]:
        if self.away:
            raise Retryable(self.away)
        return self.freezes

    def start(self, name: str = "search-1") -> None:
        asked = {"id": name, "workflow": "training", "metric": "score", "space": {"x": {"uniform": [0, 1]}}}
        self.searches.request(SearchRequest.model_validate(asked))
        self.searches.follow()

    def detail(self, name: str = "search-1") -> str:
        found = self.searches.get(name)
        assert found is not None
        return found.detail


@pytest.fixture
def world() -> World:
    return World()


def test_a_search_waits_while_its_workflow_is_frozen_and_says_by_whom_why_and_until_when(world: World) -> None:
    world.start()
    assert world.host.searches == {}
    assert world.detail() == FREEZE.words()
    assert all(word in world.detail() for word in ("ana", "the audit", "1970-01-02"))
    world.freezes = []
    world.searches.follow()
    assert (list(world.host.searches), world.detail()) == (["search-1"], "")


def test_one_that_runs_begins_no_further_trial_until_the_freeze_is_lifted_also_after_a_restart_of_the_tuner(world: World) -> None:
    world.freezes = [FREEZE.model_copy(update={"target": "another"})]
    world.start()
    assert world.host.held == {}
    world.freezes = [FREEZE.model_copy(update={"target": ""})]
    world.searches.follow()
    assert world.host.held["search-1"] == world.freezes[0].words()
    assert "begins no further trial: ana froze everything" in world.detail()
    world.freezes, world.searches = [], world.tuner()
    world.searches.follow()
    assert (world.host.held["search-1"], world.detail()) == ("", "")


def test_where_the_planner_is_away_what_runs_goes_on_as_it_was_and_nothing_new_starts(world: World) -> None:
    world.freezes = []
    world.start()
    world.freezes = [FREEZE]
    world.searches.follow()
    world.away = "the planner cannot be reached"
    world.host.searches["search-1"]["trials"] = [{"number": 0}]
    world.start("search-2")
    assert list(world.host.searches) == ["search-1"]
    assert world.detail("search-2") == world.away
    found = world.searches.get("search-1")
    assert found is not None
    assert found.trials == [{"number": 0}]
    assert world.host.held["search-1"] == FREEZE.words()
