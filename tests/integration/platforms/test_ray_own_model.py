"""A user's own PyTorch model, as MLflow logs it, on a real host: what is served, and how what cannot be is refused."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from autonomic.seams.plan import Change, Outcome
from autonomic.workflows.registry.client import Mlflow
from autonomic.workflows.runs.packages import pack
from autonomic.workflows.serving.model import save_model

if TYPE_CHECKING:
    from autonomic.cli.embedded.mlflow_server import MlflowServer

EXAMPLE = Path(__file__).parents[3] / "examples" / "wine"
PICKLED = """
import mlflow, torch
mlflow.set_experiment("wine")
with mlflow.start_run():
    mlflow.pytorch.log_model(torch.nn.Linear(2, 2), name="model", registered_model_name="pickled", serialization_format="pickle")
"""
OWN_CLASS = """
import torch
from helpers_of_own import SIZE

class Own(torch.nn.Linear):
    def __init__(self):
        super().__init__(SIZE, 2)
"""


@pytest.fixture(scope="module")
def notebook(mlflow_server: "MlflowServer", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a user's programs ran, with nothing but MLflow's address."""
    folder = tmp_path_factory.mktemp("notebook")
    env = {**os.environ, "MLFLOW_TRACKING_URI": mlflow_server.url, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    (folder / "pickled.py").write_text(PICKLED)
    for program in (EXAMPLE / "train.py", folder / "pickled.py"):
        done = subprocess.run([sys.executable, str(program)], cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def host(light_host: Any) -> Iterator[Any]:
    yield light_host
    for name in ("wine", "own"):
        assert apply(light_host, "delete", name).status in ("done", "unchanged")


def apply(host: Any, primitive: str, target: str, to: dict[str, Any] | None = None) -> Outcome:
    return host.platform.apply(Change(key=f"own-model.{time.time_ns()}", primitive=primitive, target=target, to=to or {}), 1)


def deploy(host: Any, name: str, model: str, package: str = "") -> Outcome:
    service = {"name": "api", "model": model, "resources": {"cpu": 0}}
    spec = {"type": "online", "services": [service]}
    document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}
    return apply(host, "deploy", name, {"spec": document, "package": package})


def test_a_model_logged_by_a_notebook_is_served_with_its_signature(host: Any, notebook: Path) -> None:
    outcome = apply(host, "deploy", "wine", {"spec": yaml.safe_load((EXAMPLE / "service.yaml").read_text()), "package": ""})
    assert outcome.status == "done", outcome.detail
    url = f"{host.platform.urls()['wine/cultivar']}/v2/models/cultivar"
    described = httpx.get(url, trust_env=False).json()
    assert described["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 13]}]
    assert [output["name"] for output in described["outputs"]] == ["probabilities", "label"]
    body = json.loads((EXAMPLE / "request.json").read_text())
    answer = httpx.post(f"{url}/infer", json=body, trust_env=False, timeout=30)
    assert answer.status_code == 200, answer.text
    probabilities, label = answer.json()["outputs"]
    assert label["data"] == [0]
    assert sum(probabilities["data"]) == pytest.approx(1.0)
    (tensor,) = body["inputs"]
    many = {"inputs": [tensor | {"shape": [300, 13], "data": tensor["data"] * 300}]}
    assert httpx.post(f"{url}/infer", json=many, trust_env=False, timeout=30).json()["outputs"][1]["data"] == [0] * 300
    # whoever looks for a logged model asks the server that was configured, and makes no store of its own
    assert not list(notebook.glob("*.db"))
    assert not Path("mlflow.db").exists()


def test_a_pickle_is_refused_at_once_with_the_way_out(host: Any, notebook: Path) -> None:
    outcome = deploy(host, "own", "models:/pickled/1")
    # refused before anything was started
    assert outcome.status == "refused"
    assert "models:/pickled/1 cannot be served" in outcome.detail
    assert "was logged as a pickle" in outcome.detail
    assert "Log it as an exported program" in outcome.detail


def test_a_class_beside_the_yaml_travels_with_its_service_and_one_that_does_not_import_says_why(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "own_class_of_a_test.py").write_text(OWN_CLASS)
    (code / "helpers_of_own.py").write_text("SIZE = 4\n")
    monkeypatch.syspath_prepend(str(code))
    import own_class_of_a_test  # pyright: ignore[reportMissingImports]

    tensor = {"datatype": "FP32", "name": "x", "shape": [-1, 4]}
    folder = save_model(
        own_class_of_a_test.Own(),
        tmp_path / "model",
        architecture="own_class_of_a_test:Own",
        inputs=[tensor],
        outputs=[{**tensor, "name": "y", "shape": [-1, 2]}],
    )
    outcome = deploy(host, "own", f"file://{folder}")
    assert outcome.status == "failed"
    assert "cannot be imported: ModuleNotFoundError: No module named 'own_class_of_a_test'" in outcome.detail
    assert "Traceback" not in outcome.detail
    package = host.platform.add_package(pack(code))
    outcome = deploy(host, "own", f"file://{folder}", package)
    assert outcome.status == "done", outcome.detail
    body = {"inputs": [tensor | {"shape": [1, 4], "data": [1, 2, 3, 4]}]}
    url = host.platform.urls()["own/api"]
    assert httpx.post(f"{url}/v2/models/api/infer", json=body, trust_env=False, timeout=30).status_code == 200


def test_where_a_version_was_registered_from_does_not_matter(mlflow_server: "MlflowServer", notebook: Path) -> None:
    server = Mlflow(mlflow_server.url)
    try:
        assert server.version("wine", "1")["source"].startswith("models:/m-")
        server.create_model("wine-copy")
        server.create_version("wine-copy", "models:/wine/1", "", {})
        found = {server.artifacts_of("wine", "1"), server.artifacts_of("wine-copy", "1")}
        assert len(found) == 1
        assert found.pop().startswith("mlflow-artifacts:/")
    finally:
        server.close()
