import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autonomic.seams.errors import Permanent
from autonomic.workflows.registry.client import Mlflow, tags_of

if TYPE_CHECKING:
    from autonomic.workflows.embedded.mlflow_server import MlflowServer

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def search(workflow: Make, package: str) -> Callable[..., dict[str, Any]]:
    def make(identifier: str, *steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
        steps = steps or ({"name": "score", "run": "quadratic", "with": {"x": "${parameters.x}", "shift": "${parameters.shift}"}},)
        return {
            "id": identifier,
            "workflow": "searched",
            "spec": workflow(*steps, name="searched", x=9.0, shift=0.0),
            "package": package,
            "metric": "score",
            "mode": "max",
            "space": {"x": {"uniform": [0, 10]}},
            "trials": 4,
            "parallel": 2,
            "parameters": {"shift": 1.0},
            "seed": 3,
            **fields,
        }

    return make


def wait_for_search(search_id: str, when: Callable[[dict[str, Any]], bool], within_seconds: float = 90) -> dict[str, Any]:
    from autonomic.workflows.batch.ray_searches import get_search

    deadline = time.monotonic() + within_seconds
    while True:
        state = get_search(search_id)
        assert state is not None
        if when(state):
            return state
        assert time.monotonic() < deadline, state
        time.sleep(0.1)


def has_ended(state: dict[str, Any]) -> bool:
    return state["status"] in ("succeeded", "failed", "stopped")


def test_a_search_makes_its_trials_and_knows_the_best(
    search: Callable[..., dict[str, Any]], mlflow_server: "MlflowServer", runs_home: Path
) -> None:
    from autonomic.workflows.batch.ray_runs import get_run
    from autonomic.workflows.batch.ray_searches import start_search

    request = search("search-all")
    for _ in range(2):
        start_search(request, tracking_uri=mlflow_server.url, home=runs_home)
    state = wait_for_search("search-all", has_ended)
    assert state["status"] == "succeeded", state
    trials = state["trials"]
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3]
    assert [trial["parameters"] for trial in trials if trial["default"]] == [{"x": 9.0}]
    for trial in trials:
        assert trial["value"] == pytest.approx(-((trial["parameters"]["x"] - 3) ** 2) + 1)
        run = get_run(trial["run_id"])
        assert run is not None
        assert run.parameters == {"x": trial["parameters"]["x"], "shift": 1.0}
    best = max(trials, key=lambda trial: trial["value"])
    chosen = {name: best[name] for name in ("number", "parameters", "value", "default")}
    assert state["best"] == chosen
    assert not state["best"]["default"]
    assert not (runs_home / "searches" / "search-all").exists()
    server = Mlflow(mlflow_server.url)
    try:
        children = server.search_runs(server.experiment_ids(["searched"]), f"tags.`mlflow.parentRunId` = '{state['tracking_run']}'")
        assert {tags_of(run["data"])["autonomic.run_id"] for run in children} == {trial["run_id"] for trial in trials}
    finally:
        server.close()


def test_a_search_goes_on_after_its_actor_was_killed(search: Callable[..., dict[str, Any]], runs_home: Path, tmp_path: Path) -> None:
    import ray

    from autonomic.workflows.batch.ray_searches import start_search

    step = {"name": "s", "run": "slow_quadratic", "with": {"x": "${parameters.x}", "seconds": 1.0, "marker": str(tmp_path / "marker")}}
    start_search(search("search-killed", step, trials=3, parallel=1), tracking_uri="", home=runs_home)
    wait_for_search("search-killed", lambda state: len(state["trials"]) == 2)
    ray.kill(ray.get_actor("search-killed", "autonomic"), no_restart=False)
    state = wait_for_search("search-killed", has_ended)
    assert state["status"] == "succeeded", state
    assert [trial["status"] for trial in state["trials"]] == ["succeeded"] * 3
    assert len({trial["parameters"]["x"] for trial in state["trials"]}) == 3
    assert (tmp_path / "marker").read_text() == "xxx", "no trial is made twice"


def test_stopping_a_search_stops_its_trials_and_keeps_those_that_ended(search: Callable[..., dict[str, Any]], runs_home: Path) -> None:
    from autonomic.workflows.batch.ray_runs import get_run
    from autonomic.workflows.batch.ray_searches import start_search, stop_search

    assert stop_search("search-unknown") is None
    step = {"name": "s", "command": ["sh", "-c", "sleep 600"], "with": {"x": "${parameters.x}"}}
    start_search(search("search-stopped", step, trials=50, parallel=1), tracking_uri="", home=runs_home)
    wait_for_search("search-stopped", lambda state: len(state["trials"]) == 1)
    stop_search("search-stopped")
    state = wait_for_search("search-stopped", has_ended)
    assert state["status"] == "stopped"
    assert len(state["trials"]) <= 3
    for trial in state["trials"]:
        run = get_run(trial["run_id"])
        assert run is not None
        assert run.status == "stopped"


def test_a_search_whose_trials_give_no_metric_fails_and_says_why(search: Callable[..., dict[str, Any]], runs_home: Path) -> None:
    from autonomic.workflows.batch.ray_searches import start_search

    start_search(search("search-nothing", metric="accuracy", trials=1), tracking_uri="", home=runs_home)
    state = wait_for_search("search-nothing", has_ended)
    assert state["status"] == "failed"
    assert "the last steps gave no number 'accuracy'; they gave score" in state["detail"]
    assert state["best"] is None


def test_what_cannot_be_searched_is_refused(search: Callable[..., dict[str, Any]], runs_home: Path) -> None:
    from autonomic.workflows.batch.ray_searches import get_search, start_search

    with pytest.raises(Permanent, match="normal is not one of choice, uniform, loguniform, integer"):
        start_search(search("search-bad", space={"x": {"normal": [0, 1]}}), tracking_uri="", home=runs_home)
    with pytest.raises(Permanent, match="at least one parameter"):
        start_search(search("search-bad", space={}), tracking_uri="", home=runs_home)
    with pytest.raises(Permanent, match="trials"):
        start_search(search("search-bad", trials=0), tracking_uri="", home=runs_home)
    assert get_search("search-bad") is None
