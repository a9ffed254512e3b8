"""The shipped YAML runs: the MNIST workflows, the service behind its front, and every strategy of the library."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from autonomic.agents.auth import Tokens
from autonomic.agents.settings import Settings
from autonomic.workflows.apps.mnist import data as mnist
from autonomic.workflows.registry.client import Mlflow, metrics_of

ROOT = Path(__file__).parents[3]
Succeeds = Callable[..., str]
Eventually = Callable[..., Any]


@pytest.fixture(scope="module")
def settings(home: Path) -> Settings:
    """Where the parts of the system answer."""
    return Settings.load(home)


@pytest.fixture(scope="module")
def monitor(settings: Settings) -> Iterator[httpx.Client]:
    """A client of the monitor that may act."""
    headers = {"Authorization": f"Bearer {Tokens.load(settings.tokens_path)['act']}"}
    with httpx.Client(base_url=settings.monitor_url, headers=headers, timeout=30) as client:
        yield client


def test_training_registers_a_champion_and_a_backup(succeeds: Succeeds, settings: Settings) -> None:
    succeeds("apply", str(ROOT / "examples" / "mnist" / "training.yaml"))
    printed = succeeds("run", "mnist-training", "--wait", "--param", "epochs=2", "--output", "json")
    assert "clean_accuracy" in printed
    with httpx.Client(base_url=settings.mlflow_url, timeout=30) as mlflow:
        model = mlflow.get("/api/2.0/mlflow/registered-models/get", params={"name": "mnist"}).raise_for_status().json()
    aliases = {alias["alias"]: alias["version"] for alias in model["registered_model"]["aliases"]}
    assert aliases == {"champion": "1", "backup": "1"}


def test_each_phase_of_the_training_has_its_own_data_and_metrics_in_mlflow(settings: Settings, eventually: Eventually) -> None:
    with closing(Mlflow(settings.mlflow_url)) as mlflow:
        experiments = mlflow.experiment_ids(["mnist-training"])
        # what a step noted reaches MLflow a moment after the run has ended
        run = eventually(
            lambda: next(mlflow.search_runs(experiments, "tags.`autonomic.step` = 'train' and attributes.status = 'FINISHED'"), None),
            "the step train has ended in MLflow",
        )
    assert {"train_loss", "validate_accuracy", "test_accuracy"} <= set(metrics_of(run))
    digests = {found["dataset"]["name"]: found["dataset"]["digest"] for found in run["inputs"]["dataset_inputs"]}
    assert set(digests) == {"mnist-train", "mnist-validate", "mnist-test"}
    assert len(set(digests.values())) == 3


def test_the_service_answers_a_stock_client_through_the_front(succeeds: Succeeds, eventually: Eventually, settings: Settings) -> None:
    succeeds("apply", str(ROOT / "examples" / "mnist" / "online.yaml"))
    address = f"{settings.front_url.removeprefix('http://')}/mnist-online/predictor"

    def answers() -> bool:
        try:
            return httpx.get(f"http://{address}/v2/health/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    eventually(answers, "the service is ready")
    images, labels = mnist.read_built_in()
    picked = np.linspace(0, len(labels) - 1, 40).astype(int)
    client = triton.InferenceServerClient(address)
    right = 0
    for index in picked:
        tensor = triton.InferInput("images", [1, 28, 28], "FP32")
        tensor.set_data_from_numpy(images[index : index + 1].astype(np.float32) / 255)
        right += int(client.infer("predictor", [tensor]).as_numpy("label")[0] == labels[index])
    client.close()
    assert right >= 32


def test_labels_reach_their_predictions_late_and_in_any_order(
    succeeds: Succeeds, eventually: Eventually, monitor: httpx.Client, settings: Settings
) -> None:
    images, _ = mnist.read_built_in()
    tensor = {"name": "images", "datatype": "FP32", "shape": [3, 28, 28], "data": (images[:3] / 255).ravel().tolist()}
    answer = httpx.post(f"{settings.front_url}/mnist-online/predictor/v2/models/predictor/infer", json={"inputs": [tensor]}, timeout=30)
    first, second, third = answer.raise_for_status().json()["parameters"]["prediction_ids"].split(",")
    succeeds("label", "mnist-online/predictor", f"{third}=8", f"{first}=3")
    succeeds("label", "mnist-online/predictor", f"{second}=5")
    wanted = {first: 3, second: 5, third: 8}

    def told() -> dict[str, int]:
        found: dict[str, int] = {}
        cursor = ""
        while True:
            params = {"target": "mnist-online/predictor", "state": "labelled", "limit": 2, "cursor": cursor}
            page = monitor.get("/v1/points", params=params).raise_for_status().json()
            found |= {point["prediction_id"]: point["truth"] for point in page["items"]}
            cursor = page["next"]
            if not cursor:
                return found

    eventually(lambda: wanted.items() <= told().items(), "each prediction has its label")


def test_every_strategy_of_the_library_gets_its_readings(succeeds: Succeeds, eventually: Eventually, monitor: httpx.Client) -> None:
    succeeds("apply", str(ROOT / "examples" / "mnist"), str(ROOT / "strategies" / "library"))
    names = {item["name"] for item in json.loads(succeeds("status", "--output", "json"))["strategies"]}
    assert {"keep-latency", "save-replicas", "drift-retrain", "promote-better", "fail-over"} <= names

    def statuses() -> dict[str, str]:
        items = monitor.get("/v1/readings", params={"limit": 100}).raise_for_status().json()["items"]
        return {f"{item['strategy']}/{item['name']}": item["readings"][0]["status"] for item in items if item["readings"]}

    for name in ("keep-latency/replicas", "save-replicas/queued", "fail-over/champion", "drift-retrain/drifted"):
        eventually(lambda name=name: statuses().get(name) == "ok", f"a reading {name}")
    eventually(lambda: "promote-better/judged" in statuses(), "the candidate was looked at")
    # there is no candidate, so its accuracy is not zero but missing, and nothing is promoted
    assert statuses()["promote-better/judged"] != "ok"
    decisions = json.loads(succeeds("decisions", "--output", "json"))
    assert not [item for item in decisions if item["decision"]["strategy"] in ("promote-better", "drift-retrain")]


def test_the_tuner_finds_a_best_and_applies_nothing(succeeds: Succeeds) -> None:
    succeeds("apply", str(ROOT / "examples" / "mnist" / "tuning.yaml"))
    printed = succeeds(
        *("tune", "mnist-tuning", "--metric", "validate_accuracy", "--space", "learning_rate=loguniform:0.001,0.01"),
        *("--trials", "2", "--param", "epochs=1", "--wait", "--output", "json"),
    )
    search = json.loads(printed)
    assert search["status"] == "succeeded"
    assert len(search["trials"]) == 2
    assert 0 < search["best"]["value"] <= 1
