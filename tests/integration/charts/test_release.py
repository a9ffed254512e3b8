"""The chart on a real cluster: installed, used through custom resources, and taken away again."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from autonomic.cli.embedded.kubernetes import rights

ROOT = Path(__file__).parents[3]
PARTS = ("monitor", "planner", "tuner", "host")
HEAD = {"apiVersion": "autonomic.dev/v1alpha1"}
INPUT = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1.0] * 4}]}


def online(model: str) -> dict[str, Any]:
    service = {"name": "api", "model": model, "replicas": {"min": 1, "max": 3}, "log": False}
    return {**HEAD, "kind": "Workflow", "metadata": {"name": "shop"}, "spec": {"type": "online", "services": [service]}}


def batch() -> dict[str, Any]:
    steps = [{"name": "say", "command": ["/bin/sh", "-c", "echo said by $(id -u); echo '{}' > $AUTONOMIC_OUTPUTS"]}]
    return {**HEAD, "kind": "Workflow", "metadata": {"name": "words"}, "spec": {"type": "batch", "steps": steps}}


def never_alone() -> dict[str, Any]:
    spec = {
        "target": "shop/api",
        "on": {"every": "500ms"},
        "readings": {"ready": {"promql": "sum(autonomic_replicas{workflow='shop',state='ready'})"}},
        "when": "ready == 1",
        "do": [{"rescale": {"to": 2}}],
        "verify": {"that": "ready == 2", "within": "90s", "else": "keep"},
        "guard": {"autonomy": "auto"},
    }
    return {**HEAD, "kind": "Strategy", "metadata": {"name": "never-alone"}, "spec": spec}


def url(release: Any) -> str:
    front = release.get("service", f"{release.full_name}-front")["spec"]
    return f"http://{front['clusterIP']}:{front['ports'][0]['port']}/shop/api/v2/models/api/infer"


def replicas(release: Any) -> str:
    return release.get("workflow", "shop").get("status", {}).get("replicas", "")


def answers(release: Any) -> bool:
    try:
        return httpx.post(url(release), json=INPUT, trust_env=False, timeout=30).status_code == 200
    except httpx.HTTPError:
        return False


def test_everything_is_ready_and_is_nobody(release: Any) -> None:
    for part in PARTS:
        (pod,) = release.get("pods", "-l", f"app.kubernetes.io/component={part}")["items"]
        assert all(each["ready"] for each in pod["status"]["containerStatuses"])
        assert sum(each["restartCount"] for each in pod["status"]["containerStatuses"]) == 0
    told = release.kubectl("exec", f"deployment/{release.full_name}-host", "--", "/busybox/sh", "-c", "id -u; touch /x || echo refused")
    assert told.split() == ["10001", "refused"]


def test_objects_are_put_in_force_and_act(release: Any) -> None:
    release.kubectl("apply", "-f", "-", text=yaml.safe_dump_all([online(release.model()), batch(), never_alone()]))
    release.until(lambda: replicas(release) == "1/1", "one replica")
    # the pods of the front hear of the replica a moment later
    release.until(lambda: answers(release), "an answer through the front")
    # the strategy reads what a Prometheus scraped from the pods that ask for it
    release.until(lambda: release.scrape() or replicas(release) == "2/2", "two replicas")


def decisions(release: Any) -> list[Any]:
    """The planner's decisions, none while it is away."""
    try:
        return release.ask_planner("/v1/decisions")
    except httpx.HTTPError:
        return []


def test_an_operator_types_in_the_pod(release: Any) -> None:
    assert "succeeded" in release.autonomic("run", "words", "--wait")
    (run,) = release.ask_planner("/v1/runs?workflow=words")
    assert "said by 10002" in release.ask_planner(f"/v1/runs/{run['id']}/steps/say/log")
    decided = [one for one in release.ask_planner("/v1/decisions?strategy=never-alone") if one["verdict"]]
    assert "go" in {one["verdict"]["outcome"] for one in decided}


def known(release: Any) -> set[str]:
    """The names of metrics that Prometheus has."""
    return set(httpx.get(f"{release.prometheus.url}/api/v1/label/__name__/values", trust_env=False).json()["data"])


def ask(release: Any, expression: str) -> list[Any]:
    answer = httpx.get(f"{release.prometheus.url}/api/v1/query", params={"query": expression}, trust_env=False).json()
    assert answer["status"] == "success", f"{expression}: {answer}"
    return answer["data"]["result"]


def test_every_expression_of_the_dashboard_shows_something(release: Any) -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "autonomic.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(expressions) > 20
    release.scrape()
    for expression in expressions:
        filled = expression.replace("$__rate_interval", "5m").replace("$workflow", ".*")
        assert "$" not in filled
        release.until(lambda filled=filled: ask(release, filled), f"a value of {filled}", 60)
    variable = next(one for one in dashboard["templating"]["list"] if one["type"] == "query")
    assert variable["query"]["query"] == "label_values(autonomic_replicas, workflow)"


def test_the_rules_are_loaded_and_ask_for_metrics_that_are_there(release: Any) -> None:
    def loaded() -> list[Any]:
        groups = httpx.get(f"{release.prometheus.url}/api/v1/rules", trust_env=False).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    release.until(lambda: all(rule["health"] != "unknown" for rule in loaded()), "each rule was evaluated once")
    rules = loaded()
    assert len(rules) == 12
    assert all(rule["health"] == "ok" for rule in rules), [rule for rule in rules if rule["health"] != "ok"]
    named = {name for rule in rules for name in re.findall(r"autonomic[_:][a-z_:0-9]+", rule["query"])}
    recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
    assert named - recorded <= known(release)
    states = {rule["name"]: rule["state"] for rule in rules if rule["type"] == "alerting"}
    assert "firing" not in states.values(), states


def test_a_pod_that_is_lost_comes_back_with_what_it_knew(release: Any) -> None:
    before = release.ask_planner("/v1/decisions")
    release.kubectl("delete", "pods", "-l", "app.kubernetes.io/component in (planner,host)", "--grace-period=2")
    for part in ("planner", "host"):
        release.kubectl("wait", "--for=condition=Available", f"deployment/{release.full_name}-{part}", "--timeout=120s")
    # both Deployments may count as available until somebody has seen that their pods are gone
    release.until(lambda: decisions(release), "the planner answers again")
    after = release.ask_planner("/v1/decisions")
    assert {one["id"] for one in before} <= {one["id"] for one in after}
    assert answers(release)
    release.kubectl("delete", "strategy", "never-alone")
    release.kubectl("delete", "workflows", "shop", "words")
    release.until(lambda: not release.get("deployments", "-l", "autonomic.dev/workflow=shop")["items"], "the service is gone")


def test_an_upgrade_leaves_the_tokens(release: Any) -> None:
    kept = release.get("secret", f"{release.full_name}-tokens")["data"]["tokens.json"]
    planned = release.helm("upgrade", release.name, str(release.chart), "--values", str(release.home / "values.yaml"), "--dry-run=server")
    assert planned.returncode == 0, planned.stderr
    assert f"tokens.json: {kept}" in planned.stdout


def test_nobody_asked_the_api_server_for_more_than_is_granted(release: Any) -> None:
    if release.cluster.local is None:
        pytest.skip("NO RIGHTS ARE COMPARED: AUTONOMIC_TEST_KUBECONFIG names a cluster whose audit log is not here")
    given = rights.bindings(release.get("roles")["items"], release.get("rolebindings")["items"])
    assert len(given[f"{release.namespace}/{release.full_name}-host"]) > 20
    did = {
        account.partition("/")[2]: asked
        for account, asked in rights.asked(release.cluster.local.audited()).items()
        if account.startswith(f"{release.namespace}/")
    }
    assert set(did) == {f"{release.full_name}-{part}" for part in ("planner", "host")}
    assert [(account, asked.denied) for account, asked in did.items() if asked.denied] == []
    assert all(asked.let.keys() <= given[f"{release.namespace}/{account}"] for account, asked in did.items())


def test_uninstalled_leaves_nothing(release: Any) -> None:
    done = release.helm("uninstall", release.name, "--wait", "--timeout", "120s")
    assert done.returncode == 0, done.stderr
    # what docs/deploy.md says takes away what serves, and the memory of the platform
    release.kubectl("delete", "deployments,jobs,services,configmaps,secrets", "-l", f"autonomic.dev/installation={release.full_name}")
    kinds = release.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    asked = ",".join(kind for kind in kinds if not kind.startswith(("events", "pods.metrics")))

    def left() -> set[str]:
        return set(release.kubectl("get", asked, "-o", "name").split()) - {"configmap/kube-root-ca.crt", "serviceaccount/default"}

    release.until(lambda: not left(), f"nothing is left, not {left()}")
