"""The rest of the command line on the real system: what a person asks, allows, takes back and tells."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from autonomic.cli.main import app

Eventually = Callable[..., Any]
WORKFLOW = """
apiVersion: autonomic.dev/v1alpha1
kind: Workflow
metadata: {name: asked}
spec: {type: batch, steps: [{name: rest, command: [sleep, "600"], outputs: []}]}
---
apiVersion: autonomic.dev/v1alpha1
kind: Strategy
metadata: {name: ask-first}
spec:
  target: asked
  on: {call: true}
  do: [{run: {}}]
"""
MISSING = """
apiVersion: autonomic.dev/v1alpha1
kind: Workflow
metadata: {name: never-online}
spec: {type: online, services: [{name: api, model: "models:/never-registered@champion"}]}
"""


@pytest.fixture
def typed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Types `autonomic` with these arguments, in this process: it is the same command, and starts at once."""
    monkeypatch.setenv("AUTONOMIC_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, f"autonomic {' '.join(arguments)} ended with {result.exit_code}\n{result.output}"
        return result

    return run


def test_a_suggestion_is_fired_looked_at_approved_and_taken_back(
    typed: Callable[..., Result], eventually: Eventually, tmp_path: Path
) -> None:
    (tmp_path / "asked.yaml").write_text(WORKFLOW)
    differences = {item["name"]: item["change"] for item in yaml.safe_load(typed("diff", str(tmp_path), "-o", "yaml").stdout)}
    assert differences == {"asked": "added", "ask-first": "added"}
    typed("apply", str(tmp_path))
    assert "No differences." in typed("diff", str(tmp_path)).stdout

    # the monitor hears of a strategy a moment after it was applied
    eventually(lambda: CliRunner().invoke(app, ["fire", "ask-first"]).exit_code == 0, "the monitor knows the strategy")
    (decision,) = eventually(
        lambda: json.loads(typed("decisions", "--strategy", "ask-first", "-o", "json").stdout)[-1:], "a decision on the event"
    )
    assert decision["verdict"]["outcome"] == "ask"
    waiting = json.loads(typed("plans", "--phase", "waiting", "-o", "json").stdout)
    assert decision["plan"] in [item["plan"]["id"] for item in waiting]
    assert "FAILED autonomy" in typed("explain", decision["id"]).stdout

    typed("approve", decision["id"])
    typed("approve", decision["plan"], code=4)

    def run_is(status: str) -> bool:
        items = json.loads(typed("status", "-o", "json").stdout)["workflows"]
        runs = next(item for item in items if item["name"] == "asked")["state"]["runs"]
        return bool(runs) and runs[0]["status"] == status

    eventually(lambda: run_is("running"), "the run goes on")
    typed("revert", decision["plan"])
    eventually(lambda: run_is("stopped"), "the run was stopped")
    fired = [
        item["data"]["type"] for item in yaml.safe_load(typed("events", "--limit", "50", "-o", "yaml").stdout) if "type" in item["data"]
    ]
    assert "dev.autonomic.trigger.fired" in fired
    assert "ask-first" in typed("events").stdout


def test_a_model_that_is_not_in_the_registry_is_named_and_nothing_is_deployed(typed: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "never.yaml").write_text(MISSING)
    refused = typed("apply", str(tmp_path), code=1)
    assert "never-registered" in refused.stdout
    assert "refused" in refused.stdout
    (found,) = [item for item in json.loads(typed("status", "-o", "json").stdout)["workflows"] if item["name"] == "never-online"]
    assert found["services"]["never-online/api"]["kind"] == "absent"
    (tmp_path / "never.yaml").write_text(WORKFLOW)
    typed("apply", str(tmp_path), "--prune")
    assert "never-online" not in typed("status", "-o", "json").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", "nothing-of-this-name"), 1, "there is no workflow"),
        (("logs", "nothing-of-this-name"), 1, "there is no run"),
        (("explain", "decision-none"), 1, "there is no decision"),
        (("approve", "plan-none"), 1, "there is no plan"),
        (("fire", "strategy-none"), 1, "knows no strategy"),
        (("label", "no/such", "p=1"), 1, "there is no service"),
        (("plans", "--phase", "odd"), 2, "phase"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(typed: Callable[..., Result], arguments: tuple[str, ...], code: int, said: str) -> None:
    result = typed(*arguments, code=code)
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_token_with_too_small_a_scope_is_refused_with_exit_code_4(
    typed: Callable[..., Result], home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "asked.yaml").write_text(WORKFLOW)
    monkeypatch.setenv("AUTONOMIC_TOKEN", json.loads((home / "tokens.json").read_text())["read"])
    typed("decisions")
    assert "needs admin" in typed("apply", str(tmp_path), code=4).stderr
    assert os.environ["AUTONOMIC_TOKEN"] not in typed("status").output
