"""The process of the Ray host is killed at random moments inside `apply`: no change is lost, none is done twice.

All is real: the Ray cluster, the detached host, its store, the HAProxy front, Serve, its replicas and the run actors.
Only the model server inside of the replicas is a light one (tests/light), so that they start fast.
"""

import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autonomic.seams.errors import Retryable
from autonomic.seams.plan import Change, Outcome

MOST_KILLS = 25


def document(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}


def apply_until_answered(platform: Any, change: Change, fence: int, cut: list[str]) -> Outcome:
    """What the planner does: the same change again until the platform says what became of it."""
    deadline = time.monotonic() + 300
    while True:
        try:
            return platform.apply(change, fence)
        except Retryable:
            if not cut or cut[-1] != change.key:
                cut.append(change.key)
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.timeout(900)
def test_a_host_killed_inside_apply_loses_and_doubles_no_change(light_host: Any, chaos: Any, tmp_path: Path) -> None:
    import ray

    draw = chaos.draws()
    platform = light_host.platform
    service = {"name": "api", "model": light_host.model("kills"), "replicas": {"min": 1, "max": 3}, "log": False}
    web = document("kills", {"type": "online", "services": [service]})
    started = tmp_path / "started"
    started.mkdir()
    # each start of the step leaves a line of its own
    count = f'echo "$$" >> {started}/$AUTONOMIC_WITH_NAME'
    step = {"name": "count", "command": ["sh", "-c", count], "with": {"name": "${parameters.name}"}, "resources": {"cpu": 0.1}}
    job = document("kills-job", {"type": "batch", "parameters": {"name": ""}, "steps": [step]})

    deployed = platform.apply(Change(key="kills.deploy", primitive="deploy", target="kills", to={"spec": web, "package": ""}), 1)
    assert deployed.status == "done", deployed.detail
    # how long an apply takes here: the kills fall into that time
    began = time.monotonic()
    for count in (2, 1):
        to = {"role": "champion", "replicas": count}
        platform.apply(Change(key=f"kills.warm.{count}", primitive="rescale", target="kills/api", to=to), 1)
    apply_seconds = (time.monotonic() - began) / 2
    revision = platform.observe("kills/api").revision

    changes: list[Change] = []
    outcomes: dict[str, Outcome] = {}
    cut: list[str] = []
    ended: list[float] = []
    fence, replicas, moved, struck, number = 2, 1, 0, 0, 0
    pool = ThreadPoolExecutor(1)
    while chaos.goes_on(number, MOST_KILLS, hits=len(cut) > 1 and struck > 0):
        light_host.wait()
        key = f"kills.{number}"
        if number % 2:
            run_id = f"run-kills-{number}"
            to = {"run_id": run_id, "workflow": "kills-job", "spec": job, "parameters": {"name": run_id}, "package": "", "cause": ""}
            change = Change(key=key, primitive="run", target="kills-job", to=to)
        else:
            replicas = draw.choice([count for count in (1, 2, 3) if count != replicas])
            to = {"role": "champion", "replicas": replicas}
            change = Change(key=key, primitive="rescale", target="kills/api", to=to, expect=revision + moved)
            moved += 1
        changes.append(change)
        pid = light_host.call("pid")
        answered: Future[Outcome] = pool.submit(apply_until_answered, platform, change, fence, cut)
        began = time.monotonic()
        answered.add_done_callback(lambda _: ended.append(time.monotonic()))
        time.sleep(draw.uniform(0.0, 1.2 * apply_seconds))
        killed_at = time.time()
        light_host.kill_process(pid)
        outcomes[key] = answered.result(timeout=310)
        if key not in cut:
            # it was answered before: it takes less time than was thought
            apply_seconds = min(apply_seconds, ended[-1] - began)
        assert outcomes[key].status == "done", outcomes[key].detail
        struck += outcomes[key].started_at < killed_at
        if number % 5 == 0:
            # the fence that was seen before the kill still stands
            stale = change.model_copy(update={"key": f"kills.stale.{number}", "expect": None})
            assert apply_until_answered(platform, stale, fence - 1, []).status == "refused"
            fence += 1
        number += 1
    pool.shutdown()

    # every change is known, as it was answered, and each was counted once
    for change in changes:
        assert platform.lookup(change.key) == outcomes[change.key]
    assert platform.observe("kills/api").revision == revision + moved
    notices = [notice for notice in platform.watch(0) if notice.kind == "deployed" and notice.target == "kills"]
    assert len(notices) == 1

    # Serve has exactly the application that was deployed, with the last number of replicas
    with warnings.catch_warnings():
        # importing Serve warns of what it does with pydantic
        warnings.simplefilter("ignore")
        from ray.serve.context import _get_global_client
    client: Any = _get_global_client()
    details = ray.get(client._controller.get_serve_instance_details.remote())
    targets = {
        name: app["deployments"]["replica"]["target_num_replicas"]
        for name, app in details["applications"].items()
        if name.startswith("kills--")
    }
    assert list(targets.values()) == [replicas], targets

    # each run was started once, and its step ran once
    runs = {change.to["run_id"] for change in changes if change.primitive == "run"}
    deadline = time.monotonic() + 180
    while any(run.status not in ("succeeded", "failed") for run in platform.runs("kills-job")):
        assert time.monotonic() < deadline, [(run.id, run.status) for run in platform.runs("kills-job")]
        time.sleep(0.2)
    assert sorted(run.id for run in platform.runs("kills-job")) == sorted(runs)
    assert {file.name: len(file.read_text().splitlines()) for file in started.iterdir()} == dict.fromkeys(runs, 1)

    # the kills did hit: calls were cut off, and some of those after the intent was written
    print(f"{number} kills cut {len(cut)} calls off, {struck} of them after their intent; {moved} rescales, {len(runs)} runs")
    assert len(cut) > 1
    assert struck > 0
    assert platform.apply(Change(key="kills.delete", primitive="delete", target="kills", to={}), fence).status == "done"
