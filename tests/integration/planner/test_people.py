"""What people say, over HTTP and by the command: with the name of their token and a reason, and beyond restarts."""

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from autonomic.cli.main import app

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(system: Any, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs the command in the system's home."""
    monkeypatch.setenv("AUTONOMIC_HOME", str(system.home))

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        return result

    return run


def waiting(system: Any, online: Any, grow: Any, name: str) -> dict[str, Any]:
    """A decision whose plan waits for a person."""
    system.apply(online(name), grow(f"{name}-grow", f"{name}/s0", guard={"autonomy": "suggest"}))
    system.put(readings={"load": 1.0})
    system.fire(f"{name}-grow", f"{name}/s0", f"{name}-1")
    return system.decided(f"{name}-1")


def words(system: Any, decision: str) -> str:
    return system.get(f"/v1/decisions/{decision}")["explanation"]["words"]


def test_what_people_say_carries_the_name_of_their_token_and_a_reason(system: Any, online: Any, grow: Any) -> None:
    path: Path = system.home / "tokens.json"
    token = secrets.token_urlsafe(32)
    path.write_text(json.dumps({**json.loads(path.read_text()), "ada": {"scope": "act", "token": token}}))
    system.end("planner")
    system.start("planner")
    approved, rejected = waiting(system, online, grow, "said"), waiting(system, online, grow, "unsaid")
    with httpx.Client(base_url=system.settings.planner_url, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as ada:
        assert ada.post(f"/v1/plans/{approved['plan']}:approve", json={"why": "seen it"}).status_code == 200
        assert ada.post(f"/v1/plans/{rejected['plan']}:reject").status_code == 422
        answer = ada.post(f"/v1/plans/{rejected['plan']}:reject", json={"why": "not today"})
        assert answer.json()["phase"] == "cancelled"
        done = ada.post("/v1/primitives/rescale", json={"target": "unsaid/s0", "args": {"to": 3}, "why": "a sale"}).json()
        assert ada.post("/v1/apply", json={"documents": []}).status_code == 403
    assert "ada approved it (seen it)" in words(system, approved["id"])
    assert "ada rejected it (not today)" in words(system, rejected["id"])
    assert "ada asked for it: a sale" in words(system, done["decision"])


def test_a_freeze_outlives_a_restart_and_stops_what_runs(system: Any, online: Any, grow: Any, invoke: Invoke) -> None:
    system.apply(online("cold"), grow("cold-grow", "cold/s0", verify={"that": "load > 100", "within": "10m"}))
    system.put(readings={"load": 1.0})
    system.fire("cold-grow", "cold/s0", "cold-1")
    plan = system.decided("cold-1")["plan"]
    system.until(lambda: system.get(f"/v1/plans/{plan}")["phase"] == "verifying")
    assert plan in invoke("freeze", "cold", "--why", "incident 7", "--until", "2h").output
    assert "admin froze cold" in system.ended(plan)["detail"]
    system.end("planner", kill=True)
    system.start("planner")
    system.fire("cold-grow", "cold/s0", "cold-2")
    assert "incident 7" in system.decided("cold-2")["verdict"]["why"]
    shown = invoke("status", code=1)  # the monitor and the host of this system are one stand-in, MLflow and Prometheus are none
    assert "incident 7" in shown.output
    assert "refused" in invoke("do", "rescale", "cold/s0", "to=5", code=4).output
    assert "incident 7" in invoke("unfreeze", "cold").output
    invoke("unfreeze", "cold", code=1)
    invoke("do", "rescale", "cold/s0", "to=5")
    assert system.see()["states"]["cold/s0"]["service"]["roles"]["champion"]["wanted"] == 5


def test_a_freeze_names_what_is_there_and_ends_later_than_now(system: Any, online: Any, invoke: Invoke) -> None:
    system.apply(online("warm"))
    assert "no workflow 'wram'; see `autonomic status`" in invoke("freeze", "wram", "--why", "x", code=1).output
    assert "it has s0" in invoke("freeze", "warm/s9", "--why", "x", code=1).output
    both = invoke("freeze", code=2).output
    assert "exactly one of TARGET or --all" in both
    assert "needs a reason" in both
    assert "which is over" in invoke("freeze", "warm", "--why", "x", "--until", "2020-01-01T00:00", code=2).output
    answer = system.planner.post("/v1/freezes", json={"target": "warm", "why": "x", "until": time.time() - 1})
    assert answer.status_code == 422


def test_the_commands_of_plans_and_runs(system: Any, online: Any, grow: Any, batch: Any, invoke: Invoke) -> None:
    record = waiting(system, online, grow, "hand")
    assert "--why" in invoke("reject", record["id"], code=2).output
    assert "cancelled" in invoke("reject", record["id"], "--why", "no").output
    assert "has ended" in invoke("cancel", record["plan"], code=4).output
    assert "did not demote itself" in invoke("reinstate", "hand-grow", code=4).output
    assert "rescale the champion of hand/s0 to 2" in invoke("do", "rescale", "hand/s0", "to=2", "--dry-run").output
    assert "args.to" in invoke("do", "rescale", "hand/s0", "to=many", code=2).output
    assert "there are call, delete" in invoke("do", "explode", "hand/s0", code=1).output
    system.apply(batch("hand-batch"))
    run = json.loads(invoke("run", "hand-batch", "-o", "json").output)["run"]
    system.until(lambda: run in invoke("runs", "hand-batch").output)
    assert json.loads(invoke("runs", "--status", "failed", "-o", "json").output) == []
    assert "`autonomic runs`" in invoke("logs", "run-nothing", code=1).output
    assert json.loads(invoke("searches", "-o", "json").output) == system.tuner.get("/v1/searches").json()["items"]


def test_a_workflow_is_deleted_with_its_strategies_or_not_at_all(system: Any, online: Any, grow: Any, invoke: Invoke) -> None:
    system.apply(online("gone"), grow("gone-grow", "gone/s0"))
    assert "gone-grow" in invoke("delete", "gone", code=4).output
    assert "gone/s0" in system.see()["states"]
    assert "removed" in invoke("delete", "gone", "--with-strategies", "--why", "over").output
    assert "gone/s0" not in system.see()["states"]
    assert system.planner.get("/v1/strategies/gone-grow").status_code == 404
    assert "`autonomic status`" in invoke("delete", "gone", code=1).output
