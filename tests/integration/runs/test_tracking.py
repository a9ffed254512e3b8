import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autonomic.seams.state import RunState
from autonomic.workflows.registry.artifacts import download
from autonomic.workflows.registry.client import Mlflow, metrics_of, params_of, tags_of
from autonomic.workflows.runs.packages import git_state

if TYPE_CHECKING:
    from autonomic.cli.embedded.mlflow_server import MlflowServer

Make = Callable[..., dict[str, Any]]
Start = Callable[..., str]
Wait = Callable[..., RunState]
PATIENCE_SECONDS = 120


class Road:
    """The way to a server, which can be cut and mended: a relay on a port of its own."""

    def __init__(self, port: int, to_port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._to = ("127.0.0.1", to_port)
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self.url = f"http://127.0.0.1:{port}"
        self.mend()

    def mend(self) -> None:
        self._listener = socket.create_server(self._address)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._to)
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        self._open.add(source)
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
        self._open.discard(source)
        source.close()


@pytest.fixture
def road(mlflow_server: "MlflowServer", free_port: int) -> Iterator[Road]:
    made = Road(free_port, int(mlflow_server.url.rsplit(":", 1)[1]))
    yield made
    made.cut()


@pytest.fixture
def mlflow(mlflow_server: "MlflowServer") -> Iterator[Mlflow]:
    server = Mlflow(mlflow_server.url)
    yield server
    server.close()


def tracked(server: Mlflow, run_id: str, workflow: str, ended: bool = True) -> dict[str, dict[str, Any]]:
    """MLflow's runs of a run by step, the parent under ""; waits until the parent has ended there."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        experiment = server.experiment_ids([workflow])
        found = list(server.search_runs(experiment, f"tags.`autonomic.run_id` = '{run_id}'")) if experiment else []
        runs = {tags_of(run["data"]).get("autonomic.step", ""): run for run in found}
        assert len(runs) == len(found), "no run stands twice in MLflow"
        if runs.get("", {}).get("info", {}).get("status", "RUNNING") != "RUNNING" or (runs and not ended):
            return runs
        assert time.monotonic() < deadline, f"{run_id} did not end in MLflow: {list(runs)}"
        time.sleep(0.1)


def artifacts(server: Mlflow, run: dict[str, Any], into: Path, name: str) -> Path:
    """The artifact of a run, carried over after the run has ended there."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        listed = server.request("GET", "/api/2.0/mlflow/artifacts/list", params={"run_id": run["info"]["run_id"]}).json()
        if name in [file["path"] for file in listed.get("files", [])]:
            download(server, run["info"]["artifact_uri"], into)
            return into / name
        assert time.monotonic() < deadline, listed
        time.sleep(0.1)


def test_a_run_stands_in_mlflow_with_all_that_it_was_made_of(
    workflow: Make, start: Start, wait_for: Wait, mlflow: Mlflow, tmp_path: Path, package: str
) -> None:
    document = workflow(
        {"name": "double", "run": "double", "with": {"x": "${parameters.x}"}},
        {"name": "sum", "needs": ["double"], "run": "add", "with": {"a": "${steps.double.outputs.y}", "b": 1}},
        name="tracked",
        x=4,
    )
    run = wait_for(start(document, tracking_uri=mlflow.url))
    assert run.status == "succeeded", run.detail
    runs = tracked(mlflow, run.id, "tracked")
    assert set(runs) == {"", "double", "sum"}
    parent = runs[""]
    assert run.tracking_run == parent["info"]["run_id"]
    assert {found["info"]["status"] for found in runs.values()} == {"FINISHED"}
    assert {tags_of(runs[step]["data"])["mlflow.parentRunId"] for step in ("double", "sum")} == {run.tracking_run}
    assert params_of(parent) == {"x": "4"}
    assert params_of(runs["sum"]) == {"a": "8", "b": "1"}
    tags = tags_of(parent["data"])
    assert tags["autonomic.package"] == package
    assert tags["autonomic.cause"] == "a test"
    # the commit of the code that was packed, where it is kept in git
    commit = tags.get("mlflow.source.git.commit", "")
    assert len(commit) == (40 if git_state(Path(__file__).parent) else 0)
    assert metrics_of(runs["sum"])["partial"] == 9
    assert metrics_of(parent)["outputs.sum"] == 9
    (dataset,) = runs["sum"]["inputs"]["dataset_inputs"]
    assert (dataset["dataset"]["name"], dataset["dataset"]["digest"]) == ("numbers", ("0123456789abcdef" * 4)[:36])
    assert artifacts(mlflow, runs["sum"], tmp_path / "artifacts", "sum.txt").read_text() == "9"
    assert '"ray"' in artifacts(mlflow, parent, tmp_path / "parent", "environment.json").read_text()


def test_a_step_registers_a_model_and_finds_it_again(workflow: Make, start: Start, wait_for: Wait, mlflow: Mlflow) -> None:
    run = wait_for(start(workflow({"name": "register", "run": "register", "with": {"name": "small"}}, name="tracked"), mlflow.url))
    assert run.status == "succeeded", run.detail
    version = run.outputs["version"]
    assert run.outputs["files"] == ["MLmodel", "model.json", "weights.safetensors"]
    assert mlflow.aliases("small") == {"champion": version, "backup": version}
    made = mlflow.version("small", version)
    assert tags_of(made)["accuracy"] == "0.5"
    assert made["run_id"] == tracked(mlflow, run.id, "tracked")["register"]["info"]["run_id"]


def test_a_failed_run_is_a_failed_run_in_mlflow_with_its_reason(workflow: Make, start: Start, wait_for: Wait, mlflow: Mlflow) -> None:
    run = wait_for(start(workflow({"name": "bad", "run": "raises"}, name="tracked"), tracking_uri=mlflow.url))
    runs = tracked(mlflow, run.id, "tracked")
    assert {found["info"]["status"] for found in runs.values()} == {"FAILED"}
    assert "KeyError" in tags_of(runs["bad"]["data"])["autonomic.detail"]


def test_a_run_goes_on_while_mlflow_is_away_and_mlflow_has_all_when_it_is_back(
    workflow: Make, start: Start, wait_for: Wait, mlflow: Mlflow, road: Road, tmp_path: Path
) -> None:
    marker, go = tmp_path / "marker", tmp_path / "go"
    document = workflow(
        {"name": "first", "run": "held", "with": {"marker": str(marker), "until": str(go)}},
        {"name": "sum", "needs": ["first"], "run": "add", "with": {"a": 1, "b": 2}},
        name="cut-off",
    )
    run_id = start(document, tracking_uri=road.url)
    wait_for(run_id, lambda run: run.steps["first"].status == "running" and marker.exists())
    road.cut()
    go.touch()
    run = wait_for(run_id)
    assert run.status == "succeeded", run.detail
    assert tracked(mlflow, run_id, "cut-off", ended=False)[""]["info"]["status"] == "RUNNING"
    road.mend()
    runs = tracked(mlflow, run_id, "cut-off")
    assert {name: found["info"]["status"] for name, found in runs.items()} == {"": "FINISHED", "first": "FINISHED", "sum": "FINISHED"}
    assert metrics_of(runs["sum"])["partial"] == 3
    assert artifacts(mlflow, runs["sum"], tmp_path / "artifacts", "sum.txt").read_text() == "3"


def test_a_run_that_starts_while_mlflow_is_away_is_tracked_when_it_is_back(
    workflow: Make, start: Start, wait_for: Wait, mlflow: Mlflow, road: Road
) -> None:
    road.cut()
    run = wait_for(start(workflow({"name": "double", "run": "double", "with": {"x": 1}}, name="cut-off"), tracking_uri=road.url))
    assert run.status == "succeeded"
    road.mend()
    assert set(tracked(mlflow, run.id, "cut-off")) == {"", "double"}


def test_an_actor_that_was_killed_goes_on_in_the_same_mlflow_run(
    workflow: Make, start: Start, wait_for: Wait, mlflow: Mlflow, tmp_path: Path
) -> None:
    import ray

    marker = tmp_path / "marker"
    document = workflow({"name": "slow", "run": "slow", "with": {"marker": str(marker), "seconds": 1.5}}, name="killed")
    run_id = start(document, tracking_uri=mlflow.url)
    wait_for(run_id, lambda run: run.steps["slow"].status == "running" and marker.exists())
    ray.kill(ray.get_actor("autonomic-runs", "autonomic"), no_restart=False)
    assert wait_for(run_id).status == "succeeded"
    runs = tracked(mlflow, run_id, "killed")
    assert {name: found["info"]["status"] for name, found in runs.items()} == {"": "FINISHED", "slow": "FINISHED"}
