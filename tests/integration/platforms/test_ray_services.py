"""Real models from a real registry behind the front, on a real cluster: what happens to requests while the host acts."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from autonomic.seams.plan import Change, Outcome


class World:
    """The host with shorter words."""

    def __init__(self, host: Any, load: Any) -> None:
        self.host = host
        self.load = load
        self.platform = host.platform
        self._keys = 0

    def apply(self, primitive: str, target: str, to: dict[str, Any]) -> Outcome:
        self._keys += 1
        return self.platform.apply(Change(key=f"services.{self._keys}", primitive=primitive, target=target, to=to), 1)

    def deploy(self, name: str, **service: Any) -> Outcome:
        api = {"name": "api", "replicas": {"min": 1, "max": 3}, "log": False, "device_time": "10ms", **service}
        spec = {"type": "online", "services": [api]}
        document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}
        return self.apply("deploy", name, {"spec": document, "package": ""})

    def ready(self, name: str, role: str = "champion") -> int:
        return self.platform.observe(f"{name}/api").service.roles[role].ready

    def pids(self, name: str, role: str) -> list[int]:
        return self.host.call("replica_pids", name, "api", role)


@pytest.fixture(scope="module")
def world(light_host: Any, load: Any) -> Iterator[World]:
    world = World(light_host, load)
    yield world
    for name in ("steady", "tiny", "broken"):
        assert world.apply("delete", name, {}).status in ("done", "unchanged")


@pytest.fixture(scope="module")
def steady(world: World) -> str:
    """A light service with a champion and a backup; where it answers."""
    outcome = world.deploy("steady", model=world.host.model("one"), backup=world.host.model("spare"))
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
            wait_until(lambda replicas=replicas: world.ready("steady") == replicas)
            load.wait(more=40)
    assert set(load.answers) == {"200"}, load.answers


def test_no_request_is_lost_while_a_new_model_takes_over(world: World, steady: str) -> None:
    with world.load(steady) as load:
        outcome = world.apply("upgrade", "steady/api", {"models": {"champion": world.host.model("two")}})
        assert outcome.status == "done", outcome.detail
        # what was under way when it took over may still be answered by the old one, but nothing that begins afterwards
        with world.load(steady) as later:
            later.wait(more=40)
    assert set(load.answers) == set(later.answers) == {"200"}, load.answers
    assert set(later.models) == {"two"}
    assert world.apply("upgrade", "steady/api", outcome.before).status == "done"


def test_services_answer_while_the_host_is_away(world: World, steady: str) -> None:
    with world.load(steady) as load:
        world.host.kill()
        load.wait(more=20)
        world.host.wait()
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
        for pid in world.pids("steady", "champion"):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: load.models["spare"] > 0)
        wait_until(lambda: world.ready("steady") == 2)
        with world.load(steady) as later:
            later.wait(more=40)
        assert set(later.models) == {"one"}
    lost = sum(count for answer, count in load.answers.items() if answer != "200")
    print(f"{lost} of {load.answers.total()} requests lost, {load.models['spare']} answered by the backup")
    assert lost <= 4

    def told() -> list[str]:
        kinds = [notice.kind for notice in world.platform.watch(cursor) if notice.target == "steady/api"]
        return sorted(kind for kind in kinds if kind.startswith("replica_"))

    wait_until(lambda: told() == ["replica_lost"] * 2 + ["replica_ready"] * 2)
    world.apply("rescale", "steady/api", {"role": "champion", "replicas": 1})


def test_a_standby_replica_serves_at_once(world: World, steady: str) -> None:
    # one that an earlier test gave up and that still ends would be taken for the standby
    wait_until(lambda: len(world.pids("steady", "champion")) == 1)
    outcome = world.deploy(
        "steady", model=world.host.model("one"), backup=world.host.model("spare"), replicas={"min": 1, "max": 3, "standby": 1}
    )
    assert outcome.status == "done"
    wait_until(lambda: 'autonomic_replicas{workflow="steady",service="api",role="champion",state="standby"} 1' in metrics(world))
    world.apply("rescale", "steady/api", {"role": "champion", "replicas": 2})
    # nobody waits for a replica here: one that had to be started would not be ready yet
    assert world.ready("steady") == 2
    world.apply("rescale", "steady/api", {"role": "champion", "replicas": 1})


def test_a_model_that_does_not_load_fails_and_the_old_one_goes_on(world: World, steady: str) -> None:
    broken = world.host.model("cracked")
    (Path(broken.removeprefix("file://")) / "broken").touch()
    with world.load(steady, threads=1) as load:
        outcome = world.apply("upgrade", "steady/api", {"models": {"champion": broken}})
    assert outcome.status == "failed"
    assert "cracked is broken" in outcome.detail
    assert set(load.answers) == {"200"}
    assert world.platform.observe("steady/api").service.roles["champion"].model == world.host.model("one")


def metrics(world: World) -> str:
    return httpx.get(f"{world.host.settings.url}/metrics", trust_env=False).text


def test_only_the_token_opens_the_host(world: World) -> None:
    url = world.host.settings.url
    for path in ("/healthz", "/metrics"):
        assert httpx.get(url + path, trust_env=False).status_code == 200
    for path in ("/v1/sd", "/v1/state/steady", "/v1/runs", "/v1/watch"):
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answer = httpx.get(url + path, headers=headers, trust_env=False)
            assert answer.status_code == 401
            assert answer.headers["content-type"] == "application/problem+json"
    assert httpx.post(f"{url}/v1/apply", content=b"{", trust_env=False).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/apply", b"{", 422),
        ("POST", "/v1/apply", b'{"change": {}, "fence": 1}', 422),
        ("POST", "/v1/apply", b" " * (5 * 2**20), 413),
        ("POST", "/v1/packages", b"this is no zip file", 409),
        ("POST", "/v1/labels/steady/api", b'[{"prediction_id": 3}]', 422),
        ("POST", "/v1/labels/no/such", b"[]", 404),
        ("POST", "/v1/searches", b"[]", 422),
        ("POST", "/v1/searches", b"\xff", 422),
        ("POST", "/v1/searches", b"[" * 100_000, 422),
        ("POST", "/v1/apply", b'{"change": "\\ud800"}', 422),
        ("POST", "/v1/searches/none:stop", b"", 404),
        ("GET", "/v1/outcomes/none", None, 404),
        ("GET", "/v1/runs/none", None, 404),
        ("GET", "/v1/runs/none/steps/none/log", None, 404),
        ("GET", "/v1/watch?cursor=x", None, 422),
        ("GET", "/v1/drift/no/such", None, 404),
        ("GET", "/v1/points/steady/api?state=odd", None, 422),
        ("GET", "/nothing", None, 404),
        ("DELETE", "/v1/runs", None, 405),
    ],
)
def test_bad_requests_are_the_callers_fault(world: World, method: str, path: str, content: bytes | None, status: int) -> None:
    headers = {"Authorization": f"Bearer {world.host.settings.token}"}
    answer = httpx.request(method, world.host.settings.url + path, content=content, headers=headers, trust_env=False, timeout=30)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_a_registered_model_is_served_logged_and_watched_for_drift(world: World, tmp_path: Path) -> None:
    import torch

    from autonomic.workflows.registry.register import register_model
    from autonomic.workflows.serving.model import save_model

    tensor = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    logits = [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
    folder = save_model(
        torch.nn.Linear(4, 3),
        tmp_path / "tiny",
        architecture="torch.nn:Linear",
        kwargs={"in_features": 4, "out_features": 3},
        inputs=tensor,
        outputs=logits,
        postprocess="classifier",
    )
    version = register_model(world.host.settings.mlflow_url, folder, "tiny", alias="champion")

    for uri, why in (("models:/tiny@nobody", "nobody"), ("models:/tiny/99", "99"), ("models:/never@champion", "never")):
        refused = world.deploy("tiny", model=uri)
        assert refused.status == "refused"
        assert why in refused.detail

    drift = {"detector": "light_detector:LevelDetector", "every": "200ms", "with": {"level": 5.0}}
    outcome = world.deploy("tiny", model="models:/tiny@champion", log=True, drift=drift)
    assert outcome.status == "done", outcome.detail
    assert world.platform.observe("tiny/api").service.roles["champion"].model == f"models:/tiny/{version}"

    url = world.platform.urls()["tiny/api"]

    def infer(value: float, **headers: str) -> httpx.Response:
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [value] * 4}]}
        return httpx.post(f"{url}/v2/models/api/infer", json=body, headers=headers, trust_env=False, timeout=30)

    assert infer(1.0).status_code == 200

    def said(name: str) -> float:
        return (world.platform.drift("tiny", "api") or {"values": {}})["values"].get(name, -1.0)

    wait_until(lambda: said("seen") == 1.0)
    assert said("drifted") == 0.0
    assert world.platform.points("tiny", "api") == []
    assert infer(9.0).status_code == 200
    wait_until(lambda: said("picked") == 1 and said("drifted") == 1.0)
    (point,) = world.platform.points("tiny", "api", "unlabelled")
    told = world.platform.add_labels("tiny", "api", [{"prediction_id": point["prediction_id"], "label": 2, "time": time.time()}])
    assert told["added"] == 1
    wait_until(lambda: said("labelled") == 1)
    assert world.platform.points("tiny", "api", "unlabelled") == []

    (group,) = [group for group in world.host.platform.scrape_targets() if group["labels"]["workflow"] == "tiny"]
    assert group["labels"] | {"replica": "", "node": ""} == {
        "workflow": "tiny",
        "service": "api",
        "role": "champion",
        "replica": "",
        "node": "",
    }
    exposed = httpx.get(f"http://{group['targets'][0]}/metrics", trust_env=False).text
    assert "autonomic_request_duration_seconds_bucket" in exposed

    # without drift: nobody watches any more; with a token: nobody is answered without one
    assert world.deploy("tiny", model="models:/tiny@champion", log=True, token=True).status == "done"
    assert infer(1.0).status_code == 401
    assert infer(1.0, Authorization="Bearer for-services").status_code == 200
    import ray

    def watched() -> bool:
        try:
            ray.get_actor("drift-tiny--api", "autonomic")
        except ValueError:
            return False
        return True

    wait_until(lambda: not watched())
