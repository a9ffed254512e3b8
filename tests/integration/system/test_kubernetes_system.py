"""The whole system with its workflows on a Kubernetes cluster, with the command line only."""

import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from autonomic.agents.auth import Tokens
from autonomic.agents.settings import Settings
from autonomic.platforms.host.client import HostPlatform
from autonomic.workflows.apps.mnist import data as mnist

EXAMPLES = Path(__file__).parents[3] / "examples"
Succeeds = Callable[..., str]
Eventually = Callable[..., Any]

GROWING = """
apiVersion: autonomic.dev/v1alpha1
kind: Workflow
metadata: {{name: growing}}
spec: {{type: online, services: [{{name: api, model: "{model}", replicas: {{min: 1, max: 3}}, log: false}}]}}
---
apiVersion: autonomic.dev/v1alpha1
kind: Strategy
metadata: {{name: never-alone}}
spec:
  target: growing/api
  on: {{every: 500ms}}
  readings: {{ready: {{platform: ready_replicas}}}}
  when: ready == 1
  do: [{{rescale: {{to: 2}}}}]
  verify: {{that: ready == 2, within: 60s, else: keep}}
  guard: {{autonomy: auto}}
"""


STRATEGIES = Path(__file__).parents[3] / "strategies"
LIBRARY = STRATEGIES / "kubernetes"
BATCH = """
apiVersion: autonomic.dev/v1alpha1
kind: Workflow
metadata: {{name: hungry}}
spec:
  type: batch
  steps:
    - name: eat
      command: [{python}, -c, "x = bytearray(150 * 2**20)"]
      resources: {{cpu: 0.1, memory: 128Mi, max: {{memory: 256Mi}}}}
      retries: {{limit: 3, backoff: 6s}}
---
apiVersion: autonomic.dev/v1alpha1
kind: Workflow
metadata: {{name: homeless}}
spec: {{type: batch, steps: [{{name: wait, command: ["true"], resources: {{cpu: 900}}}}]}}
---
"""


APART = """
apiVersion: autonomic.dev/v1alpha1
kind: Workflow
metadata: {{name: slow}}
spec: {{type: online, services: [{{name: api, model: "{model}", device_time: 400ms, max_in_flight: 4, log: false}}]}}
---
apiVersion: autonomic.dev/v1alpha1
kind: Workflow
metadata: {{name: crunch}}
spec:
  type: batch
  steps:
    - name: work
      command:
        - sh
        - -c
        - |
          echo x >> {marks}
          test $(wc -l < {marks}) -gt 1 && exit 0
          until test -e {marks}.go; do sleep 0.2; done
          exit 1
      resources: {{cpu: 0.1}}
      retries: {{limit: 1, backoff: 100ms}}
---
"""
REQUIRED = """
apiVersion: autonomic.dev/v1alpha1
kind: Workflow
metadata: {{name: required}}
spec: {{type: online, services: [{{name: api, model: "{model}", replicas: {{min: 1, max: 3}}, log: false}}]}}
---
"""
SAVED = """
apiVersion: autonomic.dev/v1alpha1
kind: Workflow
metadata: {{name: saved}}
spec: {{type: online, services: [{{name: api, model: "{model}", backup: "{model}", replicas: {{min: 1, max: 3}}, log: false}}]}}
---
"""
SPREAD = """
apiVersion: autonomic.dev/v1alpha1
kind: Workflow
metadata: {{name: spread}}
spec: {{type: online, services: [{{name: api, model: "{model}", replicas: {{min: 2, max: 2}}, log: false}}]}}
---
"""


@pytest.fixture(scope="module")
def light(installation: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = installation(tmp_path_factory.mktemp("system"))
    # the right that docs/kubernetes.md asks for where nodes are watched
    name = f"nodes-{made.settings.namespace}"
    made._run_kubectl("create", "clusterrole", name, "--verb=list,watch", "--resource=nodes")
    account = f"--serviceaccount={made.settings.namespace}:host"
    made._run_kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", account)
    yield made
    made._run_kubectl("delete", "clusterrolebinding", name)
    made._run_kubectl("delete", "clusterrole", name)
    made.remove()


@pytest.fixture(scope="module")
def home(light: Any, kubernetes: Any, typed: Callable[..., Any]) -> Iterator[Path]:
    """A home whose system is up, and runs workflows on the cluster."""
    settings = light.settings.model_copy(update={"host_address": kubernetes.host_address})
    told = light.home / "cluster.yaml"
    told.write_text(yaml.safe_dump(json.loads(settings.model_dump_json(exclude={"home", "service_token"}))))
    try:
        up = typed(light.home, "up", "--detach", "--platform", "kubernetes", "--cluster", str(told))
        assert up.returncode == 0, f"{up.stdout}\n{up.stderr}\n{(light.home / 'logs' / 'up.log').read_text()}"
        yield light.home
    finally:
        down = typed(light.home, "down")
    assert down.returncode == 0, f"{down.stdout}\n{down.stderr}"


def test_the_hello_workflow_runs_on_the_cluster(light: Any, succeeds: Succeeds) -> None:
    succeeds("apply", f"{EXAMPLES}/hello")
    printed = succeeds("run", "hello", "--wait", "--param", "words=300")
    assert "most_common" in printed
    assert "writing 300 words" in succeeds("logs", "hello", "write")
    assert len(light.kubectl("get", "jobs", "-l", "autonomic.dev/workflow=hello", "-o", "name").split()) == 3


def test_a_strategy_scales_a_service_on_the_cluster(
    light: Any, home: Path, succeeds: Succeeds, eventually: Eventually, tmp_path: Path
) -> None:
    (tmp_path / "growing.yaml").write_text(GROWING.format(model=light.model("growing")))
    succeeds("apply", str(tmp_path))
    chosen = "autonomic.dev/workflow=growing"
    eventually(
        lambda: light.kubectl("get", "deployments", "-l", chosen, "-o", "jsonpath={.items[*].status.readyReplicas}") == "2",
        "two replicas are ready",
    )
    settings = Settings.load(home)
    url = f"{settings.front_url}/growing/api/v2/models/api/infer"
    assert httpx.post(url, json={}, trust_env=False).json()["role"] == "champion"

    def seen() -> bool:
        answer = httpx.get(f"{settings.prometheus_url}/api/v1/query", params={"query": "up{job='services', workflow='growing'}"})
        return [each["value"][1] for each in answer.json()["data"]["result"]] == ["1", "1"]

    eventually(seen, "Prometheus scrapes both pods")
    decisions = json.loads(succeeds("decisions", "--strategy", "never-alone", "--output", "json"))
    # it may have looked again, and found that all was well
    assert any("rescale the champion of growing/api to 2" in succeeds("explain", each["id"]) for each in decisions)


def test_a_workload_of_somebody_else_is_adopted_scaled_and_released_by_hand(
    light: Any, home: Path, typed: Callable[..., Any], succeeds: Succeeds, eventually: Eventually
) -> None:
    make = ("create", "deployment", "lent", "--image=autonomic.local/host:1", "--", "sleep", "600")
    adopt = ("adopt", "lent", "--as", "legacy", "--min", "1", "--max", "5")
    about = ("get", "events", "--field-selector", "involvedObject.name=lent", "-o")

    def replicas() -> str:
        return light.kubectl("get", "deployment", "lent", "-o", "jsonpath={.spec.replicas}")

    light.kubectl(*make)
    succeeds(*adopt)
    succeeds("do", "rescale", "legacy/lent", "to=2")
    assert replicas() == "2"
    # one that is made again is another object, of which nothing is ours yet
    light.kubectl("delete", "deployment", "lent")
    eventually(lambda: "adopted; there is no deployment lent" in typed(home, "status").stdout, "status says that it is gone")
    light.kubectl(*make)
    succeeds("do", "rescale", "legacy/lent", "to=2")
    assert replicas() == "2"
    # who changes it after us is respected until it is adopted again
    light.kubectl("scale", "deployment", "lent", "--replicas=4")
    refused = typed(home, "do", "rescale", "legacy/lent", "to=3")
    assert refused.returncode != 0
    assert "kubectl changed spec.replicas" in refused.stdout + refused.stderr
    assert replicas() == "4"
    succeeds(*adopt)
    succeeds("do", "rescale", "legacy/lent", "to=3")
    succeeds("release", "legacy/lent")
    assert replicas() == "3"
    eventually(lambda: {"Adopted", "Rescale", "Released"} <= set(light.kubectl(*about, "jsonpath={..reason}").split()), "Events say so")
    light.kubectl("delete", "deployment", "lent")


def test_the_shipped_strategies_double_the_memory_of_a_step_and_explain_a_pending_pod(
    light: Any, succeeds: Succeeds, eventually: Eventually, tmp_path: Path
) -> None:
    doubles = (LIBRARY / "double-memory.yaml").read_text().replace("mnist-training/train", "hungry/eat")
    explains = (LIBRARY / "explain-pending.yaml").read_text().partition("---")[0].replace("mnist-training", "homeless")
    (tmp_path / "batch.yaml").write_text(BATCH.format(python=sys.executable) + doubles + "---\n" + explains)
    succeeds("apply", str(tmp_path))
    succeeds("run", "hungry", "--wait")
    # what happened before the monitor looked for the first time is no news
    succeeds("run", "homeless")
    jobs = json.loads(light.kubectl("get", "jobs", "-l", "autonomic.dev/workflow=hungry", "-o", "json"))["items"]
    made = sorted(jobs, key=lambda job: job["metadata"]["name"])
    limits = [job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] for job in made]
    # an attempt that ended before anybody listened is made again as it was
    assert limits[0] == "134217728"
    assert limits[-1] == "268435456"
    assert set(limits) == {limits[0], limits[-1]}
    assert json.loads(succeeds("decisions", "--strategy", "double-memory", "--output", "json"))

    def explained() -> str:
        found = json.loads(succeeds("decisions", "--strategy", "explain-pending-training", "--output", "json"))
        return succeeds("explain", found[0]["id"]) if found else ""

    eventually(lambda: "Insufficient cpu" in explained(), "the scheduler's words are told")
    assert len(json.loads(succeeds("decisions", "--strategy", "explain-pending-training", "--output", "json"))) == 1


def test_the_shipped_strategy_keeps_a_training_apart_from_a_slow_service(
    light: Any, home: Path, succeeds: Succeeds, eventually: Eventually, tmp_path: Path
) -> None:
    marks = light.home / "data" / "crunch"
    apart = (LIBRARY / "keep-apart.yaml").read_text().replace("mnist-training", "crunch").replace("mnist-online", "slow")
    text = APART.format(model=light.model("slow"), marks=marks) + apart.replace("for: 30s", "for: 2s")
    (tmp_path / "apart.yaml").write_text(text)
    succeeds("apply", str(tmp_path))
    settings = Settings.load(home)
    url = f"{settings.front_url}/slow/api/v2/models/api/infer"
    eventually(lambda: nodes_of(light, "slow"), "the service has a node")
    (node,) = nodes_of(light, "slow").values()
    others = [name for name in real_nodes(light) if name != node]
    with asking(url, 0.1), cordoned(light, *others) as cordon:
        slow = "histogram_quantile(0.99, sum by (le) (rate(autonomic_request_duration_seconds_bucket{workflow='slow'}[30s]))) > 0.25"
        eventually(lambda: found_by(settings, slow), "the service is slow")
        # a service that is slow alone is nobody's fault
        assert json.loads(succeeds("decisions", "--strategy", "keep-apart", "--output", "json")) == []
        cordon()
        succeeds("run", "crunch")
        eventually(lambda: nodes_of(light, "crunch"), "the training has a node")
        assert set(nodes_of(light, "crunch").values()) == {node}
        eventually(lambda: json.loads(succeeds("decisions", "--strategy", "keep-apart", "--output", "json")), "they are told apart")
    (decision,) = json.loads(succeeds("decisions", "--strategy", "keep-apart", "--output", "json"))
    assert "reschedule crunch to nodes away from slow" in succeeds("explain", decision["id"])
    eventually(lambda: "reschedule of crunch was done" in succeeds("explain", decision["id"]), "its next attempt will be elsewhere")
    # the attempt that runs is left alone, and the next one is made elsewhere
    assert set(nodes_of(light, "crunch").values()) == {node}
    (marks.parent / "crunch.go").touch()
    eventually(lambda: len(nodes_of(light, "crunch")) == 2, "the second attempt has a node")
    assert set(nodes_of(light, "crunch").values()) == {node, *others}
    phases = ("get", "pods", "-l", "autonomic.dev/workflow=crunch", "-o", "jsonpath={.items[*].status.phase}")
    eventually(lambda: "Succeeded" in light.kubectl(*phases), "the run ends well")


def test_the_shipped_strategy_gives_a_service_the_replicas_that_its_requests_need(
    light: Any, home: Path, succeeds: Succeeds, eventually: Eventually, tmp_path: Path
) -> None:
    strategy = (LIBRARY / "replicas-by-requirement.yaml").read_text().replace("mnist-online", "required").replace("predictor", "api")
    (tmp_path / "required.yaml").write_text(REQUIRED.format(model=light.model("required")) + strategy)
    succeeds("apply", str(tmp_path))
    eventually(lambda: ready(light, "required") == 1, "one replica is ready")
    url = f"{Settings.load(home).front_url}/required/api/v2/models/api/infer"
    # well more than 20 a second, and less than 60
    with asking(url, 0.05), asking(url, 0.05), asking(url, 0.05):
        eventually(lambda: ready(light, "required") > 1, "there is a replica for every 20 requests a second")
    *_, grown = json.loads(succeeds("decisions", "--strategy", "replicas-by-requirement", "--output", "json"))
    assert "rescale the champion of required/api to " in succeeds("explain", grown["id"])
    eventually(lambda: ready(light, "required") == 1, "what nobody needs is given back")


def test_the_shipped_strategies_fail_over_to_the_backup_and_back(
    light: Any, home: Path, succeeds: Succeeds, eventually: Eventually, tmp_path: Path
) -> None:
    strategies = (STRATEGIES / "library" / "fail-over.yaml").read_text().replace("mnist-online/predictor", "saved/api")
    (tmp_path / "saved.yaml").write_text(SAVED.format(model=light.model("saved")) + strategies.replace("for: 30s", "for: 3s"))
    succeeds("apply", str(tmp_path))
    eventually(lambda: ready(light, "saved") == 2, "champion and backup are ready")
    url = f"{Settings.load(home).front_url}/saved/api/v2/models/api/infer"

    def decided(strategy: str) -> list[Any]:
        return json.loads(succeeds("decisions", "--strategy", strategy, "--output", "json"))

    def answering() -> str:
        return httpx.post(url, json={}, trust_env=False, timeout=30).json().get("role", "")

    assert answering() == "champion"
    assert decided("fail-over") == decided("fail-back") == []
    with cordoned(light, *real_nodes(light)) as cordon:
        # the replica that is made in its place finds no node
        cordon()
        light.kubectl("delete", "pods", "-l", "autonomic.dev/workflow=saved,autonomic.dev/role=champion", "--now", "--wait=false")
        eventually(lambda: answering() == "backup", "the backup answers")
        eventually(lambda: decided("fail-over"), "no champion is ready")
    (decision,) = decided("fail-over")
    assert "rescale the backup of saved/api to 2" in succeeds("explain", decision["id"])
    eventually(lambda: answering() == "champion", "the champion is back")
    eventually(lambda: decided("fail-back"), "the backup stands by again")
    eventually(lambda: ready(light, "saved") == 2, "one replica of each is left")
    assert len(decided("fail-over")) == 1


@pytest.mark.timeout(280)
def test_the_shipped_strategies_spread_replicas_again_after_the_loss_of_a_node(
    light: Any, kubernetes: Any, healed: list[str], home: Path, succeeds: Succeeds, eventually: Eventually, tmp_path: Path
) -> None:
    strategies = (LIBRARY / "spread-after-node-loss.yaml").read_text().replace("mnist-online/predictor", "spread/api")
    (tmp_path / "spread.yaml").write_text(SPREAD.format(model=light.model("spread")) + strategies)
    succeeds("apply", str(tmp_path))
    everywhere = set(real_nodes(light))
    eventually(lambda: set(nodes_of(light, "spread").values()) == everywhere and ready(light, "spread") == 2, "the replicas are spread")

    def decided(strategy: str) -> list[Any]:
        return json.loads(succeeds("decisions", "--strategy", strategy, "--output", "json"))

    def looked() -> bool:
        with closing(sqlite3.connect(home / "monitor.db")) as journal:
            return bool(journal.execute("SELECT 1 FROM states WHERE key = 'news/kubernetes-nodes'").fetchone())

    # what happened before the monitor looked for the first time is no news
    eventually(looked, "the monitor has looked at the nodes")
    lost = max(everywhere)
    healed.append(lost)
    kubernetes.local.crash(lost)
    eventually(lambda: decided("gather-at-node-loss"), "the loss is heard of", 120)
    left = everywhere - {lost}
    eventually(lambda: set(nodes_of(light, "spread").values()) == left and ready(light, "spread") == 2, "two replicas serve elsewhere", 120)
    assert decided("spread-after-node-loss") == []
    kubernetes.local.heal(lost)
    eventually(lambda: decided("spread-after-node-loss"), "the node is back", 120)
    eventually(lambda: set(nodes_of(light, "spread").values()) == everywhere and ready(light, "spread") == 2, "they are spread again", 120)
    (decision,) = decided("spread-after-node-loss")
    told = succeeds("explain", decision["id"])
    assert "spread over each node" in told
    eventually(lambda: "verified" in succeeds("explain", decision["id"]), "the check has held")
    assert len(decided("gather-at-node-loss")) == 1


@contextmanager
def asking(url: str, pause_seconds: float) -> Iterator[None]:
    """Requests one after the other, with pauses, all the while."""
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not stop.wait(pause_seconds):
                client.post(url, json={})

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def cordoned(light: Any, *nodes: str) -> Iterator[Callable[[], None]]:
    """Gives what closes these nodes to new pods; they are open again at the end."""
    try:
        yield lambda: light._run_kubectl("cordon", *nodes)
    finally:
        light._run_kubectl("uncordon", *nodes)


def nodes_of(light: Any, workflow: str) -> dict[str, str]:
    """The node of each pod of a workflow that has one and is not being deleted."""
    pods = json.loads(light.kubectl("get", "pods", "-l", f"autonomic.dev/workflow={workflow}", "-o", "json"))["items"]
    staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"] and pod["spec"].get("nodeName")]
    return {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in staying}


def real_nodes(light: Any) -> list[str]:
    return light.kubectl("get", "nodes", "--selector=type!=kwok", "-o", "jsonpath={.items[*].metadata.name}").split()


def ready(light: Any, workflow: str) -> int:
    chosen = f"autonomic.dev/workflow={workflow}"
    told = light.kubectl("get", "deployments", "-l", chosen, "-o", "jsonpath={.items[*].status.readyReplicas}")
    return sum(map(int, told.split()))


def found_by(settings: Settings, query: str) -> bool:
    answer = httpx.get(f"{settings.prometheus_url}/api/v1/query", params={"query": query}, trust_env=False)
    return bool(answer.json()["data"]["result"])


def test_a_host_that_is_killed_comes_back_and_requests_go_on(home: Path, eventually: Eventually) -> None:
    settings = Settings.load(home)
    headers = {"Authorization": f"Bearer {Tokens.load(settings.tokens_path)['host']}"}
    url = f"{settings.front_url}/growing/api/v2/models/api/infer"
    (pid,) = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _line(entry).endswith(f"autonomic.platforms.kubernetes --home {home} ")
    ]
    os.kill(pid, signal.SIGKILL)
    assert httpx.post(url, json={}, trust_env=False).status_code == 200

    def back() -> bool:
        try:
            answer = httpx.get(f"{settings.host_url}/v1/state/growing/api", headers=headers, trust_env=False)
        except httpx.HTTPError:
            return False
        state = answer.json() if answer.status_code == 200 else {}
        if not state.get("service"):
            return False
        return state["service"]["roles"]["champion"] == {"model": state["spec"]["model"], "wanted": 2, "ready": 2, "surplus": 0, "why": ""}

    eventually(back, "the host knows the service as it was")
    assert httpx.post(url, json={}, trust_env=False).status_code == 200


def test_the_mnist_example_answers_and_is_watched_for_drift(home: Path, succeeds: Succeeds, eventually: Eventually) -> None:
    succeeds("apply", f"{EXAMPLES}/mnist/training.yaml")
    assert "clean_accuracy" in succeeds("run", "mnist-training", "--wait", "--param", "epochs=1")
    succeeds("apply", f"{EXAMPLES}/mnist/online.yaml")
    settings = Settings.load(home)
    url = f"{settings.front_url}/mnist-online/predictor/v2"

    def answers() -> bool:
        return httpx.get(f"{url}/health/ready", trust_env=False, timeout=30).status_code == 200

    eventually(answers, "the service is ready")
    images, _ = mnist.read_built_in()
    picked = images[np.random.default_rng(0).permutation(len(images))[:100]]
    tensor = {"name": "images", "datatype": "FP32", "shape": [100, 28, 28], "data": (picked / 255).ravel().tolist()}
    answer = httpx.post(f"{url}/models/predictor/infer", json={"inputs": [tensor]}, trust_env=False, timeout=60).raise_for_status().json()
    assert len(answer["parameters"]["prediction_ids"].split(",")) == 100
    with closing(HostPlatform(settings.host_url, Tokens.load(settings.tokens_path)["host"])) as host:

        def said() -> dict[str, float]:
            return (host.drift("mnist-online", "predictor") or {"values": {}})["values"]

        eventually(lambda: said().get("seen") == 100, "the detector has seen all")
        # usual images are no drift, so nothing is picked
        assert (said()["drifted"], said()["picked"]) == (0, 0)


def _line(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
