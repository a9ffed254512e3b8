"""What can be wrong with a cluster, its credentials and its objects: each says what it is, and nothing is lost or done twice."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import yaml

from autonomic.cli.embedded.kubernetes import cgroups
from autonomic.platforms.kubernetes.objects.api import JOBS, PODS, Api, Resource
from autonomic.platforms.kubernetes.objects.watch import Watch
from autonomic.platforms.kubernetes.platform import KubernetesPlatform
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.state import FINISHED, RunState


def wait_until(condition: Callable[[], Any], within_seconds: float = 120) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_seconds:g} s"
        time.sleep(0.05)


class World:
    """An installation with shorter words."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster

    @property
    def platform(self) -> KubernetesPlatform:
        return self.cluster.platform

    def change(self, primitive: str, target: str, to: dict[str, Any]) -> Change:
        return self.cluster.change(primitive, target, to)

    def deploy(self, name: str, **service: Any) -> Change:
        api = {"name": "api", "model": self.cluster.model(name), "replicas": {"min": 1, "max": 3}, "log": False, "timeout": "1s", **service}
        document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}}
        return self.change("deploy", name, {"spec": {**document, "spec": {"type": "online", "services": [api]}}, "package": ""})

    def run(self, name: str, script: str, **step: Any) -> Change:
        full = {"name": "work", "command": ["sh", "-c", script], "resources": {"cpu": 0.05}, **step}
        document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}}
        spec = {**document, "spec": {"type": "batch", "steps": [full]}}
        to = {"run_id": f"run-{name}", "workflow": name, "spec": spec, "parameters": {}, "package": "", "cause": ""}
        return self.change("run", name, to)

    def apply(self, change: Change) -> Outcome:
        """As the planner does it: what may work later is tried again."""
        deadline = time.monotonic() + 120
        while True:
            try:
                return self.platform.apply(change, 1)
            except Retryable as away:
                if time.monotonic() > deadline:
                    raise AssertionError("it was not done") from away
                time.sleep(0.2)

    def ended(self, name: str, within_seconds: float = 120) -> RunState:
        wait_until(lambda: (run := self.platform.run(f"run-{name}")) is not None and run.status in FINISHED, within_seconds)
        run = self.platform.run(f"run-{name}")
        assert run is not None
        return run

    def ready(self, name: str) -> int:
        service = self.platform.observe(f"{name}/api").service
        return service.roles["champion"].ready if service else 0

    def objects(self, kinds: str, name: str) -> list[dict[str, Any]]:
        return json.loads(self.cluster.kubectl("get", kinds, "-l", f"autonomic.dev/workflow={name}", "-o", "json"))["items"]

    def seen(self, target: str) -> list[dict[str, Any]]:
        """The pods of a target as the host sees them."""
        return self.platform.host.view.state(target, ["pods"])["pods"].get("items", [])

    def gone(self, name: str) -> None:
        assert self.apply(self.change("delete", name, {})).status in ("done", "unchanged")
        wait_until(lambda: not self.objects("deployments", name))


@pytest.fixture(scope="module")
def world(light_cluster: Any) -> World:
    return World(light_cluster)


@pytest.fixture
def other(installation: Callable[..., Any], tmp_path: Path) -> Iterator[World]:
    """An installation of one's own, to be broken."""
    home = tmp_path / "faults"
    home.mkdir()
    cluster = installation(home)
    cluster.start()
    yield World(cluster)
    cluster.close()


# -- credentials


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        ("no file", Permanent, "There are no credentials for Kubernetes.*Name a kubeconfig, set KUBECONFIG"),
        ("no context", Permanent, "There are no credentials for Kubernetes.*nowhere"),
        ("no server", Retryable, "API server at https://127.0.0.1:9 does not answer"),
        ("no token", Permanent, "does not take our credentials; see to the kubeconfig or the token"),
    ],
)
def test_a_wrong_kubeconfig_says_what_is_wrong(light_cluster: Any, tmp_path: Path, wrong: str, kind: type[Exception], words: str) -> None:
    config = yaml.safe_load(Path(light_cluster.settings.kubeconfig).read_text())
    if wrong == "no server":
        config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    if wrong == "no token":
        config["users"][0]["user"] = {"token": "nobody"}
    if wrong == "no context":
        config["current-context"] = "nowhere"
    if wrong != "no file":
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    with pytest.raises(kind, match=words):
        KubernetesPlatform(light_cluster.settings.model_copy(update={"kubeconfig": str(tmp_path / "kubeconfig"), "home": tmp_path}))


def test_a_token_that_expires_stops_changes_and_a_new_one_goes_on(other: World) -> None:
    other.apply(other.run("before", "true"))
    assert other.ended("before").status == "succeeded"
    # a token of an account that is gone is refused from then on, as one that has expired
    other.cluster.kubectl("delete", "serviceaccount", "host")
    api = Api(other.cluster.settings)

    def refused() -> bool:
        try:
            api.get(JOBS, "nothing")
        except Permanent as failure:
            return "does not take our credentials" in str(failure)
        return False

    try:
        # the API server believes a token for a few seconds after it has looked at it
        wait_until(refused)
    finally:
        api.close()
    wanted = other.run("during", "true")
    with pytest.raises(Permanent, match="does not take our credentials; see to the kubeconfig or the token"):
        other.platform.apply(wanted, 1)
    assert other.objects("jobs", "during") == []
    other.platform.close()
    other.cluster.kubectl("create", "serviceaccount", "host")
    token = other.cluster.kubectl("create", "token", "host").strip()
    path = Path(other.cluster.settings.kubeconfig)
    config = yaml.safe_load(path.read_text())
    config["users"] = [{**user, "user": {"token": token}} for user in config["users"]]
    path.write_text(yaml.safe_dump(config))
    other.cluster.start()
    assert other.apply(wanted).status == "done"
    assert other.ended("during").status == "succeeded"
    assert len(other.objects("jobs", "during")) == 1


def test_a_kind_that_the_cluster_does_not_know_is_named(light_cluster: Any) -> None:
    # who has no right to a kind is told that, and not whether there is one
    api = Api(light_cluster.settings.model_copy(update={"kubeconfig": str(light_cluster.cluster.kubeconfig)}))
    try:
        with pytest.raises(Permanent, match=r"There are no things\.autonomic\.example on the cluster") as refused:
            api.list(Resource("autonomic.example", "v1", "things"), "")
        assert "CustomResourceDefinition" in str(refused.value)
    finally:
        api.close()


# -- what a cluster cannot give


def test_what_a_quota_leaves_no_room_for_waits_and_says_so_and_goes_on_when_there_is_room(other: World) -> None:
    other.cluster.kubectl("create", "quota", "none", "--hard=pods=0")
    wait_until(lambda: other.cluster.kubectl("get", "quota", "none", "-o", "jsonpath={.status.hard.pods}") == "0")
    outcomes: list[Outcome] = []
    deploy = other.deploy("full")
    deploying = threading.Thread(target=lambda: outcomes.append(other.apply(deploy)))
    deploying.start()
    wait_until(lambda: any("exceeded quota: none" in one for one in other.platform.observe("full").differs))
    assert other.platform.observe("full").kind == "absent"
    other.apply(other.run("waits", "true"))
    wait_until(lambda: "exceeded quota: none" in other.platform.run("run-waits").steps["work"].detail)
    assert other.platform.run("run-waits").steps["work"].status == "pending"
    other.cluster.kubectl("delete", "quota", "none")
    run = other.ended("waits", 120)
    assert (run.status, run.steps["work"].attempt) == ("succeeded", 1)
    deploying.join(240)
    assert [outcome.status for outcome in outcomes] == ["done"], outcomes
    other.gone("full")


def test_a_name_that_kubernetes_refuses_is_refused_before_anything_is_made(world: World) -> None:
    before = world.cluster.kubectl("get", "configmaps,deployments,jobs", "-o", "name")
    for name in ("Upper", "under_score", "a" * 54, "-dash", "dot.ted"):
        outcome = world.apply(world.deploy(name))
        assert outcome.status == "refused", outcome
        assert "name" in outcome.detail
    after = world.cluster.kubectl("get", "deployments,jobs", "-o", "name")
    assert set(after.split()) <= set(before.split())


# -- hands that interfere


def test_a_deployment_that_is_deleted_by_hand_fails_the_deploy_and_is_made_again_by_the_next_step_of_a_plan(world: World) -> None:
    outcomes: list[Outcome] = []
    deploy = world.deploy("taken", resources={"cpu": 900})
    deploying = threading.Thread(target=lambda: outcomes.append(world.apply(deploy)))
    deploying.start()
    wait_until(lambda: [pod for pod in world.seen("taken/api") if "Unschedulable" in pod["reasons"]])
    world.cluster.kubectl("delete", "deployment", "-l", "autonomic.dev/workflow=taken", "--wait=false")
    deploying.join(120)
    assert [(outcome.status, "was deleted by somebody else" in outcome.detail) for outcome in outcomes] == [("failed", True)], outcomes
    assert world.platform.observe("taken").kind == "absent"
    assert world.apply(world.deploy("taken")).status == "done"
    world.cluster.kubectl("delete", "deployment", "-l", "autonomic.dev/workflow=taken", "--wait=false")
    rescale = world.change("rescale", "taken/api", {"role": "champion", "replicas": 3})
    outcomes = [world.apply(rescale)]
    assert [outcome.status for outcome in outcomes] == ["done"]
    wait_until(lambda: world.ready("taken") == 3)
    (again,) = world.objects("deployments", "taken")
    assert again["spec"]["replicas"] == 3
    # once more is once
    assert world.apply(rescale) == outcomes[0]
    world.gone("taken")


def test_a_job_that_is_deleted_by_hand_costs_an_attempt(world: World) -> None:
    marks = world.cluster.home / "data" / "job-deleted"
    script = f"echo x >> {marks}; test $(wc -l < {marks}) -gt 1 || sleep 600"
    world.apply(world.run("jobless", script, retries={"limit": 1, "backoff": "100ms"}))
    wait_until(lambda: marks.exists() and world.platform.run("run-jobless").steps["work"].status == "running")
    world.cluster.kubectl("delete", "job", "-l", "autonomic.dev/workflow=jobless", "--wait=false")
    run = world.ended("jobless")
    assert (run.status, run.steps["work"].attempt) == ("succeeded", 2)
    assert marks.read_text() == "x\nx\n"


def test_what_is_stuck_while_it_ends_holds_nothing_up(world: World) -> None:
    assert world.apply(world.deploy("stuck")).status == "done"
    (pod,) = world.objects("pods", "stuck")
    name = pod["metadata"]["name"]
    held = json.dumps({"metadata": {"finalizers": ["example.com/held"]}})
    world.cluster.kubectl("patch", "pod", name, "--type=merge", "-p", held)
    try:
        world.gone("stuck")
        assert world.platform.observe("stuck").kind == "absent"
        assert "stuck/api" not in world.platform.urls()
        wait_until(lambda: world.objects("pods", "stuck")[0]["metadata"].get("deletionTimestamp"))
        assert world.apply(world.deploy("stuck")).status == "done"
        assert world.ready("stuck") == 1
        assert name not in {replica.id for replica, workflow, *_ in world.platform.host.services.all_registered() if workflow == "stuck"}
    finally:
        world.cluster.kubectl("patch", "pod", name, "--type=merge", "-p", json.dumps({"metadata": {"finalizers": None}}))
    world.gone("stuck")


# -- the network


def test_a_watch_whose_connection_is_cut_without_a_word_goes_on(kubernetes: Any, world: World) -> None:
    if kubernetes.local is None:
        pytest.skip("NO CONNECTION IS CUT: the cluster was given, and may be on another machine")
    api = Api(world.cluster.settings)
    watch = Watch(api, PODS, "cut=yes", lambda before, now: None)
    watch.start()
    assert watch.wait(60)
    wait_until(lambda: not watch.missing)
    port = urlsplit(yaml.safe_load(kubernetes.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]).port
    mine = [each.laddr.port for each in psutil.Process().net_connections("tcp") if each.raddr and each.raddr.port == port]
    table = "inet autonomic_cut"
    ours = f"{{ {', '.join(map(str, mine))} }}"
    both_ways = f"tcp dport {port} tcp sport {ours} drop; tcp sport {port} tcp dport {ours} drop;"
    nft(kubernetes, f"table {table} {{ chain output {{ type filter hook output priority 0; {both_ways} }}; }}")
    try:
        world.cluster.kubectl("run", "after-the-cut", "--image=autonomic.local/busybox:1", "--labels=cut=yes", "--", "sleep", "600")
        # the next bookmark would be missed after 100 s
        wait_until(lambda: "after-the-cut" in watch.all(), 60)
    finally:
        nft(kubernetes, f"delete table {table}")
        world.cluster.kubectl("delete", "pod", "after-the-cut", "--now", "--wait=false")
        watch.close()
        api.close()


def nft(kubernetes: Any, rules: str) -> None:
    subprocess.run([kubernetes.local.kubectl.with_name("nft"), "-f", "-"], input=rules, text=True, check=True)


# -- the control plane


@pytest.mark.parametrize("program", ["kube-apiserver", "etcd"])
def test_a_control_plane_that_starts_again_loses_and_doubles_nothing(kubernetes: Any, world: World, program: str) -> None:
    if kubernetes.local is None:
        pytest.skip("NO CONTROL PLANE IS KILLED: the cluster was given, and is not ours to kill")
    name = f"while-{program}"
    marks = world.cluster.home / "data" / name
    assert world.apply(world.deploy(name)).status == "done"
    world.apply(world.run(f"long-{program}", f"echo x >> {marks}; while ! test -e {marks}.go; do sleep 0.1; done"))
    wait_until(marks.exists)
    (pid,) = [pid for pid in cgroups.pids(kubernetes.local.index, "processes") if _program(pid) == program]
    os.kill(pid, 9)
    Path(f"{marks}.go").touch()
    rescale = world.change("rescale", f"{name}/api", {"role": "champion", "replicas": 2})
    after = world.run(f"after-{program}", f"echo x >> {marks}.after")
    outcomes = [world.apply(rescale), world.apply(after)]
    assert [outcome.status for outcome in outcomes] == ["done", "done"], outcomes
    wait_until(lambda: world.ready(name) == 2)
    for run in (world.ended(f"long-{program}"), world.ended(f"after-{program}")):
        assert (run.status, run.steps["work"].attempt) == ("succeeded", 1)
    assert marks.read_text() == Path(f"{marks}.after").read_text() == "x\n"
    assert [world.apply(rescale), world.apply(after)] == outcomes
    (deployment,) = world.objects("deployments", name)
    assert deployment["spec"]["replicas"] == 2
    world.gone(name)


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode().rpartition("/")[2]
    except (FileNotFoundError, ProcessLookupError):
        return ""
