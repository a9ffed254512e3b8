"""What a new user does first, with the command line only, on the real system."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
AUTONOMIC = [sys.executable, "-m", "autonomic.cli.main"]


def command(home: Path, *arguments: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "AUTONOMIC_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1", **(env or {})}
    return subprocess.run([*AUTONOMIC, *arguments], capture_output=True, text=True, env=environment, timeout=180, check=False)


def succeeds(home: Path, *arguments: str) -> str:
    done = command(home, *arguments)
    assert done.returncode == 0, f"autonomic {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def eventually(condition: Callable[[], Any], within_seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {within_seconds} s: {condition}")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose system is up."""
    folder = tmp_path_factory.mktemp("home")
    try:
        succeeds(folder, "up", "--detach", "--cpus", "4")
        yield folder
    finally:
        command(folder, "down")
    assert not processes_that_name(folder)


def processes_that_name(folder: Path) -> list[str]:
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(folder) in line:
                found.append(line)
    return found


def test_a_second_up_in_the_same_home_says_so_and_leaves_the_first_alone(home: Path) -> None:
    second = command(home, "up")
    assert second.returncode == 4
    assert "is running already" in second.stderr
    succeeds(home, "status")


def test_the_hello_workflow_runs_and_its_outputs_are_printed(home: Path) -> None:
    succeeds(home, "apply", str(ROOT / "examples" / "hello"))
    printed = succeeds(home, "run", "hello", "--wait", "--param", "words=300")
    assert "most_common" in printed
    assert "HELLO" in printed or "AUTONOMIC" in printed or "WORLD" in printed
    runs = json.loads(succeeds(home, "status", "--output", "json"))
    assert runs


def test_the_log_of_a_step_is_shown(home: Path) -> None:
    succeeds(home, "apply", str(ROOT / "examples" / "hello"))
    succeeds(home, "run", "hello", "--wait")
    assert "writing 200 words" in succeeds(home, "logs", "hello", "write")


def test_a_decision_made_by_hand_is_explained(home: Path) -> None:
    succeeds(home, "apply", str(ROOT / "examples" / "hello"))
    succeeds(home, "run", "hello", "--wait")
    decisions = json.loads(succeeds(home, "decisions", "--output", "json"))
    words = succeeds(home, "explain", decisions[0]["id"])
    assert "run" in words
    assert "autonomy" in words


def test_a_failing_run_ends_non_zero_and_says_which_step_and_why(home: Path, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text("def fail() -> dict[str, int]:\n    raise ValueError('the moon is full')\n")
    (tmp_path / "failing.yaml").write_text(
        "apiVersion: autonomic.dev/v1alpha1\nkind: Workflow\nmetadata: {name: failing}\n"
        'spec: {type: batch, steps: [{name: fail, run: "failing:fail"}]}\n'
    )
    succeeds(home, "apply", str(tmp_path))
    failed = command(home, "run", "failing", "--wait")
    assert failed.returncode == 1
    assert "the moon is full" in failed.stdout + failed.stderr


def test_an_invalid_file_changes_nothing(home: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(
        "apiVersion: autonomic.dev/v1alpha1\nkind: Workflow\nmetadata: {name: broken}\nspec: {type: batch, stepps: []}\n"
    )
    refused = command(home, "apply", str(tmp_path), str(ROOT / "examples" / "hello"))
    assert refused.returncode == 2
    assert "broken.yaml:4" in refused.stdout + refused.stderr
    assert "broken" not in succeeds(home, "status", "--output", "json")


@pytest.mark.parametrize("agent", ["monitor", "planner", "tuner"])
def test_an_agent_that_is_killed_comes_back(home: Path, agent: str) -> None:
    def pids() -> set[int]:
        own: set[int] = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().split(b"\0")
                    mine = f"AUTONOMIC_HOME={home}".encode() in (entry / "environ").read_bytes().split(b"\0")
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    continue
                if mine and f"autonomic.agents.{agent}".encode() in line:
                    own.add(int(entry.name))
        return own

    before = pids()
    assert len(before) == 1
    os.kill(next(iter(before)), signal.SIGKILL)
    eventually(lambda: pids() and pids().isdisjoint(before))
    eventually(lambda: command(home, "status").returncode == 0)


def test_nobody_reports_usage(home: Path) -> None:
    """Every process of the system has the usage reports of Ray and MLflow switched off."""
    seen = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
            environment = dict(item.split(b"=", 1) for item in (entry / "environ").read_bytes().split(b"\0") if b"=" in item)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if str(home).encode() not in line:
            continue
        if b"mlflow" in line and b"server" in line:
            assert environment[b"MLFLOW_DISABLE_TELEMETRY"] == b"true"
            seen += 1
        if b"start_host" in line or b"raylet" in line:
            assert environment[b"RAY_USAGE_STATS_ENABLED"] == b"0"
            seen += 1
    assert seen
