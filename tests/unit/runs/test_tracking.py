import threading
from pathlib import Path
from typing import Any

from autonomic.seams.clock import SystemClock
from autonomic.workflows.runs.engine import new_run
from autonomic.workflows.runs.tracking import Tracking
from autonomic.workflows.spec.workflow import BatchSpec


class SlowServer:
    """An MLflow that makes runs at once, and takes parameters only when it may."""

    def __init__(self, store: Path) -> None:
        self.goes_on = threading.Event()
        self.asked_to_log = threading.Event()
        self.ended: dict[str, str] = {}
        self.made: list[str] = []
        self._store = store

    def experiment(self, name: str) -> str:
        return "1"

    def create_run(self, experiment: str, name: str, tags: dict[str, str], started_at: float) -> dict[str, Any]:
        self.made.append(name)
        return {"info": {"run_id": f"of-{name}"}}

    def run(self, run_id: str) -> dict[str, Any]:
        return {"info": {"artifact_uri": f"file://{self._store}/{run_id}"}}

    def log(self, run_id: str, **values: Any) -> None:
        self.asked_to_log.set()
        assert self.goes_on.wait(60)

    def end_run(self, run_id: str, status: str, finished_at: float | None) -> None:
        self.ended[run_id] = status


def test_a_step_that_begins_waits_for_its_own_run_of_mlflow_and_for_nothing_else_there(tmp_path: Path) -> None:
    steps = [{"name": "first", "run": "code:first"}, {"name": "second", "run": "code:second", "needs": ["first"]}]
    run = new_run("run-a", "training", BatchSpec.model_validate({"type": "batch", "steps": steps}), {"epochs": 3})
    server: Any = SlowServer(tmp_path)
    tracking = Tracking(server, run, SystemClock(), tags={}, send_artifact=lambda step, path, uri: None)
    assert server.asked_to_log.wait(60), "the parameters are being sent"
    for step in ("first", "second"):
        assert tracking.run_ids(step) == ("of-run-a", f"of-{step}")
    assert tracking.run_ids("first") == ("of-run-a", "of-first")
    assert server.made == ["run-a", "first", "second"]
    ended = {name: state.model_copy(update={"status": "succeeded", "attempt": 1}) for name, state in run.steps.items()}
    tracking.observe(run.model_copy(update={"status": "succeeded", "steps": ended}))
    assert server.ended == {}, "nothing ends in MLflow before it is described there"
    server.goes_on.set()
    assert tracking.close(60) == ""
    assert server.ended == dict.fromkeys(("of-run-a", "of-first", "of-second"), "FINISHED")
    assert (tmp_path / "of-run-a" / "environment.json").exists()
