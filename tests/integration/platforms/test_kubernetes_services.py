"""Online workflows on a real cluster: what happens to requests while replicas come, go, die and are replaced."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from autonomic.platforms.kubernetes.platform import KubernetesPlatform
from autonomic.seams.errors import Retryable
from autonomic.seams.plan import Change, Outcome


class World:
    """The platform with shorter words."""

    def __init__(self, cluster: Any, load: Any) -> None:
        self.cluster = cluster
        self.load = load

    @property
    def platform(self) -> KubernetesPlatform:
        return self.cluster.platform

    def apply(self, primitive: str, target: str, to: dict[str, Any]) -> Outcome:
        return self.cluster.apply(primitive, target, to)

    def deploy(self, name: str, **service: Any) -> Outcome:
        api = {"name": "api", "replicas": {"min": 1, "max": 3}, "log": False, "device_time": "10ms", **service}
        spec = {"type": "online", "services": [api]}
        document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}
        return self.apply("deploy", name, {"spec": document, "package": ""})

    def ready(self, name: str, role: str = "champion") -> int:
        service = self.platform.observe(f"{name}/api").service
        assert service is not None
        return service.roles[role].ready

    def pods(self, name: str, role: str) -> list[str]:
        chosen = f"autonomic.dev/workflow={name},autonomic.dev/role={role}"
        found = json.loads(self.cluster.kubectl("get", "pods", "-l", chosen, "-o", "json"))["items"]
        return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


@pytest.fixture(scope="module")
def world(light_cluster: Any, load: Any) -> Iterator[World]:
    world = World(light_cluster, load)
    yield world
    for name in ("steady", "broken", "real"):
        assert world.apply("delete", name, {}).status in ("done", "unchanged")


@pytest.fixture(scope="module")
def steady(world: World) -> str:
    """A light service with a champion and a backup; where it answers."""
    outcome = world.deploy("steady", model=world.cluster.model("one"), backup=world.cluster.model("spare"))
    assert outcome.status == "done", outcome.detail
    return world.platform.urls()["steady/api"]


def wait_until(condition: Callable[[], bool], within_seconds: float = 120) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_seconds, f"not within {within_seconds} s"
        time.sleep(0.02)
    return time.monotonic() - started


def test_no_request_is_lost_while_replicas_come_and_go(world: World, steady: str) -> None:
    with world.load(steady) as load:
        for replicas in (3, 1, 2, 1):
            assert world.apply("rescale", "steady/api", {"role": "champion", "replicas": replicas}).status == "done"
            took = wait_until(lambda replicas=replicas: world.ready("steady") == replicas)
            print(f"to {replicas} replicas: {took:.1f} s")
            load.wait(more=40)
        # those that go serve on for some seconds
        load.wait(more=300)
    assert set(load.answers) == {"200"}, load.answers


def test_no_request_is_lost_while_a_new_model_takes_over(world: World, steady: str) -> None:
    with world.load(steady) as load:
        outcome = world.apply("upgrade", "steady/api", {"models": {"champion": world.cluster.model("two")}})
        assert outcome.status == "done", outcome.detail
        # what was under way when it took over may still be answered by the old one, but nothing that begins afterwards
        with world.load(steady) as later:
            later.wait(more=40)
        assert world.apply("upgrade", "steady/api", outcome.before).status == "done"
    assert set(load.answers) == set(later.answers) == {"200"}, load.answers
    assert set(later.models) == {"two"}


def only_champions_answer(world: World, url: str) -> bool:
    with world.load(url) as sent:
        sent.wait(more=20)
    return not sent.models["spare"]


def test_services_answer_while_the_writer_is_away(world: World, steady: str) -> None:
    with world.load(steady) as load:
        world.cluster.restart()
        load.wait(more=20)
    assert set(load.answers) == {"200"}, load.answers
    wait_until(lambda: world.ready("steady") == 1)
    assert world.platform.urls()["steady/api"] == steady


def test_the_backup_answers_while_all_champions_are_dead(world: World, steady: str) -> None:
    world.apply("rescale", "steady/api", {"role": "champion", "replicas": 2})
    wait_until(lambda: world.ready("steady") == 2)
    with world.load(steady) as load:
        load.wait(more=20)
        cursor = world.platform.watch(0)[-1].cursor
        # its server dies, as a process that crashes does: nobody is told before
        for pod in world.pods("steady", "champion"):
            world.cluster.kubectl("delete", "pod", pod, "--force", "--grace-period=0", "--wait=false")
        wait_until(lambda: load.models["spare"] > 0)
        wait_until(lambda: world.ready("steady") == 2)
        # the front hears of it a moment later than the host
        wait_until(lambda: only_champions_answer(world, steady))
    lost = sum(count for answer, count in load.answers.items() if answer != "200")
    print(f"{lost} of {load.answers.total()} requests lost, {load.models['spare']} answered by the backup")
    assert lost <= 8

    def told() -> Counter[str]:
        return Counter(notice.kind for notice in world.platform.watch(cursor) if notice.target == "steady/api")

    wait_until(lambda: told()["replica_lost"] >= 2 and told()["replica_ready"] >= 2)
    world.apply("rescale", "steady/api", {"role": "champion", "replicas": 1})


def test_a_model_that_does_not_load_fails_and_the_old_one_goes_on(world: World, steady: str) -> None:
    broken = world.cluster.model("cracked")
    (Path(broken.removeprefix("file://")) / "broken").touch()
    with world.load(steady, threads=1) as load:
        outcome = world.apply("upgrade", "steady/api", {"models": {"champion": broken}})
    assert outcome.status == "failed"
    assert "cracked is broken" in outcome.detail
    assert set(load.answers) == {"200"}
    service = world.platform.observe("steady/api").service
    assert service is not None
    assert service.roles["champion"].model == world.cluster.model("one")
    # what was made for it is gone
    wait_until(lambda: len(world.cluster.kubectl("get", "deployments", "-l", "autonomic.dev/workflow=steady", "-o", "name").split()) == 2)


def test_what_kubernetes_cannot_give_is_said_and_taken_back(world: World) -> None:
    outcome = world.deploy("broken", model=world.cluster.model("one"), resources={"gpu": 0.5})
    assert outcome.status == "refused"
    assert "gives whole GPUs only" in outcome.detail
    assert world.platform.observe("broken").kind == "absent"


def test_without_a_shared_folder_no_step_is_sent_to_a_prediction_log(world: World, steady: str) -> None:
    step = {"name": "train", "command": ["true"]}
    spec = {"type": "batch", "parameters": {"points": ""}, "steps": [step]}
    document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "again"}, "spec": spec}
    to = {"run_id": "run-again", "workflow": "again", "spec": document, "parameters": {"points": "steady/api"}, "package": "", "cause": ""}
    settings = world.cluster.settings
    world.cluster.settings = settings.model_copy(update={"data_path": ""})
    world.cluster.restart()
    try:
        outcome = world.apply("retrain", "again", to)
        assert outcome.status == "refused"
        assert "data_path" in outcome.detail
        assert world.platform.run("run-again") is None
        # nor is there one for a drift detector to read
        refused = world.deploy("broken", model=world.cluster.model("one"), drift={"detector": "light_detector:LevelDetector"}, log=True)
        assert refused.status == "refused"
        assert "drift detector" in refused.detail
        assert world.platform.observe("broken").kind == "absent"
    finally:
        world.cluster.settings = settings
        world.cluster.restart()


def test_a_right_that_is_missing_is_named(world: World, steady: str) -> None:
    role = json.loads(world.cluster.kubectl("get", "role", "autonomic-host", "-o", "json"))
    less = [rule for rule in role["rules"] if rule["resources"] != ["poddisruptionbudgets"]]
    account = f"--as=system:serviceaccount:{world.cluster.settings.namespace}:host"

    def may() -> bool:
        try:
            world.cluster.kubectl("auth", "can-i", "patch", "poddisruptionbudgets", account)
        except AssertionError:  # it ends with 1 where the answer is no
            return False
        return True

    assert may()
    world.cluster.kubectl("patch", "role", "autonomic-host", "--type=merge", "-p", json.dumps({"rules": less}))
    try:
        # the API server hears of it a moment later
        wait_until(lambda: not may())
        outcome = world.deploy("broken", model=world.cluster.model("one"))
        assert outcome.status == "failed"
        for words in ("verb patch", "resource poddisruptionbudgets", "API group 'policy'"):
            assert words in outcome.detail
        assert world.platform.observe("broken").kind == "absent"
    finally:
        world.cluster.kubectl("patch", "role", "autonomic-host", "--type=merge", "-p", json.dumps({"rules": role["rules"]}))
        wait_until(may)


def test_objects_are_labelled_and_guarded_and_what_serves_has_no_owner(world: World, steady: str) -> None:
    found = json.loads(world.cluster.kubectl("get", "deployments,services,pdb", "-l", "autonomic.dev/workflow=steady", "-o", "json"))
    kinds = [item["kind"] for item in found["items"]]
    assert sorted(set(kinds)) == ["Deployment", "PodDisruptionBudget", "Service"]
    assert kinds.count("Deployment") == 2
    for item in found["items"]:
        assert item["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "autonomic"
        owners = [owner["kind"] for owner in item["metadata"].get("ownerReferences", [])]
        assert owners == ([] if item["kind"] == "Deployment" else ["Deployment"])


def test_replicas_are_named_for_prometheus(world: World, steady: str) -> None:
    (group,) = [
        group
        for group in world.platform.scrape_targets()
        if group["labels"]["workflow"] == "steady" and group["labels"]["role"] == "backup"
    ]
    assert group["labels"]["replica"] in world.pods("steady", "backup")
    assert httpx.get(f"http://{group['targets'][0]}/metrics", trust_env=False, timeout=5).status_code == 200
    assert 'autonomic_replicas{workflow="steady",service="api",role="backup",state="ready"} 1' in world.platform.host.metrics()


def test_somebody_else_who_scales_is_noticed(world: World, steady: str) -> None:
    cursor = world.platform.watch(0)[-1].cursor
    (name,) = world.cluster.kubectl(
        "get", "deployments", "-l", "autonomic.dev/workflow=steady,autonomic.dev/role=backup", "-o", "jsonpath={.items[*].metadata.name}"
    ).split()
    world.cluster.kubectl("scale", "deployment", name, "--replicas=2")
    wait_until(lambda: any(notice.kind == "outside_write" for notice in world.platform.watch(cursor)))
    (notice,) = [notice for notice in world.platform.watch(cursor) if notice.kind == "outside_write"]
    assert (notice.target, notice.data["replicas"], notice.data["writer"]) == ("steady/api", 2, "kubectl")
    # what we want again is done, and is ours again
    assert world.apply("rescale", "steady/api", {"role": "backup", "replicas": 2}).status == "done"
    assert world.apply("rescale", "steady/api", {"role": "backup", "replicas": 1}).status == "done"
    wait_until(lambda: len(world.pods("steady", "backup")) == 1)


def test_a_writer_that_was_taken_over_changes_nothing(world: World, steady: str, tmp_path: Path) -> None:
    old = world.platform
    new = KubernetesPlatform(world.cluster.settings.model_copy(update={"home": tmp_path}))
    try:
        rescale = Change(key="taken.1", primitive="rescale", target="steady/api", to={"role": "champion", "replicas": 2})
        assert new.apply(rescale, 1).status == "done"
        stale = Change(key="stale.1", primitive="rescale", target="steady/api", to={"role": "champion", "replicas": 3})
        for _ in range(2):
            with pytest.raises(Retryable, match="taken over"):
                old.apply(stale, 1)
        # also where it had looked at everything before it was frozen, and goes on with its effect
        with pytest.raises(Retryable, match="taken over"):
            old.host.services.perform(stale)
        assert old.host.lost
        service = new.observe("steady/api").service
        assert service is not None
        assert service.roles["champion"].wanted == 2
        assert new.lookup("stale.1") is None
        chosen = "autonomic.dev/workflow=steady,autonomic.dev/role=champion"
        assert world.cluster.kubectl("get", "deployments", "-l", chosen, "-o", "jsonpath={.items[*].spec.replicas}") == "2"
    finally:
        new.close()
        new.host.stop_front()
        world.cluster.restart()
    assert world.apply("rescale", "steady/api", {"role": "champion", "replicas": 1}).status == "done"


class Proxy:
    """A way to the API server that can be closed and opened."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.closed:
                near.close()
                continue
            far = socket.create_connection(self._to)
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        self.closed = True
        for each in self._open:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def end(self) -> None:
        self.close()
        self._listener.close()
        time.sleep(0.2)
        for each in self._open:
            each.close()


def test_an_api_server_that_is_away_stops_changes_and_no_requests(world: World, steady: str, tmp_path: Path) -> None:
    config = yaml.safe_load(Path(world.cluster.settings.kubeconfig).read_text())
    cluster = config["clusters"][0]["cluster"]
    host, _, port = cluster["server"].removeprefix("https://").partition(":")
    proxy = Proxy(host, int(port))
    cluster["server"] = f"https://127.0.0.1:{proxy.port}"
    cluster["tls-server-name"] = host
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    world.platform.close()
    world.cluster.platform = KubernetesPlatform(world.cluster.settings.model_copy(update={"kubeconfig": str(tmp_path / "kubeconfig")}))
    revision = world.platform.observe("steady/api").revision
    change = Change(key="away.1", primitive="rescale", target="steady/api", to={"role": "champion", "replicas": 2}, expect=revision)
    with world.load(steady) as load:
        proxy.close()
        with pytest.raises(Retryable, match="does not answer"):
            world.platform.apply(change, 1)
        assert world.platform.observe("steady/api").revision == revision
        assert world.platform.lookup(change.key) is None
        (pod,) = world.pods("steady", "champion")
        proxy.closed = False
        assert world.platform.apply(change, 1).status == "done"
        # the watches have found the way back as well
        wait_until(lambda: world.ready("steady") == 2)
    assert set(load.answers) == {"200"}, load.answers
    assert pod in world.pods("steady", "champion")
    world.cluster.restart()
    proxy.end()
    assert world.apply("rescale", "steady/api", {"role": "champion", "replicas": 1}).status == "done"


def test_a_real_model_from_the_registry_is_served_and_logged(
    kubernetes: Any, world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import torch

    from autonomic.cli.embedded.mlflow_server import MlflowServer
    from autonomic.workflows.registry.register import register_model
    from autonomic.workflows.serving.model import save_model
    from autonomic.workflows.serving.predictions import Label

    home = tmp_path_factory.mktemp("real")
    server = MlflowServer.start(home / "mlflow", address=kubernetes.host_address)
    world.platform.close()
    settings = world.cluster.settings
    try:
        world.cluster.settings = settings.model_copy(update={"mlflow_url": server.url, "service_token": "a token of callers"})
        world.cluster.platform = KubernetesPlatform(world.cluster.settings)
        folder = save_model(
            torch.nn.Linear(4, 3),
            home / "tiny",
            architecture="torch.nn:Linear",
            kwargs={"in_features": 4, "out_features": 3},
            inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            outputs=[{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
            postprocess="classifier",
        )
        version = register_model(server.url, folder, "tiny", alias="champion")
        refused = world.deploy("real", model="models:/tiny@nobody")
        assert refused.status == "refused"
        outcome = world.deploy("real", model="models:/tiny@champion", log=True, token=True)
        assert outcome.status == "done", outcome.detail
        service = world.platform.observe("real/api").service
        assert service is not None
        assert service.roles["champion"].model == f"models:/tiny/{version}"
        url = f"{world.platform.urls()['real/api']}/v2/models/api/infer"
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1.0] * 4}]}
        assert httpx.post(url, json=body, trust_env=False, timeout=30).status_code == 401
        answer = httpx.post(url, json=body, headers={"Authorization": "Bearer a token of callers"}, trust_env=False, timeout=30)
        assert answer.status_code == 200, answer.text
        assert world.platform.host.predictions("real", "api").is_file()
        label = Label(prediction_id=answer.json()["parameters"]["prediction_ids"], label=2, time=time.time())
        told = world.platform.host.labels("real", "api", [label])
        assert told is not None
        assert told["added"] == 1
        assert world.apply("delete", "real", {}).status == "done"
    finally:
        world.cluster.settings = settings
        world.cluster.restart()
        server.stop()
