"""What is declared runs, whatever somebody deletes or changes by hand on a real cluster."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from autonomic.seams.errors import Retryable


class Declared:
    """A light service with one champion, and what the cluster has of it."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.name = "declared"

    @property
    def document(self) -> dict[str, Any]:
        api = {
            "name": "api",
            "model": self.cluster.model("one"),
            "replicas": {"min": 1, "max": 3},
            "log": False,
            "resources": {"cpu": 0.01},
        }
        spec = {"type": "online", "services": [api]}
        return {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": self.name}, "spec": spec}

    def deploy(self) -> Any:
        return self.cluster.apply("deploy", self.name, {"spec": self.document, "package": ""})

    @property
    def url(self) -> str:
        return self.cluster.platform.urls()[f"{self.name}/api"]

    def objects(self, kinds: str) -> list[dict[str, Any]]:
        found = json.loads(self.cluster.kubectl("get", kinds, "-l", f"autonomic.dev/workflow={self.name}", "-o", "json"))["items"]
        return [item for item in found if "deletionTimestamp" not in item["metadata"]]

    def deployment(self) -> dict[str, Any]:
        (found,) = self.objects("deployments")
        return found

    def ready(self) -> int:
        service = self.cluster.platform.observe(f"{self.name}/api").service
        return 0 if service is None else service.roles["champion"].ready


@pytest.fixture(scope="module")
def declared(light_cluster: Any) -> Iterator[Declared]:
    made = Declared(light_cluster)
    outcome = made.deploy()
    assert outcome.status == "done", outcome.detail
    yield made
    assert light_cluster.apply("delete", made.name, {}).status == "done"
    eventually(lambda: made.objects("deployments,services,poddisruptionbudgets") == [], "nothing is left")


def eventually(condition: Callable[[], bool], what: str, within_seconds: float = 120) -> None:
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            if condition():
                return
        except Retryable:
            pass
        assert time.monotonic() < deadline, f"{what}: not within {within_seconds:g} s"
        time.sleep(0.1)


def test_a_service_lives_on_while_all_config_maps_and_secrets_are_deleted(declared: Declared, load: Any) -> None:
    before = declared.deployment()["metadata"]["uid"]
    store = ("get", "configmaps", "-l", "autonomic.dev/store", "-o", "name")
    kept = set(declared.cluster.kubectl(*store).split())
    with load(declared.url) as sent:
        declared.cluster.kubectl("delete", "configmaps", "--all")
        declared.cluster.kubectl("delete", "secret", "autonomic-registry")
        eventually(lambda: kept <= set(declared.cluster.kubectl(*store).split()), "the memory is written again")
        eventually(lambda: "autonomic-registry" in declared.cluster.kubectl("get", "secrets", "-o", "name"), "the Secret is there again")
        sent.wait(100)
    assert set(sent.answers) == {"200"}, sent.answers
    assert declared.deployment()["metadata"]["uid"] == before
    # and it is the memory: a writer that comes now knows all of it
    revision = declared.cluster.platform.observe("declared/api").revision
    declared.cluster.restart()
    assert declared.cluster.platform.observe("declared/api").revision == revision
    eventually(lambda: declared.ready() == 1, "the new writer sees that it runs")
    assert declared.deploy().status == "unchanged"


def test_what_is_deleted_by_hand_comes_back_and_says_that_it_was_gone(declared: Declared) -> None:
    platform = declared.cluster.platform
    cursor = platform.watch(0)[-1].cursor
    name = declared.deployment()["metadata"]["name"]
    declared.cluster.kubectl("delete", "deployment", name)
    eventually(lambda: declared.ready() == 1 and len(declared.objects("deployments")) == 1, "it serves again")
    eventually(lambda: len(declared.objects("services,poddisruptionbudgets")) == 2, "what goes with it is there again")
    eventually(lambda: not platform.observe("declared/api").differs, "nothing differs any more")

    def kinds() -> list[str]:
        return [notice.kind for notice in platform.watch(cursor) if notice.target == "declared/api"]

    eventually(lambda: "converged" in kinds(), "it is reported that it converged")
    assert kinds().index("drifted") < kinds().index("converged")
    events = ("get", "events", "--field-selector", "reason=Drifted", "-o", "jsonpath={..message}")
    eventually(lambda: "1 replica declared, found nothing" in declared.cluster.kubectl(*events), "an Event says so")


def test_what_is_changed_by_hand_is_put_right(declared: Declared) -> None:
    name = declared.deployment()["metadata"]["name"]
    image = declared.deployment()["spec"]["template"]["spec"]["containers"][0]["image"]
    platform = declared.cluster.platform
    cursor = platform.watch(0)[-1].cursor
    declared.cluster.kubectl("scale", "deployment", name, "--replicas=3")

    def drifted() -> list[tuple[str, str]]:
        found = [one.data for one in platform.watch(cursor) if (one.kind, one.target) == ("drifted", "declared/api")]
        return [(one["actual"], one["why"]) for one in found]

    eventually(lambda: ("3 replicas", "scaled by kubectl") in drifted(), "who scaled it is named")
    eventually(lambda: declared.deployment()["spec"]["replicas"] == 1, "the number is as declared")
    declared.cluster.kubectl("set", "image", f"deployment/{name}", "replica=not.there/at-all:9")

    def is_right() -> bool:
        return declared.deployment()["spec"]["template"]["spec"]["containers"][0]["image"] == image

    eventually(is_right, "the image is as declared")
    # also what was changed while nobody looked
    declared.cluster.platform.close()
    declared.cluster.kubectl("set", "image", f"deployment/{name}", "replica=not.there/at-all:9")
    declared.cluster.start()
    eventually(lambda: is_right() and declared.ready() == 1, "a writer that comes later puts it right")


def test_a_replica_that_hangs_for_good_is_replaced_although_its_model_never_returns(declared: Declared) -> None:
    (before,) = declared.objects("pods")
    asked = httpx.post(f"{declared.url}/v2/models/api/infer", json={"x": "hang"}, timeout=30, trust_env=False)
    assert asked.status_code == 200, asked.text

    def container() -> dict[str, Any]:
        (now,) = declared.objects("pods")
        assert now["metadata"]["name"] == before["metadata"]["name"]
        return now["status"]["containerStatuses"][0]

    eventually(lambda: container()["restartCount"] == 1 and container()["ready"], "its container is started again")
    assert "one batch has been in the model for 30 s" in container()["lastState"]["terminated"]["message"]
    eventually(lambda: declared.ready() == 1, "it serves again")


def test_no_answer_says_done_or_unchanged_of_what_does_not_run(declared: Declared) -> None:
    """The pods cannot start; the platform's own words say why, and it is over when they can."""
    name = declared.deployment()["metadata"]["name"]
    declared.cluster.kubectl("create", "quota", "none", "--hard=pods=0")
    try:
        declared.cluster.kubectl("delete", "deployment", name)
        eventually(lambda: declared.ready() == 0, "it does not run")

        def why() -> str:
            service = declared.cluster.platform.observe("declared/api").service
            return service.roles["champion"].why if service is not None else ""

        eventually(lambda: "exceeded quota: none" in why(), "the role says why")
        with ThreadPoolExecutor(1) as pool:
            deploying = pool.submit(declared.deploy)
            eventually(
                lambda: any("exceeded quota: none" in one for one in declared.cluster.platform.observe("declared/api").differs),
                "what differs says what the deploy waits for",
            )
            assert not deploying.done(), deploying.result()
            declared.cluster.kubectl("delete", "quota", "none")
            outcome = deploying.result(240)
        assert outcome.status == "done", outcome.detail
    finally:
        declared.cluster.kubectl("delete", "quota", "none", "--ignore-not-found")
    eventually(lambda: declared.ready() == 1, "it serves again by itself", 180)


def test_a_service_that_somebody_spread_does_not_keep_a_node_from_being_drained(declared: Declared) -> None:
    cluster = declared.cluster
    assert cluster.apply("rescale", "declared/api", {"role": "champion", "replicas": 2}).status == "done"
    eventually(lambda: declared.ready() == 2, "two replicas are ready")
    outcome = cluster.apply("reschedule", "declared/api", {"placement": {"spread": "node"}})
    assert outcome.status == "done", outcome.detail
    (node,) = {pod["spec"]["nodeName"] for pod in declared.objects("pods")[:1]}
    run = cluster._run_kubectl
    try:
        run("drain", node, f"--pod-selector=autonomic.dev/workflow={declared.name}", "--timeout=120s", "--delete-emptydir-data")
        assert node not in {pod["spec"]["nodeName"] for pod in declared.objects("pods")}
        eventually(lambda: declared.ready() == 2, "both serve elsewhere")
    finally:
        run("uncordon", node)


def test_a_step_waits_where_a_quota_leaves_no_room_for_its_job_and_says_why(declared: Declared) -> None:
    cluster = declared.cluster
    step = {"name": "work", "command": ["true"], "resources": {"cpu": 0.01}}
    document = {
        "apiVersion": "autonomic.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": "waits"},
        "spec": {"type": "batch", "steps": [step]},
    }
    cluster.kubectl("create", "quota", "no-jobs", "--hard=count/jobs.batch=0")
    try:
        for run in ("run-waits", "run-stops"):
            to = {"run_id": run, "workflow": "waits", "spec": document, "parameters": {}, "package": "", "cause": ""}
            assert cluster.apply("run", "waits", to).status == "done"

        def detail(run: str) -> str:
            return cluster.platform.run(run).steps["work"].detail

        eventually(
            lambda: all("exceeded quota: no-jobs" in detail(run) for run in ("run-waits", "run-stops")), "the steps say what they wait for"
        )
        # one that waits is stopped as any other, and does not come later
        assert cluster.apply("stop", "waits", {"run_ids": ["run-stops"]}).status == "done"
    finally:
        cluster.kubectl("delete", "quota", "no-jobs")
    eventually(lambda: cluster.platform.run("run-waits").status == "succeeded", "the step runs when there is room")
    assert cluster.platform.run("run-waits").steps["work"].attempt == 1
    assert cluster.platform.run("run-stops").status == "stopped"
    assert "run-stops" not in cluster.kubectl("get", "jobs", "-o", "name")
