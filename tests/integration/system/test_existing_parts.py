"""`up` with a Ray, an MLflow and a Prometheus that were there before: used, never stopped, and named when they refuse."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from autonomic.agents.settings import Settings
from autonomic.cli.embedded.mlflow_server import MlflowServer
from autonomic.cli.embedded.prometheus_server import PrometheusServer, write_config
from autonomic.cli.embedded.ray_cluster import RayCluster
from autonomic.workflows.processes import free_port
from autonomic.workflows.serving.model import save_model

Done = subprocess.CompletedProcess[str]
AUTONOMIC = (sys.executable, "-m", "autonomic.cli.main")
BODY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 0.0, 0.0, 0.0]}]}


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[tuple[RayCluster, PrometheusServer]]:
    """A Ray cluster with a token, and a Prometheus that scrapes nothing of ours yet."""
    cluster = RayCluster.start(tmp_path / "foreign-ray", cpus=8)
    try:
        prometheus = PrometheusServer.start(tmp_path / "foreign-prometheus", [], free_port(), "250ms")
        try:
            yield cluster, prometheus
        finally:
            prometheus.stop()
    finally:
        cluster.stop()


@pytest.fixture
def home(tmp_path: Path, foreign: tuple[RayCluster, PrometheusServer]) -> Iterator[Path]:
    """A home of which nothing runs afterwards."""
    folder = tmp_path / "home"
    yield folder
    ran(foreign[0].env, folder, "down")


def ran(env: dict[str, str], home: Path, *arguments: str) -> Done:
    """`autonomic` with arguments, for a shell that holds `env` too."""
    given = {**os.environ, **env, "AUTONOMIC_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run([*AUTONOMIC, *arguments], capture_output=True, text=True, env=given, timeout=280, check=False)


def documents(folder: Path) -> Path:
    """A service, a workflow of one step, and a strategy that reads the Prometheus that was there."""
    import torch

    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    outputs = [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
    kwargs = {"in_features": 4, "out_features": 3}
    model = folder / "model"
    save_model(torch.nn.Linear(4, 3), model, architecture="torch.nn:Linear", kwargs=kwargs, inputs=inputs, outputs=outputs)
    written = folder / "documents"
    written.mkdir()
    (written / "work.py").write_text(
        "import mlflow\n\n\ndef work() -> dict[str, str]:\n    return {'tracked': mlflow.get_tracking_uri()}\n"
    )
    service = {"name": "api", "model": model.as_uri(), "replicas": {"min": 1, "max": 2}, "resources": {"cpu": 0.1}}
    strategy = {
        "target": "shop/api",
        "readings": {"agents": {"promql": 'sum(up{job="agents"})'}},
        "when": "agents >= 3",
        "do": [{"rescale": {"to": 2}}],
        "guard": {"autonomy": "auto"},
    }
    specs: list[tuple[str, str, dict[str, Any]]] = [
        ("Workflow", "shop", {"type": "online", "services": [service]}),
        ("Workflow", "job", {"type": "batch", "steps": [{"name": "work", "run": "work:work"}]}),
        ("Strategy", "more-where-all-agents-are-up", strategy),
    ]
    for kind, name, spec in specs:
        document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        (written / f"{name}.yaml").write_text(json.dumps(document))
    return written


@pytest.mark.timeout(900)
def test_a_ray_an_mlflow_and_a_prometheus_that_were_there_are_used_and_never_stopped(
    home: Path,
    foreign: tuple[RayCluster, PrometheusServer],
    mlflow_server: MlflowServer,
    tmp_path: Path,
    eventually: Callable[..., Any],
) -> None:
    cluster, prometheus = foreign
    no_token = {"RAY_AUTH_MODE": "", "RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": "", "HOME": str(tmp_path)}
    options = ("--ray", cluster.address, "--mlflow", mlflow_server.url, "--prometheus", prometheus.url)

    refused = ran(no_token, home, "up", *options[:4], "--prometheus", "http://127.0.0.1:1")
    assert refused.returncode == 1, refused.stderr
    assert "it asks for a token; set RAY_AUTH_MODE=token" in refused.stderr
    assert "Prometheus at http://127.0.0.1:1 cannot be used" in refused.stderr
    assert not (home / "settings.json").exists()

    up = ran({**cluster.env, "RAY_ADDRESS": "1.2.3.4:6379", "MLFLOW_TRACKING_URI": "http://1.2.3.4"}, home, "up", "--detach", *options)
    assert up.returncode == 0, up.stdout + up.stderr
    assert f"RAY_ADDRESS is set and ignored; {cluster.address} is used" in up.stderr
    assert f"MLFLOW_TRACKING_URI is set and ignored; {mlflow_server.url} is used" in up.stderr
    jobs = yaml.safe_load((home / "prometheus" / "scrape.yml").read_text())["scrape_configs"]
    write_config(prometheus.config, jobs, "250ms")
    assert httpx.post(f"{prometheus.url}/-/reload").status_code == 200

    applied = ran(cluster.env, home, "apply", str(documents(tmp_path)))
    assert applied.returncode == 0, applied.stdout + applied.stderr
    settings = Settings.load(home)
    url = f"{settings.front_url}/shop/api/v2/models/api/infer"
    assert httpx.post(url, json=BODY, timeout=30).status_code == 200
    job = ran(cluster.env, home, "run", "job", "--wait")
    assert job.returncode == 0, job.stdout + job.stderr

    def workflow(name: str) -> Any:
        status = json.loads(ran(cluster.env, home, "status", "--output", "json").stdout)
        return next(item for item in status["workflows"] if item["name"] == name)

    assert workflow("job")["state"]["runs"][0]["outputs"] == {"tracked": mlflow_server.url}

    def replicas() -> int:
        service = workflow("shop")["services"].get("shop/api", {}).get("service")
        return service["roles"]["champion"]["ready"] if service else 0

    eventually(lambda: replicas() == 2, "the strategy has read that Prometheus and made it two replicas", 120)

    other = ran(cluster.env, tmp_path / "other home", "up", "--ray", cluster.address, "--mlflow", mlflow_server.url)
    assert other.returncode == 1, other.stderr
    assert f"runs the host of another home, {home}, which is left alone" in other.stderr
    assert httpx.post(url, json=BODY, timeout=30).status_code == 200

    down = ran(cluster.env, home, "down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert cluster.process.poll() is None
    assert prometheus.process.poll() is None
    assert httpx.get(f"{mlflow_server.url}/health").status_code == 200

    again = ran(cluster.env, home, "up", "--detach")
    assert again.returncode == 0, again.stdout + again.stderr
    eventually(lambda: replicas() == 2, "what was declared runs again on what was there", 180)
    assert httpx.post(url, json=BODY, timeout=30).status_code == 200
