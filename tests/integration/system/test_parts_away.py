"""Prometheus, MLflow and Ray die while the system runs: nothing is made up, nothing is done, and it goes on when they are back."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from autonomic.agents.auth import Tokens
from autonomic.agents.settings import Settings

ROOT = Path(__file__).parents[3]
Succeeds = Callable[..., str]
Eventually = Callable[..., Any]

WATCHED = """
apiVersion: autonomic.dev/v1alpha1
kind: Workflow
metadata: {name: watched}
spec: {type: batch, steps: [{name: nothing, command: ["true"], outputs: []}]}
---
apiVersion: autonomic.dev/v1alpha1
kind: Strategy
metadata: {name: run-when-down}
spec:
  target: watched
  on: {every: 500ms}
  readings:
    up: {promql: "sum(up{job='agents'})", max_age: 10s}
  when: up < 1
  do: [{run: {}}]
  guard: {autonomy: auto}
"""


@pytest.fixture(scope="module")
def settings(home: Path) -> Settings:
    """Where the parts of the system answer."""
    return Settings.load(home)


@pytest.fixture(scope="module")
def agents(settings: Settings) -> Iterator[httpx.Client]:
    """A client with the admin token."""
    with httpx.Client(headers={"Authorization": f"Bearer {Tokens.load(settings.tokens_path)['admin']}"}, timeout=30) as client:
        yield client


def pids_of(home: Path, *words: str) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environment = (entry / "environ").read_bytes().decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if all(word in line for word in words) and str(home) in line + environment:
                found.append(int(entry.name))
    return found


def test_without_prometheus_a_reading_is_an_error_and_nothing_is_done(
    home: Path, settings: Settings, agents: httpx.Client, succeeds: Succeeds, eventually: Eventually, tmp_path: Path
) -> None:
    (tmp_path / "watched.yaml").write_text(WATCHED)
    succeeds("apply", str(tmp_path))

    def reading() -> dict[str, Any]:
        page = agents.get(f"{settings.monitor_url}/v1/readings", params={"strategy": "run-when-down"}).raise_for_status().json()
        return page["items"][0]["readings"][0] if page["items"] and page["items"][0]["readings"] else {"status": "none"}

    eventually(lambda: reading()["status"] == "ok", "a good reading")
    hanging = pids_of(home, "--storage.tsdb.path")
    for pid in hanging:
        os.kill(pid, signal.SIGSTOP)
    seen = eventually(lambda: (found := reading())["status"] != "ok" and found, "a reading that is not good")
    assert seen["value"] is None
    assert seen["detail"]
    for pid in hanging:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: reading()["status"] == "ok", "Prometheus is back")
    decisions = agents.get(f"{settings.planner_url}/v1/decisions", params={"limit": 100}).raise_for_status().json()["items"]
    assert not [item for item in decisions if item["decision"]["strategy"] == "run-when-down"]


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_run_succeeds_while_mlflow_is_away(home: Path, succeeds: Succeeds, settings: Settings, eventually: Eventually) -> None:
    succeeds("apply", str(ROOT / "examples" / "hello"))
    for pid in pids_of(home, "mlflow", "server"):
        os.kill(pid, signal.SIGKILL)
    assert "most_common" in succeeds("run", "hello", "--wait")
    eventually(lambda: answers(f"{settings.mlflow_url}/health"), "MLflow is back")


def test_a_worker_of_mlflow_that_outlived_its_parent_does_not_keep_the_port(home: Path, settings: Settings, eventually: Eventually) -> None:
    orphans = set(pids_of(home, "uvicorn", "mlflow"))
    assert orphans
    for pid in pids_of(home, "-m mlflow server"):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not orphans & set(pids_of(home, "uvicorn", "mlflow")), "the old worker has ended")
    eventually(lambda: answers(f"{settings.mlflow_url}/health"), "MLflow is back")


def test_ray_comes_back_and_runs_again(home: Path, settings: Settings, command: Callable[..., Any], eventually: Eventually) -> None:
    before = pids_of(home, "ray start --head")
    assert before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: command("status").returncode != 0, "the status says that a part is missing")
    eventually(lambda: command("status").returncode == 0, "every part is ready again")
    done = command("run", "hello", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
