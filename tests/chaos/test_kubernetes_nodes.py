"""Nodes of a real cluster lose power or are cut off: steps are made again on others, and replicas are replaced under load."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from autonomic.seams.plan import Change


def document(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}


def wait_until(condition: Callable[[], bool], within_seconds: float) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_seconds, f"not within {within_seconds} s"
        time.sleep(0.1)
    return time.monotonic() - started


@pytest.mark.timeout(280)
def test_a_node_that_loses_power_costs_an_attempt_and_few_requests(kubernetes: Any, light_cluster: Any, healed: list[str]) -> None:
    platform = light_cluster.platform
    service = {"name": "api", "model": light_cluster.model("spread"), "replicas": {"min": 2, "max": 3}, "log": False, "timeout": "2s"}
    web = document("spread", {"type": "online", "services": [service]})
    assert (
        platform.apply(Change(key="nodes.deploy", primitive="deploy", target="spread", to={"spec": web, "package": ""}), 1).status == "done"
    )

    def replicas() -> set[str]:
        return {replica.node for replica, name, *_ in platform.host.services.all_registered() if name == "spread"}

    wait_until(lambda: len(replicas()) == 2, 120)
    tries = light_cluster.home / "data" / "tries"
    # the first try would take for ever
    script = f"echo x >> {tries}; test $(wc -l < {tries}) -gt 1 || sleep 600"
    step = {"name": "work", "command": ["sh", "-c", script], "resources": {"cpu": 0.1}, "retries": {"limit": 1, "backoff": "100ms"}}
    job = document("moved", {"type": "batch", "steps": [step]})
    to = {"run_id": "run-moved", "workflow": "moved", "spec": job, "parameters": {}, "package": "", "cause": ""}
    assert platform.apply(Change(key="nodes.run", primitive="run", target="moved", to=to), 1).status == "done"
    # a step is running when its pod is; only what it has written shows that its first try has begun
    wait_until(lambda: platform.run("run-moved").steps["work"].status == "running" and tries.exists(), 120)
    node = platform.host.runs.records.place("run-moved", "work")["node"]

    answers: Counter[str] = Counter()
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not stop.wait(0.02):
                answers[str(client.post(f"{platform.urls()['spread/api']}/v2/models/api/infer", json={}).status_code)] += 1

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    try:
        time.sleep(1)
        healed.append(node)
        kubernetes.local.crash(node)
        took = wait_until(lambda: platform.run("run-moved").status == "succeeded", 100)
        wait_until(lambda: platform.observe("spread/api").service.roles["champion"].ready == 2 and node not in replicas(), 100)
    finally:
        stop.set()
        for thread in asking:
            thread.join()
    assert platform.run("run-moved").steps["work"].attempt == 2
    (failure,) = platform.run("run-moved").steps["work"].failures
    assert f"NodeLost: its node {node} does not answer" in failure
    assert tries.read_text() == "x\nx\n"
    lost = answers.total() - answers["200"]
    print(f"{node} lost power: {lost} of {answers.total()} requests lost ({dict(answers)}), the step ended {took:.0f} s later")
    assert lost <= 10
    assert platform.apply(Change(key="nodes.delete", primitive="delete", target="spread", to={}), 1).status == "done"


@pytest.mark.timeout(280)
def test_a_node_that_is_cut_off_and_comes_back_costs_an_attempt_and_leaves_nothing_of_it(
    kubernetes: Any, light_cluster: Any, healed: list[str]
) -> None:
    platform = light_cluster.platform
    tries = light_cluster.home / "data" / "cut-off"
    # the first try goes on behind the cut, until its node is there again and hears that it is not wanted any more
    script = f"echo x >> {tries}; test $(wc -l < {tries}) -gt 1 || sleep 600"
    step = {"name": "work", "command": ["sh", "-c", script], "resources": {"cpu": 0.1}, "retries": {"limit": 1, "backoff": "100ms"}}
    job = document("cut-off", {"type": "batch", "steps": [step]})
    to = {"run_id": "run-cut-off", "workflow": "cut-off", "spec": job, "parameters": {}, "package": "", "cause": ""}
    assert platform.apply(Change(key="cut.run", primitive="run", target="cut-off", to=to), 1).status == "done"
    wait_until(lambda: platform.run("run-cut-off").steps["work"].status == "running" and tries.exists(), 120)
    place = platform.host.runs.records.place("run-cut-off", "work")
    healed.append(place["node"])
    kubernetes.local.partition(place["node"])
    wait_until(lambda: platform.run("run-cut-off").status == "succeeded", 120)
    assert platform.run("run-cut-off").steps["work"].attempt == 2
    told = [fact for fact in platform.host.news("workloads")["facts"] if fact["data"].get("pod") == place["pod"]]
    assert [fact["type"] for fact in told] == ["dev.autonomic.kubernetes.pod.node_lost"]
    kubernetes.local.heal(place["node"])
    wait_until(lambda: place["pod"] not in light_cluster.kubectl("get", "pods", "-o", "name"), 90)
    run = platform.run("run-cut-off")
    assert (run.status, run.steps["work"].attempt) == ("succeeded", 2)
    assert tries.read_text() == "x\nx\n"
