"""A real planner on a real host and a real MLflow: what serves and what the aliases name stay one truth."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from autonomic.agents.auth import SCOPES
from autonomic.agents.settings import Settings
from autonomic.seams.plan import Change
from autonomic.workflows.processes import free_port
from autonomic.workflows.registry.client import Mlflow, tags_of
from autonomic.workflows.registry.register import register_model
from autonomic.workflows.serving.model import save_model

if TYPE_CHECKING:
    from autonomic.cli.embedded.mlflow_server import MlflowServer

MODEL, TARGET = "one-truth", "truth/api"
TOKEN = "token-of-a-planner"
SERVICE = {"name": "api", "model": f"models:/{MODEL}@champion", "resources": {"cpu": 0}}
DOCUMENT = {
    "apiVersion": "autonomic.dev/v1alpha1",
    "kind": "Workflow",
    "metadata": {"name": "truth"},
    "spec": {"type": "online", "services": [SERVICE]},
}


class Planner:
    """The process, its client, and what its host serves."""

    def __init__(self, home: Path, host: Any, mlflow: Mlflow) -> None:
        self.host, self.mlflow = host, mlflow
        url = f"http://127.0.0.1:{free_port()}"
        away = "http://127.0.0.1:1"
        settings = Settings(
            home=home, monitor_url=away, planner_url=url, tuner_url=away, host_url=host.settings.url, mlflow_url=host.settings.mlflow_url
        )
        settings.save()
        settings.tokens_path.write_text(json.dumps({**{scope: f"{scope}-{TOKEN}" for scope in SCOPES}, "host": host.settings.token}))
        settings.tokens_path.chmod(0o600)
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer admin-{TOKEN}"}, timeout=120, trust_env=False)
        log = (home / "planner.log").open("wb")
        command = [sys.executable, "-m", "autonomic.agents.planner"]
        self.process = subprocess.Popen(command, env={**os.environ, "AUTONOMIC_HOME": str(home)}, stdout=log, stderr=log)
        log.close()

    def answers(self) -> bool:
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def apply(self) -> bool:
        """Puts the document in force, and waits until what that does is done; False while the planner does not take it yet."""
        answer = self.http.post("/v1/apply", json={"documents": [DOCUMENT]})
        for record in answer.json().get("decisions", []):
            self.ended(record["plan"])
        return answer.status_code == 200

    def do(self, primitive: str, **args: Any) -> None:
        """Takes one action by hand as soon as no other plan is at work on the service, and waits until it has ended well."""
        request = {"target": TARGET, "args": args}

        def decided() -> dict[str, Any] | None:
            told = self.http.post(f"/v1/primitives/{primitive}", json=request).json()
            return None if told["why"].startswith("conflict") else told

        told = wait_until(decided, f"{primitive} has its turn")
        assert told["verdict"] == "go", told
        phase = self.ended(told["plan"])
        assert phase in ("kept", "verified"), self.http.get(f"/v1/plans/{told['plan']}").text

    def ended(self, plan: str) -> str:
        """How a plan ended."""
        return wait_until(lambda: self._ended(plan), f"{plan} ends")

    def _ended(self, plan: str) -> str:
        phase = self.http.get(f"/v1/plans/{plan}").json()["phase"]
        return "" if phase in ("waiting", "applying", "verifying", "reverting") else phase

    def serves(self) -> str:
        """The version behind the champion, "" where there is none."""
        service = self.host.platform.observe(TARGET).service
        return service.roles["champion"].model.rpartition("/")[2] if service else ""

    def named(self) -> dict[str, str]:
        return self.mlflow.aliases(MODEL)

    def differs(self) -> str:
        status = self.http.get("/v1/workflows", params={"observe": True}).json()
        return json.dumps([item["differs"] for item in status["items"] if item["name"] == "truth"])


def wait_until(condition: Callable[[], Any], what: str, within_seconds: float = 120) -> Any:
    deadline = time.monotonic() + within_seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_seconds:g} s: {what}"
        time.sleep(0.1)
    return found


@pytest.fixture
def planner(light_host: Any, mlflow_server: "MlflowServer", tmp_path: Path) -> Iterator[Planner]:
    mlflow = Mlflow(mlflow_server.url)
    made = Planner(tmp_path, light_host, mlflow)
    try:
        wait_until(made.answers, "the planner answers")
        yield made
        light_host.platform.apply(Change(key="truth.delete", primitive="delete", target="truth", to={}), 1_000_000)
    finally:
        made.process.kill()
        made.process.wait()
        made.http.close()
        mlflow.close()


@pytest.fixture
def versions(mlflow_server: "MlflowServer", tmp_path: Path) -> list[str]:
    """Three versions of one model: the first is the backup, the second the champion."""
    import torch

    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
    folder = save_model(
        torch.nn.Linear(4, 3),
        tmp_path / "model",
        architecture="torch.nn:Linear",
        kwargs={"in_features": 4, "out_features": 3},
        inputs=[tensor],
        outputs=[{**tensor, "name": "y", "shape": [-1, 3]}],
    )
    return [register_model(mlflow_server.url, folder, MODEL, alias=alias) for alias in ("backup", "champion", None)]


@pytest.mark.timeout(600)
def test_aliases_and_what_serves_are_one_truth_in_a_real_registry(planner: Planner, versions: list[str]) -> None:
    first, second, third = versions
    # the planner takes its lease, and finds its host, within moments
    wait_until(planner.apply, "the service is applied")
    assert planner.serves() == second

    # an upgrade moves the alias
    planner.do("upgrade", champion=f"models:/{MODEL}/{third}")
    assert planner.serves() == third
    assert planner.named()["champion"] == third

    # a rollback quarantines the version that served, and no other
    planner.do("rollback")
    assert planner.serves() == first
    assert planner.named() == {"champion": first}
    quarantined = [version for version in versions if tags_of(planner.mlflow.version(MODEL, version)).get("quarantined")]
    assert quarantined == [third]

    # an alias that was moved by hand is reported, and followed
    planner.mlflow.set_alias(MODEL, "champion", second)
    wait_until(lambda: planner.serves() == second, "what was moved by hand serves")
    wait_until(lambda: planner.differs() == "[[]]", "nothing differs")
    assert planner.named()["champion"] == second
    reasons = {record["decision"]["why"] for record in planner.http.get("/v1/decisions", params={"limit": 100}).json()["items"]}
    assert (
        f"the alias asked for it: version {second} as champion (models:/{MODEL}@champion) is declared, and version {first} is there"
        in reasons
    )
