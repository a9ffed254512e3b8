"""Searches on Ray: what is its own. What every platform does is in tests/contract/test_search_contract.py."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autonomic.workflows.registry.client import Mlflow, tags_of

if TYPE_CHECKING:
    from autonomic.cli.embedded.mlflow_server import MlflowServer

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


def wait_for_search(search_id: str, when: Callable[[dict[str, Any]], bool], within_seconds: float = 120) -> dict[str, Any]:
    from autonomic.platforms.ray.cluster_searches import get_search

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


def test_the_trials_of_a_search_stand_below_it_in_mlflow(
    search: Callable[..., dict[str, Any]], mlflow_server: "MlflowServer", runs_home: Path
) -> None:
    from autonomic.platforms.ray.cluster_searches import start_search

    start_search(search("search-all", trials=2), tracking_uri=mlflow_server.url, home=runs_home)
    state = wait_for_search("search-all", has_ended)
    assert state["status"] == "succeeded", state
    assert not (runs_home / "searches" / "search-all").exists()
    server = Mlflow(mlflow_server.url)
    try:
        children = server.search_runs(server.experiment_ids(["searched"]), f"tags.`mlflow.parentRunId` = '{state['tracking_run']}'")
        assert {tags_of(run["data"])["autonomic.run_id"] for run in children} == {trial["run_id"] for trial in state["trials"]}
    finally:
        server.close()


def test_a_search_goes_on_after_its_actor_was_killed(search: Callable[..., dict[str, Any]], runs_home: Path, tmp_path: Path) -> None:
    import ray

    from autonomic.platforms.ray.cluster_searches import start_search

    step = {"name": "s", "run": "slow_quadratic", "with": {"x": "${parameters.x}", "seconds": 1.0, "marker": str(tmp_path / "marker")}}
    start_search(search("search-killed", step, trials=3, parallel=1), tracking_uri="", home=runs_home)
    wait_for_search("search-killed", lambda state: len(state["trials"]) == 2)
    ray.kill(ray.get_actor("search-killed", "autonomic"), no_restart=False)
    state = wait_for_search("search-killed", has_ended)
    assert state["status"] == "succeeded", state
    assert [trial["status"] for trial in state["trials"]] == ["succeeded"] * 3
    assert len({trial["parameters"]["x"] for trial in state["trials"]}) == 3
    assert (tmp_path / "marker").read_text() == "xxx", "no trial is made twice"
