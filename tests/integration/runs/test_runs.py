import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from autonomic.seams.errors import Permanent
from autonomic.seams.state import RunState

Make = Callable[..., dict[str, Any]]
Start = Callable[..., str]
Wait = Callable[..., RunState]


def process_is_gone(pid: int, within_seconds: float = 60) -> bool:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if " Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def has_left(actor: Any) -> bool:
    import ray

    try:
        ray.get(actor.report.remote("run-none", "waiting", "none", 1, {"why": ""}))
    except ray.exceptions.RayActorError:
        return True
    return False


def read_pid(path: Path, within_seconds: float = 120) -> int:
    deadline = time.monotonic() + within_seconds
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, "the step did not start"
        time.sleep(0.05)
    return int(path.read_text())


def test_steps_pass_outputs_on_and_independent_ones_run_at_the_same_time(
    workflow: Make, start: Start, wait_for: Wait, tmp_path: Path
) -> None:
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    document = workflow(
        {"name": "left", "run": "meet", "with": {"own": here, "other": there}},
        {"name": "right", "run": "meet", "with": {"own": there, "other": here}},
        {"name": "double", "run": "double", "with": {"x": "${parameters.x}"}},
        {"name": "sum", "needs": ["double", "left", "right"], "run": "add", "with": {"a": "${steps.double.outputs.y}", "b": 1}},
        x=4,
    )
    run = wait_for(start(document, x=5))
    assert run.status == "succeeded", run.detail
    assert run.parameters == {"x": 5}
    assert run.outputs == {"sum": 11, "attempt": 1}
    assert run.steps["left"].outputs == run.steps["right"].outputs == {"met": True}


def test_a_run_that_is_started_twice_runs_once(workflow: Make, wait_for: Wait, package: str, runs_home: Path, tmp_path: Path) -> None:
    from autonomic.platforms.ray.cluster_runs import list_runs, start_run

    document = workflow({"name": "only", "run": "slow", "with": {"marker": str(tmp_path / "marker"), "seconds": 0.2}}, name="once")
    to = {"run_id": "run-twice", "workflow": "once", "spec": document, "parameters": {}, "package": package, "cause": ""}
    for _ in range(2):
        start_run(to, tracking_uri="", home=runs_home)
    run = wait_for("run-twice")
    assert start_run(to, tracking_uri="", home=runs_home) == run
    assert (tmp_path / "marker").read_text() == "x"
    assert [known.id for known in list_runs("once")] == ["run-twice"]


def test_a_failing_step_is_retried_and_its_dependants_see_the_last_attempt(
    workflow: Make, start: Start, wait_for: Wait, tmp_path: Path
) -> None:
    document = workflow(
        {
            "name": "flaky",
            "run": "fail_until",
            "with": {"marker": str(tmp_path / "tries"), "times": 2},
            "retries": {"limit": 2, "backoff": "100ms"},
        },
    )
    run = wait_for(start(document))
    assert run.status == "succeeded", run.detail
    assert run.steps["flaky"].attempt == 3
    assert run.outputs == {"tries": 3}


def test_every_attempt_keeps_its_log_also_where_its_node_has_another_name_since_a_restart(
    workflow: Make, start: Start, wait_for: Wait, tmp_path: Path
) -> None:
    from autonomic.platforms.ray.cluster_runs import read_logs
    from autonomic.platforms.ray.run_actor import cluster_records

    script = f"echo try >> {tmp_path}/tries; wc -l < {tmp_path}/tries; test $(wc -l < {tmp_path}/tries) = 3"
    document = workflow({"name": "flaky", "command": ["sh", "-c", script], "retries": {"limit": 2, "backoff": "10ms"}})
    run = wait_for(start(document))
    kept = {1: "1\n", 2: "2\n", 3: "3\n"}
    assert read_logs(run.id, "flaky") == kept
    assert read_logs(run.id, "flaky", 2) == {2: "2\n"}
    records = cluster_records()
    for attempt, place in records.places(run.id, "flaky").items():
        records.put_place(run.id, "flaky", attempt, {**place, "node": "that-of-before"})
    assert read_logs(run.id, "flaky") == kept
    records.put_place(run.id, "flaky", 1, {"node": "that-of-before", "log": str(tmp_path / "gone" / "log")})
    assert read_logs(run.id, "flaky") == {**kept, 1: None}


def test_a_step_that_raises_fails_the_run_with_its_reason_and_leaves_its_traceback(workflow: Make, start: Start, wait_for: Wait) -> None:
    from autonomic.platforms.ray.cluster_runs import read_logs

    document = workflow({"name": "bad", "run": "raises"}, {"name": "after", "needs": ["bad"], "run": "double", "with": {"x": 1}})
    run = wait_for(start(document))
    assert run.status == "failed"
    assert "KeyError: 'no such thing' (small_steps.py:" in run.detail
    assert run.steps["after"].status == "stopped"
    assert run.steps["after"].detail == "not run: it needs bad, which failed"
    log = read_logs(run.id, "bad")[1] or ""
    assert "Traceback (most recent call last)" in log
    assert 'raise KeyError("no such thing")' in log
    assert read_logs(run.id, "after") == {}
    with pytest.raises(Permanent, match="no step 'nothing'; it has bad, after"):
        read_logs(run.id, "nothing")


def test_a_command_gets_its_values_and_gives_outputs(workflow: Make, start: Start, wait_for: Wait) -> None:
    from autonomic.platforms.ray.cluster_runs import read_logs

    script = 'echo "$0 $* and $AUTONOMIC_WITH_FINE_NAME"; printf \'{"n": %d}\' "$AUTONOMIC_WITH_N" > "$AUTONOMIC_OUTPUTS"'
    document = workflow(
        {"name": "cmd", "command": ["sh", "-c", script, "me"], "with": {"n": 7, "fine-name": "text"}, "outputs": ["n"]},
        {"name": "after", "needs": ["cmd"], "run": "double", "with": {"x": "${steps.cmd.outputs.n}"}},
    )
    run = wait_for(start(document))
    assert run.status == "succeeded", run.detail
    assert run.outputs == {"y": 14}
    assert (read_logs(run.id, "cmd")[1] or "").strip() == "me --n 7 --fine-name text and text"


def test_stopping_a_run_kills_its_processes(workflow: Make, start: Start, wait_for: Wait, tmp_path: Path) -> None:
    from autonomic.platforms.ray.cluster_runs import stop_runs

    document = workflow(
        {"name": "hang", "run": "hangs", "with": {"pid_file": str(tmp_path / "pid")}},
        {"name": "after", "needs": ["hang"], "run": "double", "with": {"x": 1}},
    )
    run_id = start(document)
    pid = read_pid(tmp_path / "pid")
    (run,) = stop_runs([run_id, "run-unknown"], "by hand")
    assert run.status == "stopped"
    assert run.detail == "by hand"
    assert {state.status for state in run.steps.values()} == {"stopped"}
    assert process_is_gone(pid)
    assert stop_runs([run_id], "again") == [run]


def test_all_runs_go_on_after_the_actor_that_drives_them_was_killed(workflow: Make, start: Start, wait_for: Wait, tmp_path: Path) -> None:
    import ray

    begun: dict[str, tuple[Path, Path]] = {}
    for name in ("one", "other"):
        first, second = tmp_path / f"{name}-first", tmp_path / f"{name}-second"
        document = workflow(
            {"name": "first", "run": "slow", "with": {"marker": str(first), "seconds": 0.1}},
            {"name": "second", "needs": ["first"], "run": "slow", "with": {"marker": str(second), "seconds": 3.0}},
        )
        begun[start(document)] = first, second
    for run_id, (_, second) in begun.items():
        wait_for(run_id, lambda run, second=second: run.steps["second"].status == "running" and second.exists())
    ray.kill(ray.get_actor("autonomic-runs", "autonomic"), no_restart=False)
    for run_id, (first, _) in begun.items():
        run = wait_for(run_id)
        assert run.status == "succeeded", run.detail
        assert first.read_text() == "x", "a step that has ended is not run again"
        assert run.steps["second"].attempt == 1


def test_the_worker_of_a_step_dying_takes_the_step_with_it_and_the_step_is_retried(
    workflow: Make, start: Start, wait_for: Wait, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    script = 'echo x >> "$1"; echo $$ > "$1.pid"; if [ $(wc -l < "$1") = 1 ]; then sleep 600; fi'
    document = workflow(
        {
            "name": "victim",
            "command": ["sh", "-c", script, "sh", str(marker)],
            "retries": {"limit": 1, "backoff": "100ms"},
        }
    )
    run_id = start(document)
    command = read_pid(Path(f"{marker}.pid"))
    guard = int(Path(f"/proc/{command}/stat").read_text().rsplit(")", 1)[1].split()[1])
    worker = int(Path(f"/proc/{guard}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(worker, signal.SIGKILL)
    run = wait_for(run_id)
    assert process_is_gone(command)
    assert run.status == "succeeded", run.detail
    assert run.steps["victim"].attempt == 2


def test_a_step_that_asks_for_more_than_there_is_says_so_while_it_waits(workflow: Make, start: Start, wait_for: Wait) -> None:
    from autonomic.platforms.ray.cluster_runs import stop_runs

    run_id = start(workflow({"name": "big", "run": "double", "with": {"x": 1}, "resources": {"cpu": 512}}))
    run = wait_for(run_id, lambda run: bool(run.steps["big"].detail))
    assert run.steps["big"].status == "pending"
    assert "CPU 512 (the cluster has 8)" in run.steps["big"].detail
    stop_runs([run_id])


def test_code_that_is_not_in_the_cluster_fails_the_step_at_once(workflow: Make, runs_home: Path, wait_for: Wait, connected: None) -> None:
    from autonomic.platforms.ray.cluster_runs import start_run

    document = workflow({"name": "a", "run": "double", "with": {"x": 1}, "retries": {"limit": 9}})
    to = {"run_id": "run-no-code", "workflow": "small", "spec": document, "parameters": {}, "package": "sha256-0", "cause": ""}
    start_run(to, tracking_uri="", home=runs_home)
    run = wait_for("run-no-code")
    assert run.status == "failed"
    assert "no code package sha256-0; apply the workflow again" in run.detail


def test_a_step_runs_in_a_worker_that_an_earlier_run_left_warm(workflow: Make, start: Start, wait_for: Wait, runs_home: Path) -> None:
    document = workflow({"name": "a", "run": "double", "with": {"x": 1}})
    wait_for(start(document))
    warm_since = time.time()
    run = wait_for(start(document))
    request = json.loads((runs_home / "runs" / run.id / "a" / "1" / "request.json").read_text())
    assert psutil.Process(request["launcher_pid"]).create_time() < warm_since


def test_what_drives_runs_leaves_when_its_host_does_and_is_there_for_the_next_run(workflow: Make, start: Start, wait_for: Wait) -> None:
    import ray

    from autonomic.platforms.ray.cluster_runs import leave_runs

    run_id = start(workflow({"name": "a", "run": "double", "with": {"x": 1}}))
    actor = ray.get_actor("autonomic-runs", "autonomic")
    leave_runs()
    assert wait_for(run_id).status == "succeeded", "the runs that go on are driven to their end"
    deadline = time.monotonic() + 60
    while not has_left(actor):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert wait_for(start(workflow({"name": "a", "run": "double", "with": {"x": 1}}))).status == "succeeded"


def test_nothing_is_left_to_do_for_an_ended_run(workflow: Make, start: Start, wait_for: Wait) -> None:
    from autonomic.platforms.ray.run_actor import cluster_records

    run_id = start(workflow({"name": "a", "run": "double", "with": {"x": 1}}))
    wait_for(run_id)
    deadline = time.monotonic() + 60
    while run_id in cluster_records().open_ids():
        assert time.monotonic() < deadline
        time.sleep(0.1)
