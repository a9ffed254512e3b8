"""What a new user does first, with the command line only, on the real system."""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
HELLO = str(ROOT / "examples" / "hello")
Command = Callable[..., subprocess.CompletedProcess[str]]
Succeeds = Callable[..., str]


def test_a_second_up_in_the_same_home_says_so_and_leaves_the_first_alone(command: Command, succeeds: Succeeds) -> None:
    second = command("up")
    assert second.returncode == 4
    assert "is running already" in second.stderr
    succeeds("status")


@pytest.fixture(scope="module")
def hello(home: Path, typed: Command) -> str:
    """What a run of the hello workflow printed."""
    assert typed(home, "apply", HELLO).returncode == 0
    done = typed(home, "run", "hello", "--wait", "--param", "words=300")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_hello_workflow_runs_and_its_outputs_are_printed(hello: str, succeeds: Succeeds) -> None:
    assert "most_common" in hello
    assert "HELLO" in hello or "AUTONOMIC" in hello or "WORLD" in hello
    runs = json.loads(succeeds("status", "--output", "json"))
    assert runs


def test_the_log_of_a_step_is_shown(hello: str, succeeds: Succeeds) -> None:
    assert "writing 300 words" in succeeds("logs", "hello", "write")
    told = json.loads(succeeds("logs", "hello", "--output", "json"))
    assert "writing 300 words" in told["steps"]["write"]
    assert {"write", "count"} <= set(told["steps"])


def test_a_decision_made_by_hand_is_explained(hello: str, succeeds: Succeeds) -> None:
    decisions = json.loads(succeeds("decisions", "--output", "json"))
    words = succeeds("explain", decisions[0]["id"])
    assert "run" in words
    assert "autonomy" in words


def test_the_first_commands_of_the_readme_work_as_they_stand(hello: str, succeeds: Succeeds) -> None:
    section = (ROOT / "README.md").read_text().partition("## Your own workflow and strategy")[2].partition("\n## ")[0]
    shown = [shlex.split(line, comments=True)[1:] for line in section.splitlines() if line.startswith("    autonomic ")]
    tried = [words for words in shown if words[0] not in ("up", "down")]
    assert {"validate", "apply", "run", "decisions", "explain"} <= {words[0] for words in tried}
    for words in tried:
        newest = json.loads(succeeds("decisions", "--output", "json"))[0]["id"]
        known = {"examples/hello": HELLO, "DECISION": newest}
        succeeds(*(known.get(word, word) for word in words))


def test_a_failing_run_ends_non_zero_and_says_which_step_and_why(command: Command, succeeds: Succeeds, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text("def fail() -> dict[str, int]:\n    raise ValueError('the moon is full')\n")
    (tmp_path / "failing.yaml").write_text(
        "apiVersion: autonomic.dev/v1alpha1\nkind: Workflow\nmetadata: {name: failing}\n"
        'spec: {type: batch, steps: [{name: fail, run: "failing:fail"}]}\n'
    )
    succeeds("apply", str(tmp_path))
    failed = command("run", "failing", "--wait")
    assert failed.returncode == 1
    assert "the moon is full" in failed.stdout + failed.stderr


def test_an_invalid_file_changes_nothing(command: Command, succeeds: Succeeds, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(
        "apiVersion: autonomic.dev/v1alpha1\nkind: Workflow\nmetadata: {name: broken}\nspec: {type: batch, stepps: []}\n"
    )
    refused = command("apply", str(tmp_path), HELLO)
    assert refused.returncode == 2
    assert "broken.yaml:4" in refused.stdout + refused.stderr
    assert "broken" not in succeeds("status", "--output", "json")


@pytest.mark.parametrize("agent", ["monitor", "planner", "tuner"])
def test_an_agent_that_is_killed_comes_back(home: Path, command: Command, eventually: Callable[..., Any], agent: str) -> None:
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
    eventually(lambda: pids() and pids().isdisjoint(before), "another process")
    eventually(lambda: command("status").returncode == 0, "a status that is well")


def test_nobody_reports_usage(home: Path) -> None:
    """Every process of the system has the usage reports of Ray and MLflow switched off."""
    seen: set[str] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
            environment = dict(item.split(b"=", 1) for item in (entry / "environ").read_bytes().split(b"\0") if b"=" in item)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if environment.get(b"AUTONOMIC_HOME") != str(home).encode():
            continue
        if b"mlflow" in line and b"server" in line:
            assert environment[b"MLFLOW_DISABLE_TELEMETRY"] == b"true", line
            seen.add("mlflow")
        for part in ("gcs_server", "raylet"):
            if line.split(b"\0")[0].endswith(part.encode()):
                assert environment[b"RAY_USAGE_STATS_ENABLED"] == b"0", line
                seen.add(part)
    assert seen == {"mlflow", "gcs_server", "raylet"}
