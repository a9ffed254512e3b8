"""What the command does without a running system."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from typer.testing import CliRunner, Result

from autonomic.cli.main import app

ROOT = Path(__file__).parents[3]
COMMANDS = [
    "validate",
    "schema",
    "crds",
    "up",
    "down",
    "agent",
    "apply",
    "diff",
    "deploy",
    "run",
    "logs",
    "status",
    "events",
    "decisions",
    "explain",
    "plans",
    "approve",
    "reject",
    "cancel",
    "revert",
    "reinstate",
    "do",
    "stop",
    "delete",
    "runs",
    "searches",
    "freeze",
    "unfreeze",
    "fire",
    "label",
    "tune",
    "doctor",
    "cluster",
    "build",
]
BAD = "apiVersion: autonomic.dev/v1alpha1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  type: batch\n  steps: [{name: a, rum: x}]\n"


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the command in an empty home."""
    monkeypatch.setenv("AUTONOMIC_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AUTONOMIC_TOKEN", raising=False)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return run


def test_help_lists_every_command_and_the_exit_codes(invoke) -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    assert all(f" {command} " in result.output for command in COMMANDS)
    assert "4 refused or denied" in " ".join(result.output.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_teaches_by_example(invoke, command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"autonomic {command}" in result.output
    # what prints an answer prints it for programs too
    assert ("--output" in result.output) == (command not in ("schema", "crds", "agent", "cluster", "build"))


def test_help_waits_for_no_heavy_package() -> None:
    heavy = "('torch', 'ray', 'mlflow', 'kubernetes', 'optuna', 'sqlalchemy', 'fastapi', 'numpy')"
    show = f"sys.exit([name for name in {heavy} if name in sys.modules])"
    program = f"import sys\nfrom autonomic.cli.main import app\napp(['--help'], standalone_mode=False)\n{show}"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert "Usage" in done.stdout
    assert done.stderr.strip() == "[]"


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from autonomic.cli.main import app; print([m for m in %r if m in sys.modules])"
    heavy = ("torch", "ray", "mlflow", "fastapi", "httpx", "sqlalchemy", "pandas", "numpy", "yaml", "cel_expr_python")
    found = subprocess.run([sys.executable, "-c", code % (heavy,)], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_valid_documents_are_listed_and_problems_told_with_their_place(invoke, tmp_path: Path) -> None:
    good = invoke("validate", str(ROOT / "examples" / "hello"), "--output", "json")
    assert good.exit_code == 0
    assert [item["name"] for item in json.loads(good.stdout)] == ["hello", "hello-hourly"]
    (tmp_path / "bad.yaml").write_text(BAD)
    bad = invoke("validate", str(tmp_path / "bad.yaml"))
    assert bad.exit_code == 2
    assert bad.stdout == ""
    assert f"{tmp_path / 'bad.yaml'}:6:21: unknown key 'rum'; did you mean 'run'?" in bad.stderr
    assert "1 problem; nothing was changed." in bad.stderr
    assert "Traceback" not in bad.output


def test_the_schema_is_printed(invoke) -> None:
    result = invoke("schema")
    assert result.exit_code == 0
    assert result.stdout == (ROOT / "deploy" / "schema" / "autonomic.schema.json").read_text()


def test_the_definitions_for_kubernetes_are_printed_and_written(invoke, tmp_path: Path) -> None:
    written = {path.name: path.read_text() for path in (ROOT / "deploy" / "crds").glob("*.yaml")}
    result = invoke("crds")
    assert result.exit_code == 0
    assert sorted(result.stdout.split("---\n")) == sorted(written.values())
    assert invoke("crds", "--out", str(tmp_path / "new")).exit_code == 0
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir()} == written


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("apply", str(ROOT / "examples" / "hello")),
        ("diff", str(ROOT / "examples" / "hello")),
        ("run", "hello", "--wait"),
        ("logs", "hello"),
        ("events",),
        ("decisions",),
        ("explain", "decision-1"),
        ("plans",),
        ("approve", "plan-1"),
        ("revert", "plan-1"),
        ("fire", "s"),
        ("label", "w/s", "a=1"),
        ("tune", "w", "--metric", "m", "--space", "x=choice:1,2"),
        ("agent", "planner"),
        ("down",),
        ("cluster", "down"),
        ("cluster", "status"),
        ("cluster", "settings"),
        ("cluster", "crash", "node1"),
        ("cluster", "load", "image.tar"),
    ],
)
def test_where_nothing_runs_it_is_said_in_a_line_with_exit_code_3(invoke, arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 3
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) <= 2


def test_a_part_that_does_not_answer_is_named(invoke, tmp_path: Path, free_port: int) -> None:
    home = tmp_path / "home"
    home.mkdir()
    url = f"http://127.0.0.1:{free_port}"
    settings = {"home": str(home), "monitor_url": url, "planner_url": url, "tuner_url": url, "host_url": url}
    (home / "settings.json").write_text(json.dumps(settings))
    result = invoke("decisions")
    assert result.exit_code == 3
    assert f"the planner at {url} cannot be reached" in result.stderr
    status = invoke("status", "--output", "json")
    assert status.exit_code == 3
    assert {part["state"] for part in json.loads(status.stdout)["parts"].values()} == {"unreachable"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("validate",),
        ("validate", "nowhere.yaml"),
        ("run", "w", "--param", "x"),
        ("tune", "w", "--metric", "m", "--space", "x"),
        ("tune", "w", "--metric", "m", "--space", "x=normal:1,2"),
        ("label", "w", "a=1"),
        ("label", "w/s", "a=seven"),
        ("status", "--output", "xml"),
        ("agent", "console"),
        ("events", "--limit", "0"),
        ("cluster", "up", "--nodes", "8"),
        ("cluster", "crash"),
    ],
)
def test_wrong_usage_ends_with_exit_code_2(invoke, arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_doctor_says_what_is_there_in_each_form(invoke) -> None:
    found = json.loads(invoke("doctor", "--output", "json").stdout)
    assert {"python", "ray", "mlflow", "torch", "prometheus", "haproxy", "disk", "ports"} <= {check["name"] for check in found}
    assert all(check["how"] for check in found if check["status"] != "ok")
    assert yaml.safe_load(invoke("doctor", "-o", "yaml").stdout)[0]["name"] == "python"


def test_doctor_tells_how_to_get_what_is_missing(invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    from autonomic.cli import doctor

    monkeypatch.setattr(doctor, "_LIBRARIES", {"surely-not-installed": "does what is needed"})
    result = invoke("doctor", "--output", "json")
    assert result.exit_code == 1
    (check,) = [check for check in json.loads(result.stdout) if check["name"] == "surely-not-installed"]
    assert check["status"] == "missing"
    assert check["how"] == "pip install surely-not-installed: it does what is needed"


def test_without_a_prometheus_the_system_does_not_start_and_says_how_to_get_one(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    command = [sys.executable, "-m", "autonomic.cli.main", "up", "--home", str(tmp_path / "home")]
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "scripts/install-prometheus" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "home" / "logs").exists(), "nothing was started"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands_and_options(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"_AUTONOMIC_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "autonomic dec", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    completed = CliRunner(env={**asked, "COMP_WORDS": "autonomic dec", "COMP_CWORD": "1"}).invoke(app, prog_name="autonomic")
    assert "decisions" in completed.stdout
    shown = CliRunner(env={"_AUTONOMIC_COMPLETE": f"source_{shell}"}).invoke(app, prog_name="autonomic")
    assert "_AUTONOMIC_COMPLETE" in shown.stdout


def test_what_a_platform_lacks_is_told_with_its_place(invoke, tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    step = "{name: a, command: [ls], queue: team-a, resources: {gpu: 0.5}}"
    head = "apiVersion: autonomic.dev/v1alpha1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  type: batch\n  steps:\n"
    path.write_text(f"{head}    - {step}\n")
    assert "Warning" not in invoke("validate", str(path)).stderr
    warned = invoke("validate", str(path), "--platform", "ray")
    assert warned.exit_code == 0
    assert "Warning: " in warned.stderr
    assert "w.yaml:7:39: the platform ray has no queues" in warned.stderr
    refused = invoke("validate", str(path), "--platform", "kubernetes")
    assert refused.exit_code == 2
    assert "gives whole GPUs only, and 0.5 is asked for (spec.steps[0].resources.gpu)" in refused.stderr


@pytest.mark.parametrize("given", [["exec", "pod", "--", "ls", "-l"], ["--help"], ["get", "pods", "--output", "json", "-h"]])
def test_what_follows_kubectl_reaches_it_as_it_was_typed(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Cluster(NamedTuple):
        kubectl: Path = Path("/bin/kubectl")
        kubeconfig: Path = Path("/etc/kubeconfig")

    ran: list[list[str]] = []
    monkeypatch.setattr("autonomic.cli.cluster._cluster", lambda home: Cluster())
    monkeypatch.setattr(os, "execve", lambda program, arguments, environment: ran.append(arguments))
    done = CliRunner().invoke(app, ["cluster", "kubectl", *given])
    assert (done.exit_code, ran) == (0, [["kubectl", *given]]), done.output
