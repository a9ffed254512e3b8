"""The writer of the Kubernetes platform is killed at random moments inside `apply`: no change is lost, none is done twice.

All is real: the cluster, the ConfigMaps, the HAProxy front, the pods, the Jobs. Only the model server inside of the replicas is
a light one (tests/light), so that they start fast.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from autonomic.platforms.kubernetes.platform import KubernetesPlatform
from autonomic.seams.plan import Change, Outcome

MOST_KILLS = 12
WRITER = Path(__file__).parent.parent / "support" / "kubernetes_writer.py"


class Writer:
    """A process that applies changes."""

    def __init__(self, settings: Path, log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(WRITER), str(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert self.read() == {"ready": True}, log.read_text()

    def send(self, change: Change, fence: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"change": change.model_dump(mode="json"), "fence": fence}) + "\n")
        self._process.stdin.flush()

    def read(self) -> dict[str, Any] | None:
        """The next line, None where the process has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def apply(self, change: Change, fence: int) -> Outcome | None:
        self.send(change, fence)
        answer = self.read()
        return None if answer is None else Outcome.model_validate(answer)

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def document(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}


@pytest.mark.timeout(900)
def test_a_writer_killed_inside_apply_loses_and_doubles_no_change(light_cluster: Any, chaos: Any, tmp_path: Path) -> None:
    draw = chaos.draws()
    light_cluster.platform.close()
    settings, log = tmp_path / "settings.json", tmp_path / "writer.log"
    settings.write_text(light_cluster.settings.model_dump_json())
    resources = {"cpu": 0.01, "max": {"cpu": 0.02}}
    replicas_allowed = {"min": 1, "max": 3}
    service = {"name": "api", "model": light_cluster.model("kills"), "replicas": replicas_allowed, "resources": resources, "log": False}
    web = document("kills", {"type": "online", "services": [service]})
    started = light_cluster.home / "data" / "kills-started"
    started.mkdir()
    # each start of the step leaves a line of its own
    count = f'echo "$$" >> {started}/$AUTONOMIC_WITH_NAME'
    step = {"name": "count", "command": ["sh", "-c", count], "with": {"name": "${parameters.name}"}, "resources": {"cpu": 0.01}}
    job = document("kills-job", {"type": "batch", "parameters": {"name": ""}, "steps": [step]})

    writer = Writer(settings, log)
    try:
        deployed = writer.apply(Change(key="kills.deploy", primitive="deploy", target="kills", to={"spec": web, "package": ""}), 1)
        assert deployed is not None
        assert deployed.status == "done", deployed.detail
        # how long an apply takes here: the kills fall into that time
        began = time.monotonic()
        for replicas in (2, 1):
            to = {"role": "champion", "replicas": replicas}
            writer.apply(Change(key=f"kills.warm.{replicas}", primitive="rescale", target="kills/api", to=to), 1)
        apply_seconds = (time.monotonic() - began) / 2

        changes: list[Change] = []
        outcomes: dict[str, Outcome] = {}
        fence, replicas, millis, moved, struck, cut, number = 2, 1, 10, 0, 0, 0, 0
        while chaos.goes_on(number, MOST_KILLS, hits=cut > 1 and struck > 0):
            key = f"kills.{number}"
            if number % 2:
                run_id = f"run-kills-{number}"
                to = {"run_id": run_id, "workflow": "kills-job", "spec": job, "parameters": {"name": run_id}, "package": "", "cause": ""}
                change = Change(key=key, primitive="run", target="kills-job", to=to)
            elif number % 4:
                millis = 30 - millis
                to = {"resources": {"cpu": millis / 1000, "memory": None, "gpu": 0.0}}
                change = Change(key=key, primitive="resize", target="kills/api", to=to, expect=2 + 1 + moved)
                moved += 1
            else:
                replicas = draw.choice([count for count in (1, 2, 3) if count != replicas])
                to = {"role": "champion", "replicas": replicas}
                change = Change(key=key, primitive="rescale", target="kills/api", to=to, expect=2 + 1 + moved)
                moved += 1
            changes.append(change)
            killer = threading.Timer(draw.uniform(0.0, 1.2 * apply_seconds), writer.kill)
            writer.send(change, fence)
            killer.start()
            began = time.monotonic()
            answer = writer.read()
            if answer is not None:
                # it was answered before: it takes less time than was thought
                apply_seconds = min(apply_seconds, time.monotonic() - began)
            killer.join()
            killed_at = time.time()
            writer.close()
            cut += answer is None
            # what the planner does: the same change again, until the platform says what became of it
            writer = Writer(settings, log)
            outcome = writer.apply(change, fence)
            assert outcome is not None
            assert outcome.status == "done", outcome.detail
            assert answer is None or Outcome.model_validate(answer) == outcome
            struck += answer is None and outcome.started_at < killed_at
            outcomes[key] = outcome
            if number % 5 == 0:
                # the fence that was seen before the kill still stands
                stale = change.model_copy(update={"key": f"kills.stale.{number}", "expect": None})
                refused = writer.apply(stale, fence - 1)
                assert refused is not None
                assert refused.status == "refused"
                fence += 1
            number += 1

        # in the middle of a surge: a new pod is there, and the change has no outcome
        chosen = ("get", "pods", "-l", "autonomic.dev/workflow=kills", "-o")
        node, *_ = light_cluster.kubectl(*chosen, "jsonpath={.items[*].spec.nodeName}").split()
        there = set(light_cluster.kubectl(*chosen, "name").split())
        move = Change(key="kills.move", primitive="reschedule", target="kills/api", to={"placement": {"avoid": [{"node": node}]}})
        writer.send(move, fence)
        deadline = time.monotonic() + 60
        while not set(light_cluster.kubectl(*chosen, "name").split()) - there:
            assert time.monotonic() < deadline, "no new pod came"
            time.sleep(0.05)
        writer.kill()
        assert writer.read() is None
        writer.close()
        writer = Writer(settings, log)
        outcome = writer.apply(move, fence)
        assert outcome is not None
        assert outcome.status == "done", outcome.detail
        moved += 1
        pods = json.loads(light_cluster.kubectl(*chosen, "json"))["items"]
        staying = [pod["spec"]["nodeName"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        assert len(staying) == replicas
        assert node not in staying
    finally:
        writer.close()

    light_cluster.platform = platform = KubernetesPlatform(light_cluster.settings)
    # every change is known, as it was answered, and each was counted once
    for change in changes:
        assert platform.lookup(change.key) == outcomes[change.key]
    assert platform.observe("kills/api").revision == 1 + 2 + moved
    notices = [notice for notice in platform.watch(0) if notice.kind == "deployed" and notice.target == "kills"]
    assert len(notices) == 1

    # the cluster has exactly the Deployment that was made, with the last number of replicas
    found = light_cluster.kubectl("get", "deployments", "-l", "autonomic.dev/workflow=kills", "-o", "jsonpath={.items[*].spec.replicas}")
    assert found == str(replicas)
    # and its pods are of the last size, as it says itself; one ReplicaSet was started for the surge, and none for a size
    chosen = ("-l", "autonomic.dev/workflow=kills", "-o")
    size = "containers[0].resources.requests.cpu"
    assert light_cluster.kubectl("get", "deployments", *chosen, f"jsonpath={{.items[*].spec.template.spec.{size}}}") == f"{millis}m"
    assert set(light_cluster.kubectl("get", "pods", *chosen, f"jsonpath={{.items[*].spec.{size}}}").split()) >= {f"{millis}m"}
    assert len(light_cluster.kubectl("get", "replicasets", *chosen, "name").split()) == 2

    # each run was started once, and its step ran once
    runs = {change.to["run_id"] for change in changes if change.primitive == "run"}
    deadline = time.monotonic() + 60
    while any(run.status not in ("succeeded", "failed") for run in platform.runs("kills-job")):
        assert time.monotonic() < deadline, [(run.id, run.status) for run in platform.runs("kills-job")]
        time.sleep(0.2)
    assert sorted(run.id for run in platform.runs("kills-job")) == sorted(runs)
    assert {file.name: len(file.read_text().splitlines()) for file in started.iterdir()} == dict.fromkeys(runs, 1)

    # the kills did hit: calls were cut off, and some of those after the intent was written
    print(f"{number} kills cut {cut} calls off, {struck} of them after their intent; {moved} changes of the service, {len(runs)} runs")
    print(f"a rescale took {1000 * apply_seconds:.0f} ms")
    assert cut > 1
    assert struck > 0
    assert platform.apply(Change(key="kills.delete", primitive="delete", target="kills", to={}), fence).status == "done"


@pytest.mark.timeout(900)
def test_each_primitive_whose_writer_is_killed_in_the_middle_is_done_once(light_cluster: Any, chaos: Any, tmp_path: Path) -> None:
    draw = chaos.draws()
    light_cluster.somebody_else_deploys("somebodys")
    light_cluster.platform.close()
    settings, log = tmp_path / "settings.json", tmp_path / "writer.log"
    settings.write_text(light_cluster.settings.model_dump_json())
    old, new = light_cluster.model("dies-old"), light_cluster.model("dies-new")
    web = document("dies", {"type": "online", "services": [{"name": "api", "model": old, "canary": old, "log": False}]})
    job = document("dies-job", {"type": "batch", "steps": [{"name": "wait", "command": ["sleep", "300"], "resources": {"cpu": 0.01}}]})
    bounds = {"replicas": {"min": 1, "max": 3}, "resources": {"max": {"memory": "128Mi"}}}
    adopt = document("dies-adopted", {"type": "online", "adopt": {"deployment": "somebodys", **bounds}})
    run = {"run_id": "run-dies", "workflow": "dies-job", "spec": job, "parameters": {}, "package": "", "cause": ""}
    theirs = "dies-adopted/somebodys"
    changes: list[tuple[str, str, dict[str, Any]]] = [
        ("deploy", "dies", {"spec": web, "package": ""}),
        ("reroute", "dies/api", {"weights": {"champion": 80, "canary": 20}}),
        ("upgrade", "dies/api", {"models": {"canary": new}}),
        ("retrain", "dies-job", run),
        ("stop", "dies-job", {"run_ids": ["run-dies"]}),
        ("deploy", "dies-adopted", {"spec": adopt, "package": ""}),
        ("rescale", theirs, {"role": "champion", "replicas": 2}),
        ("resize", theirs, {"resources": {"memory": 128 * 2**20}}),
        ("retarget", theirs, {"metric": "cpu", "value": 60}),
        ("delete", "dies-adopted", {}),
        ("delete", "dies", {}),
    ]
    cut = 0
    outcomes: dict[str, Outcome] = {}
    writer = Writer(settings, log)
    try:
        for number, (primitive, target, to) in enumerate(changes):
            change = Change(key=f"dies.{number}", primitive=primitive, target=target, to=to)
            killer = threading.Timer(draw.uniform(0.01, 0.15), writer.kill)
            writer.send(change, 1)
            killer.start()
            answer = writer.read()
            killer.join()
            writer.close()
            cut += answer is None
            writer = Writer(settings, log)
            outcome = writer.apply(change, 1)
            assert outcome is not None
            assert outcome.status == "done", (primitive, outcome.detail)
            assert answer is None or Outcome.model_validate(answer) == outcome
            outcomes[change.key] = outcome
            # all of it is there
            if primitive != "retrain":
                again = writer.apply(change.model_copy(update={"key": f"dies.{number}.again"}), 1)
                assert again is not None
                assert again.status == "unchanged", (primitive, again)
    finally:
        writer.close()
    light_cluster.platform = platform = KubernetesPlatform(light_cluster.settings)
    assert {key: platform.lookup(key) for key in outcomes} == outcomes
    assert [(run.id, run.status) for run in platform.runs("dies-job")] == [("run-dies", "stopped")]
    assert platform.observe("dies").kind == platform.observe("dies-adopted").kind == "absent"
    told = {(notice.target, notice.kind) for notice in platform.watch(0)}
    assert told >= {("dies", "deployed"), ("dies/api", "rerouted"), ("dies/api", "upgraded"), (theirs, "resized"), (theirs, "retargeted")}
    print(f"{cut} of {len(changes)} calls were cut off")
    assert cut >= len(changes) // 3
    light_cluster.kubectl("delete", "deployment/somebodys", "hpa/somebodys", "--wait=false")
