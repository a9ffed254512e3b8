from pathlib import Path
from typing import Any

import httpx
import pytest

from autonomic.workflows.apps.mnist.judge import judge
from autonomic.workflows.apps.mnist.train import train
from autonomic.workflows.runs.context import Context


@pytest.fixture
def context(tmp_path: Path, mlflow_server: Any) -> Context:
    return Context(
        {
            "run_id": "run-1",
            "workflow": "mnist-registering",
            "step": "judge",
            "attempt": 1,
            "workdir": str(tmp_path),
            "tracking_uri": mlflow_server.url,
            "tracking_run": "",
            "notes": str(tmp_path / "notes.jsonl"),
            "models_cache": str(tmp_path / "models"),
        }
    )


def version(url: str, model: str, alias: str) -> dict[str, Any]:
    found = httpx.get(f"{url}/api/2.0/mlflow/registered-models/alias", params={"name": model, "alias": alias}).raise_for_status().json()
    tags = {tag["key"]: tag["value"] for tag in found["model_version"].get("tags", [])}
    return {"version": found["model_version"]["version"], "tags": tags}


def test_the_first_version_is_champion_and_backup_and_the_next_is_a_candidate_that_was_compared_with_it(
    trained: Any, context: Context, mlflow_server: Any
) -> None:
    url, model = mlflow_server.url, "mnist-registering"
    first = judge(trained.data, str(trained.folder), name=model, context=context)
    assert first["version"] == version(url, model, "champion")["version"] == version(url, model, "backup")["version"]

    weaker = train(trained.data, epochs=1, seed=1)
    second = judge(trained.data, weaker["model"], name=model, context=context)
    candidate = version(url, model, "candidate")
    assert candidate["version"] == second["version"] != first["version"]
    assert version(url, model, "champion")["version"] == first["version"]
    assert float(candidate["tags"]["champion_clean_accuracy"]) == pytest.approx(trained.outputs["test_accuracy"], abs=1e-5)
    assert float(candidate["tags"]["clean_accuracy"]) == pytest.approx(weaker["test_accuracy"], abs=1e-5)
    assert candidate["tags"]["judge_trusted"] == "true"

    # what was registered can be tuned and watched with again
    folder = context.download_model(f"models:/{model}@champion")
    assert {"weights.safetensors", "autoencoder.safetensors", "reference.safetensors"} <= {path.name for path in folder.iterdir()}
