import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autonomic.seams.ids import RandomIds
from autonomic.seams.state import FINISHED, RunState

if TYPE_CHECKING:
    from autonomic.cli.embedded.mlflow_server import MlflowServer
    from autonomic.cli.embedded.ray_cluster import RayCluster


@pytest.fixture(scope="package")
def connected(ray_cluster: "RayCluster") -> Iterator[None]:
    """This process as a driver of the cluster."""
    import ray

    mine = not ray.is_initialized()
    if mine:
        ray.init(address=ray_cluster.address, namespace="autonomic", log_to_driver=False)
    yield
    if mine:
        ray.shutdown()


@pytest.fixture(scope="package")
def package(connected: None) -> str:
    """The digest of the code in this folder."""
    from autonomic.platforms.ray.packages import put_package
    from autonomic.workflows.runs.packages import pack

    return put_package(pack(Path(__file__).parent))


@pytest.fixture(scope="package")
def runs_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("host")


@pytest.fixture
def workflow() -> Callable[..., dict[str, Any]]:
    """A batch workflow of steps that are functions of small_steps.py or commands."""

    def make(*steps: dict[str, Any], name: str = "small", **parameters: Any) -> dict[str, Any]:
        full = [step if "command" in step else {**step, "run": f"small_steps:{step['run']}"} for step in steps]
        spec = {"type": "batch", "parameters": parameters, "steps": full}
        return {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}

    return make


@pytest.fixture
def start(package: str, runs_home: Path, mlflow_server: "MlflowServer") -> Callable[..., str]:
    """Starts a run and returns its id."""
    from autonomic.platforms.ray.cluster_runs import start_run

    def begin(document: dict[str, Any], tracking_uri: str = "", **parameters: Any) -> str:
        run_id = RandomIds().new("run")
        to = {"run_id": run_id, "workflow": document["metadata"]["name"], "spec": document}
        start_run({**to, "parameters": parameters, "package": package, "cause": "a test"}, tracking_uri=tracking_uri, home=runs_home)
        return run_id

    return begin


@pytest.fixture
def wait_for() -> Callable[..., RunState]:
    """Waits until a run has ended, or until `when` holds for it."""
    from autonomic.platforms.ray.cluster_runs import get_run

    def wait(run_id: str, when: Callable[[RunState], bool] = lambda run: run.status in FINISHED, within_seconds: float = 120) -> RunState:
        deadline = time.monotonic() + within_seconds
        while True:
            run = get_run(run_id)
            assert run is not None
            if when(run):
                return run
            assert time.monotonic() < deadline, run.model_dump_json(indent=1)
            time.sleep(0.05)

    return wait
