"""Fixtures that start the real parts once for all tests that need them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from autonomic.workflows.embedded.mlflow_server import MlflowServer
    from autonomic.workflows.embedded.prometheus_server import PrometheusServer
    from autonomic.workflows.embedded.ray_cluster import RayCluster

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    from autonomic.workflows.embedded import processes

    return processes.free_port()


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator["RayCluster"]:
    """A real one-node Ray cluster; the environment lets drivers of this process in."""
    from autonomic.workflows.embedded.ray_cluster import RayCluster

    cluster = RayCluster.start(tmp_path_factory.mktemp("ray"), cpus=8)
    before = {name: os.environ.get(name) for name in cluster.env}
    os.environ.update(cluster.env)
    yield cluster
    import ray

    ray.shutdown()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    cluster.stop()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["MlflowServer"]:
    """A real MLflow server; tests use names of their own in it."""
    from autonomic.workflows.embedded.mlflow_server import MlflowServer

    server = MlflowServer.start(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def metrics_targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose *.json files (Prometheus file_sd) name what the `prometheus` fixture scrapes."""
    return tmp_path_factory.mktemp("targets")


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory, metrics_targets: Path) -> Iterator["PrometheusServer"]:
    """A real Prometheus that scrapes itself and what stands in `metrics_targets`, every 250 ms."""
    from autonomic.workflows.embedded.processes import free_port
    from autonomic.workflows.embedded.prometheus_server import PrometheusServer

    port = free_port()
    scrape_configs: list[dict[str, object]] = [
        {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
        {"job_name": "tests", "file_sd_configs": [{"files": [f"{metrics_targets}/*.json"]}]},
    ]
    server = PrometheusServer.start(tmp_path_factory.mktemp("prometheus"), scrape_configs, port, "250ms")
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _no_generic_top_level_packages() -> Iterator[None]:
    import sys

    yield
    generic = {"agents", "cli", "primitives", "seams", "signals", "strategies", "workflows"} & set(sys.modules)
    assert not generic, f"imported without the prefix autonomic: {sorted(generic)}"
