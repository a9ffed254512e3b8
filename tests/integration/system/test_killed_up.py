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
from autonomic.workflows.embedded.leftovers import find_leftovers
from autonomic.workflows.serving.model import save_model
from autonomic.workflows.serving.predictions import PredictionLog

Done = subprocess.CompletedProcess[str]
REQUESTS = 20


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A folder with a service and with a workflow of one step."""
    import torch

    module = torch.nn.Linear(4, 3)
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    outputs = [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
    kwargs = {"in_features": 4, "out_features": 3}
    model = tmp_path / "a model"
    save_model(module, model, architecture="torch.nn:Linear", kwargs=kwargs, inputs=inputs, outputs=outputs, postprocess="classifier")
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "work.py").write_text("def work() -> dict[str, int]:\n    print('this was printed')\n    return {'answer': 42}\n")
    service = {"name": "api", "model": model.as_uri(), "replicas": {"min": 1, "max": 3}, "resources": {"cpu": 0.1}}
    steps = [{"name": "work", "run": "work:work"}]
    for name, spec in (("shop", {"type": "online", "services": [service]}), ("job", {"type": "batch", "steps": steps})):
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


@pytest.mark.timeout(600)
def test_after_a_reboot_all_that_was_declared_runs_again_at_the_same_address_and_nothing_is_lost(
    home: Path, documents: Path, run_in: Callable[..., Done], eventually: Callable[..., Any], tmp_path: Path
) -> None:
    first = start(home, tmp_path / "up.log")
    before = Settings.load(home)
    applied = run_in(home, "apply", str(documents))
    assert applied.returncode == 0, applied.stdout + applied.stderr
    admin = {"Authorization": f"Bearer {json.loads((home / 'tokens.json').read_text())['admin']}"}
    rescale = {"target": "shop/api", "args": {"to": 2}}
    told = httpx.post(f"{before.planner_url}/v1/primitives/rescale", json=rescale, headers=admin, timeout=60).json()
    assert told["verdict"] == "go", told
    eventually(lambda: service_of(home, run_in)["roles"]["champion"]["ready"] == 2, "two replicas are ready")
    ran = run_in(home, "run", "job", "--wait")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    url = f"{before.front_url}/shop/api/v2/models/api/infer"
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 0.0, 0.0, 0.0]}]}
    for _ in range(REQUESTS):
        assert httpx.post(url, json=body, timeout=30).status_code == 200
    version = service_of(home, run_in)["roles"]["champion"]["model"]

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
