"""Searches over a workflow's parameters, on every real platform: trials are runs, nothing is made twice, and they can be ended."""

from collections.abc import Callable
from typing import Any

import pytest

from autonomic.seams.errors import Permanent
from autonomic.seams.state import FINISHED

QUADRATIC = {"name": "score", "run": "quadratic", "with": {"x": "${parameters.x}", "shift": "${parameters.shift}"}}
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(real: Any) -> Ask:
    """What the tuner asks a host for."""

    def make(search_id: str, *steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return {
            "id": search_id,
            "workflow": "searched",
            "spec": real.batch("searched", *(steps or (QUADRATIC,)), x=9.0, shift=0.0),
            "package": real.package,
            "metric": "score",
            "mode": "max",
            "space": {"x": {"uniform": [0, 10]}},
            "trials": 3,
            "parallel": 2,
            "parameters": {"shift": 1.0},
            "seed": 3,
            **fields,
        }

    return make


def ended(real: Any, search_id: str) -> dict[str, Any]:
    return real.wait(lambda: real.platform.search(search_id), lambda state: state["status"] in FINISHED)


def test_a_search_makes_its_trials_and_knows_the_best(real: Any, ask: Ask) -> None:
    for _ in range(2):
        real.platform.start_search(ask("search-all"))
    state = ended(real, "search-all")
    assert state["status"] == "succeeded", state
    trials = state["trials"]
    assert [trial["number"] for trial in trials] == [0, 1, 2]
    assert [trial["parameters"] for trial in trials if trial["default"]] == [{"x": 9.0}]
    for trial in trials:
        assert trial["value"] == pytest.approx(-((trial["parameters"]["x"] - 3) ** 2) + 1)
        run = real.platform.run(trial["run_id"])
        assert run.parameters == {"x": trial["parameters"]["x"], "shift": 1.0}
        assert run.cause == "search-all"
    best = max(trials, key=lambda trial: trial["value"])
    assert state["best"] == {name: best[name] for name in ("number", "parameters", "value", "default")}
    # asking for it again gives the one that has ended, and no run more
    assert real.platform.start_search(ask("search-all")) == state
    assert len([run for run in real.platform.runs("searched") if run.cause == "search-all"]) == 3


def test_a_search_goes_on_after_the_writer_died_and_makes_no_trial_twice(real: Any, ask: Ask) -> None:
    marker = real.shared / "marker"
    step = {"name": "s", "run": "slow_quadratic", "with": {"x": "${parameters.x}", "seconds": 1.0, "marker": str(marker)}}
    real.platform.start_search(ask("search-restarted", step, trials=3, parallel=1))
    real.wait(lambda: real.platform.search("search-restarted"), lambda state: len(state["trials"]) == 2)
    real.case.restart()
    state = ended(real, "search-restarted")
    assert state["status"] == "succeeded", state
    assert [trial["status"] for trial in state["trials"]] == ["succeeded"] * 3
    assert len({trial["parameters"]["x"] for trial in state["trials"]}) == 3
    assert marker.read_text() == "xxx"
    marker.unlink()


def test_stopping_a_search_stops_its_trials(real: Any, ask: Ask) -> None:
    step = {"name": "s", "command": ["sh", "-c", "sleep 600"], "with": {"x": "${parameters.x}"}}
    real.platform.start_search(ask("search-stopped", step, trials=50, parallel=1))
    real.wait(lambda: real.platform.search("search-stopped"), lambda state: len(state["trials"]) == 1)
    for _ in range(2):
        real.platform.stop_search("search-stopped")
    state = ended(real, "search-stopped")
    assert state["status"] == "stopped"
    assert state["best"] is None
    assert len(state["trials"]) <= 3
    assert {trial["status"] for trial in state["trials"]} == {"stopped"}
    real.wait(
        lambda: [run.status for run in real.platform.runs("searched") if run.cause == "search-stopped"],
        lambda statuses: set(statuses) == {"stopped"},
    )


BAD = [
    ({"space": {"x": {"normal": [0, 1]}}}, "normal is not one of choice, uniform, loguniform, integer"),
    ({"space": {}}, "at least one parameter"),
    ({"trials": 0}, "trials"),
    ({"id": "Search/Bad"}, "Search/Bad"),
]


@pytest.mark.parametrize(("fields", "why"), BAD)
def test_what_cannot_be_searched_is_refused_and_leaves_no_trace(real: Any, ask: Ask, fields: dict[str, Any], why: str) -> None:
    before = {run.id for run in real.platform.runs()}
    with pytest.raises(Permanent, match=why):
        real.platform.start_search({**ask("search-bad"), **fields})
    assert real.platform.search("search-bad") is None
    assert real.platform.search("search-unknown") is None
    with pytest.raises(Permanent, match="no search search-unknown"):
        real.platform.stop_search("search-unknown")
    assert {run.id for run in real.platform.runs()} == before
