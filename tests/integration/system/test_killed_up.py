"""`autonomic up` and all that it started are killed with SIGKILL, as by a reboot: the next one in the home goes on where they were."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from autonomic.agents.settings import Settings
from autonomic.cli.addresses import PARTS
from autonomic.cli.embedded.leftovers import find_leftovers
from autonomic.workflows.serving.model import save_model
from autonomic.workflows.serving.predictions import PredictionLog

Done = subprocess.CompletedProcess[str]
REQUESTS = 20
WEIGHTS = {"champion": 70, "canary": 30}
WORK = """
import os, time

def work() -> dict[str, int]:
    print('this was printed')
    return {'answer': 42}

def wait(path: str) -> dict[str, bool]:
    while not os.path.exists(path):
        time.sleep(0.1)
    return {'waited': True}
"""


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A folder with a service of two roles, a workflow of one step, and one whose step waits for the file `go on` beside the folder."""
    import torch

    module = torch.nn.Linear(4, 3)
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    outputs = [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
    kwargs = {"in_features": 4, "out_features": 3}
    model = tmp_path / "a model"
    save_model(module, model, architecture="torch.nn:Linear", kwargs=kwargs, inputs=inputs, outputs=outputs, postprocess="classifier")
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "work.py").write_text(WORK)
    service = {
        "name": "api",
        "model": model.as_uri(),
        "canary": model.as_uri(),
        "replicas": {"min": 1, "max": 3},
        "resources": {"cpu": 0.1},
    }
    steps = [{"name": "work", "run": "work:work"}]
    waiting = [{"name": "wait", "run": "work:wait", "with": {"path": str(tmp_path / "go on")}}]
    specs: dict[str, dict[str, Any]] = {
        "shop": {"type": "online", "services": [service]},
        "job": {"type": "batch", "steps": steps},
        "long": {"type": "batch", "steps": waiting},
    }
    for name, spec in specs.items():
        document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}
        (folder / f"{name}.yaml").write_text(json.dumps(document))
    return folder


@pytest.fixture
def home(tmp_path: Path, run_in: Callable[..., Done]) -> Iterator[Path]:
    """A home whose name gives tools something to stumble over; afterwards nothing of it runs."""
    folder = tmp_path / "my höme [red]"
    yield folder
    run_in(folder, "down")
    assert not find_leftovers(folder)
    dirs = folder / "ray" / "temp-dirs"
    assert not dirs.exists()


def start(home: Path, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        command = [sys.executable, "-m", "autonomic.cli.main", "up", "--home", str(home), "--cpus", "8"]
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    while not (home / "up.json").exists():
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    return process


def service_of(home: Path, run_in: Callable[..., Done]) -> dict[str, Any]:
    told = json.loads(run_in(home, "status", "--output", "json").stdout)
    shop = next(workflow for workflow in told["workflows"] if workflow["name"] == "shop")
    return shop["services"].get("shop/api", {}).get("service") or {"roles": {"champion": {"ready": 0}}}


def run_of(home: Path, run_in: Callable[..., Done], workflow: str) -> dict[str, Any]:
    """Its newest run, {} where none is known yet."""
    status = json.loads(run_in(home, "status", "--output", "json").stdout)
    state = next(one for one in status["workflows"] if one["name"] == workflow)["state"]
    return next(iter((state or {}).get("runs", [])), {})


def step_of(run: dict[str, Any]) -> str:
    """The status of its step that waits."""
    return run.get("steps", {}).get("wait", {}).get("status", "")


def labelled(home: Path) -> int:
    """How many predictions of the service have a true label."""
    log = PredictionLog(home / "host" / "predictions" / "shop--api.db")
    try:
        return log.counts().labels
    finally:
        log.close()


@pytest.mark.timeout(600)
def test_after_a_reboot_all_that_was_declared_runs_again_at_the_same_address_and_nothing_is_lost(
    home: Path, documents: Path, run_in: Callable[..., Done], eventually: Callable[..., Any], tmp_path: Path
) -> None:
    first = start(home, tmp_path / "up.log")
    before = Settings.load(home)
    applied = run_in(home, "apply", str(documents))
    assert applied.returncode == 0, applied.stdout + applied.stderr
    admin = {"Authorization": f"Bearer {json.loads((home / 'tokens.json').read_text())['admin']}"}

    def weights() -> Any:
        return {role: share for role, share in service_of(home, run_in).get("weights", {}).items() if share}

    for primitive, args in (("rescale", {"to": 2}), ("reroute", {"canary": "30%"})):
        asked = {"target": "shop/api", "args": args}
        decided = httpx.post(f"{before.planner_url}/v1/primitives/{primitive}", json=asked, headers=admin, timeout=60).json()
        assert decided["verdict"] == "go", decided
        # one plan at a time changes a service
        planned = f"{before.planner_url}/v1/plans/{decided['plan']}"
        eventually(lambda url=planned: httpx.get(url, headers=admin).json()["phase"] in ("kept", "verified"), f"{primitive} is done", 120)
    eventually(lambda: service_of(home, run_in)["roles"]["champion"]["ready"] == 2, "two replicas are ready")
    ran = run_in(home, "run", "job", "--wait")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    url = f"{before.front_url}/shop/api/v2/models/api/infer"
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 0.0, 0.0, 0.0]}]}
    for _ in range(REQUESTS):
        assert httpx.post(url, json=body, timeout=30).status_code == 200
    version = service_of(home, run_in)["roles"]["champion"]["model"]
    assert weights() == WEIGHTS
    assert run_in(home, "run", "long").returncode == 0
    eventually(lambda: step_of(run_of(home, run_in, "long")) == "running", "the step that waits runs", 120)
    unfinished = run_of(home, run_in, "long")["id"]
    written = PredictionLog(home / "host" / "predictions" / "shop--api.db")
    eventually(lambda: len(written.read(0, 10 * REQUESTS)) >= REQUESTS, "all predictions are written")
    ids = [row.id for row in written.read(0, 2)]
    written.close()
    # what was accepted is kept, also where it has not reached the log yet
    given = run_in(home, "label", "shop/api", *(f"{prediction}=1" for prediction in ids))
    assert given.returncode == 0, given.stdout + given.stderr

    first.send_signal(signal.SIGKILL)
    first.wait()
    parts = json.loads(run_in(home, "status", "--output", "json").stdout)["parts"]
    assert "nothing supervises" in parts["up"]["detail"]
    left = find_leftovers(home)
    assert len(left) >= 5, "three agents, Prometheus, MLflow and what Ray is made of"
    for pid in left:
        os.kill(pid, signal.SIGKILL)

    second = run_in(home, "up", "--detach", "--cpus", "8")
    assert second.returncode == 0, second.stdout + second.stderr
    assert all(part in second.stderr for part in ("prometheus", "mlflow", "ray", "host", "planner")), second.stderr
    after = Settings.load(home)
    assert [getattr(after, f"{part}_url") for part in PARTS] == [getattr(before, f"{part}_url") for part in PARTS]
    # a planner that was killed holds its lease for a while
    eventually(lambda: run_in(home, "apply", str(documents)).returncode == 0, "the documents are applied again")
    # whatever it says, it says so only when the service answers
    assert httpx.post(url, json=body, timeout=30).status_code == 200
    eventually(lambda: service_of(home, run_in)["roles"]["champion"]["ready"] == 2, "two replicas are ready again")
    assert service_of(home, run_in)["roles"]["champion"]["model"] == version
    eventually(lambda: "Nothing changes." in run_in(home, "apply", str(documents)).stdout, "all that is declared runs")
    assert weights() == WEIGHTS
    eventually(lambda: labelled(home) == len(ids), "the labels that were accepted are in the log", 120)
    (documents.parent / "go on").touch()
    eventually(lambda: run_of(home, run_in, "long").get("status") == "succeeded", "the run that was unfinished goes on and ends", 120)
    assert run_of(home, run_in, "long")["id"] == unfinished
    logs = run_in(home, "logs", "job", "work")
    assert "this was printed" in logs.stdout, logs.stdout + logs.stderr
    status = json.loads(run_in(home, "status", "--output", "json").stdout)
    job = next(workflow for workflow in status["workflows"] if workflow["name"] == "job")
    assert job["state"]["runs"][0]["outputs"] == {"answer": 42}
    log = PredictionLog(home / "host" / "predictions" / "shop--api.db")
    try:
        assert len(log.read(0, 10 * REQUESTS)) >= REQUESTS
    finally:
        log.close()

    down = run_in(home, "down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert not find_leftovers(home)
