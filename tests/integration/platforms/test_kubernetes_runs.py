"""Batch workflows on a real cluster: steps are Jobs, and what becomes of them is told in words."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autonomic.seams.plan import Change
from autonomic.seams.state import FINISHED, RunState
from autonomic.workflows.runs.packages import pack


class Runs:
    """Shorter words for runs of workflows whose functions stand beside this file."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.package = cluster.platform.add_package(pack(Path(__file__).parents[1] / "runs"))
        self._count = 0

    def start(self, *steps: dict[str, Any], package: bool = True, **parameters: Any) -> str:
        self._count += 1
        run_id = f"run-here-{self._count}"
        full = [step if "command" in step else {**step, "run": f"small_steps:{step['run']}"} for step in steps]
        full = [{"resources": {"cpu": 0.1}, **step} for step in full]
        spec = {"type": "batch", "parameters": parameters, "steps": full}
        document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "small"}, "spec": spec}
        to = {"run_id": run_id, "workflow": "small", "spec": document, "parameters": {}, "cause": "a test"}
        change = Change(key=f"start.{run_id}", primitive="run", target="small", to={**to, "package": self.package if package else ""})
        outcome = self.cluster.platform.apply(change, 1)
        assert outcome.status == "done", outcome.detail
        return run_id

    def wait(
        self, run_id: str, when: Callable[[RunState], bool] = lambda run: run.status in FINISHED, within_seconds: float = 120
    ) -> RunState:
        deadline = time.monotonic() + within_seconds
        while True:
            run = self.cluster.platform.run(run_id)
            assert run is not None
            if when(run):
                return run
            assert time.monotonic() < deadline, run.model_dump_json(indent=1)
            time.sleep(0.05)

    def jobs(self, run_id: str) -> list[str]:
        found = self.cluster.kubectl("get", "jobs", "-l", f"autonomic.dev/run={run_id}", "-o", "jsonpath={.items[*].metadata.name}")
        return sorted(found.split())


def wait_until(condition: Callable[[], Any], within_seconds: float = 120) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_seconds:g} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def runs(light_cluster: Any) -> Runs:
    return Runs(light_cluster)


def test_steps_pass_outputs_on_and_logs_are_kept(runs: Runs) -> None:
    both = {"a": "${steps.left.outputs.y}", "b": "${steps.right.outputs.y}"}
    run_id = runs.start(
        {"name": "left", "run": "double", "with": {"x": "${parameters.x}"}},
        {"name": "right", "run": "double", "with": {"x": 10}},
        {"name": "sum", "run": "add", "needs": ["left", "right"], "with": both},
        x=1,
    )
    run = runs.wait(run_id)
    assert run.status == "succeeded", run.model_dump_json(indent=1)
    assert run.outputs == {"sum": 22, "attempt": 1}
    assert runs.cluster.platform.log(run_id, "left") == "doubling 1\n"
    assert runs.cluster.platform.log(run_id, "nothing") is None
    assert runs.jobs(run_id) == [f"{run_id}-{step}-1" for step in ("left", "right", "sum")]
    state = run.steps["sum"]
    assert state.started_at is not None
    assert state.finished_at is not None
    assert run.steps["left"].finished_at <= state.started_at  # type: ignore[operator]

    def kinds() -> list[str]:
        return [notice.kind for notice in runs.cluster.platform.watch(0) if notice.data.get("run_id") == run_id]

    wait_until(lambda: "run_succeeded" in kinds())
    assert kinds() == ["run_running", "run_succeeded"]


def test_a_failed_attempt_is_made_again_and_finds_its_folder(runs: Runs) -> None:
    marker = runs.cluster.home / "data" / "marker"
    step = {"name": "work", "run": "fail_until", "with": {"marker": str(marker), "times": 1}, "retries": {"limit": 1, "backoff": "100ms"}}
    run_id = runs.start(step)
    run = runs.wait(run_id)
    assert run.status == "succeeded", run.model_dump_json(indent=1)
    assert run.outputs == {"tries": 2}
    assert run.steps["work"].attempt == 2
    assert len(runs.jobs(run_id)) == 2


def test_outputs_too_long_for_a_message_come_through_the_log(runs: Runs) -> None:
    command = ["sh", "-c", 'echo before; head -c 20000 /dev/zero | tr "\\0" x | sed "s/.*/{\\"long\\": \\"&\\"}/" > $AUTONOMIC_OUTPUTS']
    run_id = runs.start({"name": "work", "command": command}, package=False)
    run = runs.wait(run_id)
    assert run.status == "succeeded", run.model_dump_json(indent=1)
    assert run.outputs == {"long": "x" * 20000}
    assert (runs.cluster.platform.log(run_id, "work") or "").strip() == "before"


FAILURES = [
    ("exit", {"command": ["sh", "-c", "echo told; exit 3"]}, "exit code 3"),
    ("memory", {"command": [sys.executable, "-c", "x = bytearray(2**29)"], "resources": {"cpu": 0.1, "memory": "64Mi"}}, "OOMKilled"),
    ("timeout", {"command": ["sleep", "100"], "timeout": "1s"}, "timed out after 1 s"),
]


@pytest.mark.parametrize(("name", "step", "why"), FAILURES, ids=[name for name, *_ in FAILURES])
def test_why_a_step_failed_is_in_its_detail(runs: Runs, name: str, step: dict[str, Any], why: str) -> None:
    run = runs.wait(runs.start({"name": "work", **step}, package=False))
    assert run.status == "failed"
    assert why in run.steps["work"].detail


def test_a_step_that_no_node_can_take_says_so_and_can_be_stopped(runs: Runs) -> None:
    run_id = runs.start({"name": "work", "command": ["true"], "resources": {"cpu": 900}}, package=False)
    run = runs.wait(run_id, lambda run: "waits for a node" in run.steps["work"].detail)
    assert run.steps["work"].status == "pending"
    stop = Change(key=f"stop.{run_id}", primitive="stop", target="small", to={"run_ids": [run_id]})
    assert runs.cluster.platform.apply(stop, 1).status == "done"
    assert runs.wait(run_id).status == "stopped"
    wait_until(lambda: not runs.jobs(run_id))


def test_a_missing_image_says_so(runs: Runs, light_cluster: Any) -> None:
    settings = light_cluster.platform.host.runs.settings
    light_cluster.platform.host.runs.settings = settings.model_copy(update={"image": "autonomic.local/nothing:1"})
    try:
        run = runs.wait(runs.start({"name": "work", "command": ["true"]}, package=False))
    finally:
        light_cluster.platform.host.runs.settings = settings
    assert run.status == "failed"
    assert "ErrImageNeverPull" in run.steps["work"].detail
    assert "autonomic.local/nothing:1" in run.steps["work"].detail


def test_a_pod_that_is_taken_away_is_a_failed_attempt(runs: Runs) -> None:
    step = {"name": "work", "command": ["sh", "-c", "sleep 20"], "retries": {"limit": 1, "backoff": "100ms"}, "timeout": "60s"}
    run_id = runs.start(step, package=False)
    runs.wait(run_id, lambda run: run.steps["work"].status == "running")
    runs.cluster.kubectl("delete", "pods", "-l", f"autonomic.dev/run={run_id}", "--wait=false")
    run = runs.wait(run_id, lambda run: run.steps["work"].attempt == 2 and run.steps["work"].status == "running")
    assert len(runs.jobs(run_id)) == 2
    stop = Change(key=f"stop.{run_id}", primitive="stop", target="small", to={"run_ids": [run_id]})
    assert runs.cluster.platform.apply(stop, 1).status == "done"
    assert run.steps["work"].attempt == 2


def test_a_run_goes_on_while_and_after_the_writer_is_away(runs: Runs, light_cluster: Any) -> None:
    started = light_cluster.home / "data" / "started"
    first = {"name": "first", "command": ["sh", "-c", f"echo x >> {started}; sleep 3; echo '{{\"a\": 1}}' > $AUTONOMIC_OUTPUTS"]}
    second = {"name": "second", "run": "double", "needs": ["first"], "with": {"x": "${steps.first.outputs.a}"}}
    run_id = runs.start(first, second)
    runs.wait(run_id, lambda run: run.steps["first"].status == "running")
    light_cluster.platform.close()
    # the step ends while nobody looks
    time.sleep(4)
    light_cluster.restart()
    run = runs.wait(run_id)
    assert run.status == "succeeded", run.model_dump_json(indent=1)
    assert run.outputs == {"y": 2}
    assert started.read_text() == "x\n"
    assert run.steps["first"].attempt == 1
    # and once more while it runs
    run_id = runs.start({**first, "command": ["sh", "-c", f"echo x >> {started}; sleep 4"]})
    runs.wait(run_id, lambda run: run.steps["first"].status == "running")
    light_cluster.restart()
    assert runs.wait(run_id).status == "succeeded"
    assert started.read_text() == "x\nx\n"


def test_metrics_and_artifacts_of_a_step_come_to_mlflow(
    kubernetes: Any, runs: Runs, light_cluster: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from autonomic.cli.embedded.mlflow_server import MlflowServer
    from autonomic.workflows.registry.client import Mlflow

    server = MlflowServer.start(tmp_path_factory.mktemp("tracked") / "mlflow", address=kubernetes.host_address)
    settings = light_cluster.settings
    client = Mlflow(server.url)
    try:
        light_cluster.settings = settings.model_copy(update={"mlflow_url": server.url})
        light_cluster.restart()
        run_id = runs.start({"name": "sum", "run": "add", "with": {"a": 1, "b": 2}})
        run = runs.wait(run_id)
        assert run.status == "succeeded", run.model_dump_json(indent=1)
        assert run.tracking_run
        experiment = client.experiment("small")

        def ended() -> bool:
            found = list(client.search_runs([experiment], "tags.`autonomic.step` = 'sum' and attributes.status = 'FINISHED'"))
            listed = [
                client.request("GET", "/api/2.0/mlflow/artifacts/list", params={"run_id": each["info"]["run_id"]}).json() for each in found
            ]
            return any(file["path"] == "sum.txt" for page in listed for file in page.get("files", []))

        # MLflow hears of it after the run has ended
        wait_until(ended)
        (child,) = client.search_runs([experiment], "tags.`autonomic.step` = 'sum'")
        metrics = {each["key"]: each["value"] for each in child["data"]["metrics"]}
        assert metrics["partial"] == 3
        place = client.run(child["info"]["run_id"])["info"]["artifact_uri"]
        from autonomic.workflows.registry.artifacts import download

        download(client, place, light_cluster.home / "artifacts")
        assert (light_cluster.home / "artifacts" / "sum.txt").read_text() == "3"
    finally:
        light_cluster.settings = settings
        light_cluster.restart()
        client.close()
        server.stop()
