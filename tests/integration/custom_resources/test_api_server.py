"""What a real API server takes and refuses of what users write."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from autonomic.seams.errors import SpecError
from autonomic.strategies.validation import check_documents
from autonomic.workflows.spec.documents import Document, load_documents

ROOT = Path(__file__).parents[3]
SHIPPED = [
    path for folder in ("examples", "strategies/library", "strategies/kubernetes") for path in sorted((ROOT / folder).rglob("*.yaml"))
]
AGENTS = "left to the agents"

BATCH: dict[str, Any] = {
    "apiVersion": "autonomic.dev/v1alpha1",
    "kind": "Workflow",
    "metadata": {"name": "training"},
    "spec": {
        "type": "batch",
        "parameters": {"epochs": 1, "base_model": "", "points": "", "nested": {"free": [1, "two", None]}},
        "steps": [
            {"name": "load", "command": ["ls"], "outputs": ["path"]},
            {
                "name": "train",
                "needs": ["load"],
                "run": "mine:train",
                "with": {"data": "${steps.load.outputs.path}", "rate": 0.5},
                "resources": {"cpu": 0.5, "memory": "1Gi", "gpu": 1, "accelerator": "NVIDIA-L4", "cpu_after": "1m"},
                "placement": {
                    "nodes": {"topology.kubernetes.io/zone": "a"},
                    "avoid": [{"workflow": "online", "part": "api"}, {"node": "node-1", "strict": False}],
                    "tolerations": [{"key": "dedicated", "value": "ml", "effect": "NoExecute", "for": "30s"}, {"effect": "NoSchedule"}],
                    "priority_class": "high",
                },
                "volumes": [
                    {"mount": "/data", "claim": "data", "folder": "mnist/1", "read_only": True},
                    {"mount": "/shared", "nfs": {"server": "nfs.example", "path": "/export"}},
                ],
                "queue": "team-a",
                "retries": {"limit": 2, "backoff": "5s"},
                "timeout": "1h30m",
            },
        ],
    },
}
ONLINE: dict[str, Any] = {
    "apiVersion": "autonomic.dev/v1alpha1",
    "kind": "Workflow",
    "metadata": {"name": "online"},
    "spec": {
        "type": "online",
        "services": [
            {
                "name": "api",
                "model": "models:/m@champion",
                "canary": None,
                "replicas": {"min": 1, "max": 4},
                "resources": {"cpu": "500m", "memory": 1073741824},
                "traffic": {"canary": "0%"},
                "drift": {"detector": "mine:Detector", "every": "1s", "with": {"a": 1}},
                "expose": "LoadBalancer",
                "tls": {"secret": "web"},
                "placement": {"near": [{"workflow": "cache"}]},
                "volumes": [{"mount": "/models", "claim": "models"}],
            },
            {"name": "other", "model": "file:///m", "log": False},
        ],
    },
}
STRATEGY: dict[str, Any] = {
    "apiVersion": "autonomic.dev/v1alpha1",
    "kind": "Strategy",
    "metadata": {"name": "keep"},
    "spec": {
        "target": "online/api",
        "on": {"any": [{"every": "1s"}, {"at": "2027-01-31T18:00:00+01:00"}, {"cron": "0 18 * * FRI", "timezone": "Europe/Madrid"}]},
        "readings": {
            "p99": {"promql": "max(x)", "max_age": "5s", "missing": {"last": "1m"}},
            "load": {"scrape": {"metric": "m", "quantile": 0.5, "labels": {"a": "b"}}, "missing": "hold"},
            "new": {"mlflow": {"model": "m", "alias": "candidate", "metric": "accuracy"}, "missing": {"fallback": 3}},
            "called": {"webhook": "com.example.load", "field": "value.x"},
            "drifted": {"drift": "score"},
            "ready": {"platform": "ready_replicas"},
        },
        "when": "p99 > 1",
        "for": "5s",
        "clear": "p99 < 1",
        "constraint": "ready < 4",
        "do": [
            {"rescale": {"require": {"reading": "load", "per_replica": 20}}},
            {"rollback": None},
            {"run": {"parameters": {"epochs": 3}}, "target": "training"},
            {"notify": {"message": "p99 is ${reading.p99}"}},
            {"tune": {"metric": "a", "space": {"epochs": {"integer": [1, 4]}}}, "target": "training"},
        ],
        "verify": {"that": "p99 < 1", "within": "1m", "else": "keep"},
        "guard": {"autonomy": "auto", "cooldown": "30s", "limit": "10/h"},
        "priority": 80,
        "missing": "hold",
        "expires": "30s",
    },
}
GOOD = {"batch": BATCH, "online": ONLINE, "strategy": STRATEGY}

# (document, where, what is put there, what the API server says)
BAD: list[tuple[str, str, Any, str]] = [
    # keys and forms
    ("batch", "spec.stepz", [], "unknown field"),
    ("batch", "spec.steps.0.nedes", ["load"], "unknown field"),
    ("batch", "metadata.owner", "me", "unknown field"),
    ("online", "spec.services.0.replicas.maximum", 3, "unknown field"),
    ("strategy", "spec.onn", {}, "unknown field"),
    ("strategy", "spec.readings.p99.promq", "x", "unknown field"),
    ("strategy", "spec.do.0.rescale.bye", 1, "unknown field"),
    ("strategy", "spec.do.0", {"rescal": {"by": 1}}, "unknown field"),
    ("strategy", "spec.verify.els", "keep", "unknown field"),
    ("batch", "metadata.name", "a" * 54, "metadata.name"),
    ("batch", "metadata.name", "Not_a_label", "metadata.name"),
    ("batch", "spec.type", "bach", "Unsupported value"),
    ("batch", "spec.steps", [], "at least 1 items"),
    ("batch", "spec.steps.1.timeout", "5 minutes", "spec.steps[1].timeout"),
    ("batch", "spec.steps.1.run", "no function", "spec.steps[1].run"),
    ("batch", "spec.steps.1.resources.cpu", "many", "spec.steps[1].resources.cpu"),
    ("batch", "spec.steps.1.resources.cpu", -1, "spec.steps[1].resources.cpu"),
    ("batch", "spec.steps.1.resources.memory", "1Gib", "spec.steps[1].resources.memory"),
    ("batch", "spec.steps.1.retries.limit", 101, "less than or equal to 100"),
    ("batch", "spec.steps.1.retries.limit", "two", "must be of type integer"),
    ("online", "spec.services.0.model", "mnist", "spec.services[0].model"),
    ("online", "spec.services.0.expose", "Ingress", "Unsupported value"),
    ("batch", "spec.steps.1.volumes.0.mount", "data", "spec.steps[1].volumes[0].mount"),
    ("batch", "spec.steps.1.queue", "Team A", "spec.steps[1].queue"),
    ("batch", "spec.steps.1.placement.tolerations.0.effect", "Never", "Unsupported value"),
    ("batch", "spec.steps.1.placement.nodes.zone", "a zone", "spec.steps[1].placement.nodes.zone"),
    ("online", "spec.services.0.traffic.canary", "110%", "spec.services[0].traffic.canary"),
    ("online", "spec.services.0.replicas.max", 0, "greater than or equal to 1"),
    ("strategy", "spec.guard.autonomy", "automatic", "Unsupported value"),
    ("strategy", "spec.guard.limit", "10", "spec.guard.limit"),
    ("strategy", "spec.priority", 101, "less than or equal to 100"),
    ("strategy", "spec.missing", "nothing", "spec.missing"),
    ("strategy", "spec.missing", {"last": "1m", "fallback": 3}, "spec.missing"),
    ("strategy", "spec.missing", {}, "spec.missing"),
    ("strategy", "spec.readings.ready.platform", "replicas", "Unsupported value"),
    ("strategy", "spec.readings.load.scrape.quantile", 1, "should be less than 1"),
    ("strategy", "spec.do.0.rescale.require.per_replica", 0, "should be greater than 0"),
    # rules
    ("batch", "spec.services", [{"name": "a", "model": "file:///m"}], "a batch workflow has steps and no adopt, services"),
    ("online", "spec.services", [], "either services: (at least one) or adopt:"),
    ("online", "spec.adopt", {"deployment": "web"}, "either services: (at least one) or adopt:"),
    ("online", "spec.parameters", {}, "an online workflow has no env, parameters, steps"),
    ("batch", "spec.steps.1.name", "load", "Duplicate value"),
    ("online", "spec.services.1.name", "api", "Duplicate value"),
    ("batch", "spec.steps.0.run", "mine:load", "either run: (a Python function) or command:"),
    ("batch", "spec.steps.0", {"name": "load"}, "either run: (a Python function) or command:"),
    ("batch", "spec.steps.1.needs", ["lod"], "names a step that this workflow does not have"),
    ("batch", "spec.steps.1.needs", ["load", "train"], "a step cannot need itself"),
    ("batch", "spec.steps.1.placement.avoid.0.node", "node-2", "exactly one of node and workflow"),
    ("batch", "spec.steps.1.placement.avoid.1.part", "api", "which workflow: names"),
    ("batch", "spec.steps.1.placement.tolerations.1.value", "ml", "which is not given"),
    ("batch", "spec.steps.1.placement.tolerations.1.for", "5s", "belongs to effect: NoExecute"),
    ("batch", "spec.steps.1.volumes.0.nfs", {"server": "a", "path": "/"}, "exactly one of claim and nfs"),
    ("batch", "spec.steps.1.volumes.0.folder", "a/../..", "a path has no .."),
    ("online", "spec.services.0.tls.key", "/k.pem", "either secret: or both of certificate: and key:"),
    ("online", "spec.services.0.replicas.min", 5, "replicas.min is greater than replicas.max"),
    ("online", "spec.services.1.replicas", {"min": 2}, "replicas.min is greater than replicas.max"),
    ("online", "spec.services.0.traffic.canary", "10%", "canary: names no model"),
    ("online", "spec.services.0.log", False, "log: must be true"),
    ("online", "spec.services.0.drift.every", "0s", "drift.every must be longer than 0s"),
    ("strategy", "spec.on", {"every": "1s", "call": True}, "exactly one of every, at, cron, call, event, any"),
    ("strategy", "spec.on", {"timezone": "UTC"}, "exactly one of every, at, cron, call, event, any"),
    ("strategy", "spec.on", {"every": "0s"}, "every must be longer than 0s"),
    ("strategy", "spec.on", {"call": False}, "call: false never fires"),
    ("strategy", "spec.on", {"event": ""}, "the type of an event is missing"),
    ("strategy", "spec.on", {"any": []}, "any: holds no trigger"),
    ("strategy", "spec.on", {"any": [{"every": "1s", "call": True}]}, "exactly one of every"),
    ("strategy", "spec.on", {"at": "2027-01-31T18:00:00"}, "spec.on.at"),
    ("strategy", "spec.readings.p99.platform", "queued", "exactly one of promql, scrape"),
    ("strategy", "spec.readings.ready.field", "x", "field: belongs to webhook"),
    ("strategy", "spec.readings.the-load", {"promql": "x"}, "a reading is named by letters"),
    ("strategy", "spec.readings.new.mlflow.version", "3", "exactly one of alias and version"),
    ("strategy", "spec.readings.new.mlflow", {"metric": "a", "alias": "candidate"}, "belong to a model"),
    ("strategy", "spec.readings.new.mlflow.experiment", "e", "not both"),
    ("strategy", "spec.target", "online", "write the target as workflow/service"),
    ("strategy", "spec.do.0.run", {}, "must validate one and only one schema (oneOf). Found 2"),
    ("strategy", "spec.do.0", {"target": "online"}, "must validate one and only one schema (oneOf). Found none"),
    ("strategy", "spec.do.0", {"rescale": {"by": 1, "to": 2}}, "exactly one of by, to, require"),
    ("strategy", "spec.do.0", {"upgrade": {}}, "at least one of champion, canary, backup"),
    ("strategy", "spec.do.0", {"promote": {"metric": "accuracy"}, "target": "online"}, "act on a service of an online workflow"),
    ("strategy", "spec.do.0", {"resize": {"cpu": 1}, "target": "online"}, "acts on a service or a step"),
    ("strategy", "spec.do.0", {"resize": {}}, AGENTS),
    ("strategy", "spec.do.0", {"reschedule": {"avoid": {}}}, AGENTS),
    ("strategy", "spec.do.2.target", "training/train", "act on a whole workflow"),
    ("strategy", "spec.do.2", {"delete": {}, "target": "online"}, "delete and stop cannot be undone"),
    ("strategy", "spec.do.2", {"delete": None, "target": "online"}, AGENTS),
    ("strategy", "spec.do", [], "either do: (actions) or decide:"),
    ("strategy", "spec.decide", "mine:decide", "either do: (actions) or decide:"),
    ("strategy", "spec.when", None, "there is no when:"),
    ("strategy", "spec.verify.within", "0s", "within must be longer than 0s"),
    ("strategy", "spec.expires", "0s", "expires must be longer than 0s"),
    # what the API server cannot see
    ("batch", "spec.steps.0.needs", ["train"], AGENTS),
    ("batch", "spec.steps.1.with.data", "${steps.lod.outputs.path}", AGENTS),
    ("batch", "spec.steps.1.with.data", "${steps.load.outputs.pat}", AGENTS),
    ("batch", "spec.steps.1.with.data", "${parameters.epoch}", AGENTS),
    ("batch", "spec.steps.1.resources.cpu", [1], AGENTS),
    ("batch", "spec.steps.1.resources.gpu", 0, AGENTS),
    ("batch", "spec.steps.1.placement.nodes", {"no key": "a"}, AGENTS),
    ("batch", "spec.steps.1.volumes.1.mount", "/data", AGENTS),
    ("strategy", "spec.target", "offline/api", AGENTS),
    ("strategy", "spec.target", "online/ap", AGENTS),
    ("strategy", "spec.when", "p98 > 1", AGENTS),
    ("strategy", "spec.when", "p99 >", AGENTS),
    ("strategy", "spec.verify.that", "p98 < 1", AGENTS),
    ("strategy", "spec.readings.p99.promql", "max(", AGENTS),
    ("strategy", "spec.on", {"cron": "61 * * * *"}, AGENTS),
    ("strategy", "spec.on", {"cron": "0 18 * * FRI", "timezone": "Europe/Madrit"}, AGENTS),
    ("strategy", "spec.do.0.rescale.require.reading", "lod", AGENTS),
    ("strategy", "spec.do.2.run.parameters", {"epoch": 3}, AGENTS),
    ("strategy", "spec.do.2.target", "online", AGENTS),
    ("strategy", "spec.do.3.notify.message", "p99 is ${reading.p98}", AGENTS),
    ("strategy", "spec.do.0", {"promote": {"metric": "accuracy"}, "target": "online/other"}, AGENTS),
]


def put(document: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    bad = copy.deepcopy(document)
    *path, last = [int(key) if key.isdigit() else key for key in where.split(".")]
    inner: Any = bad
    for key in path:
        inner = inner[key]
    inner[last] = value
    if where == "spec.when" and value is None:
        del inner[last]
    return bad


@pytest.fixture(scope="module")
def server(cluster: Any) -> Iterator[Any]:
    """Creates an object as kubectl does (unknown fields are an error), without keeping it; returns what the API server says."""
    from kubernetes import client, config

    api_client = config.new_client_from_config(str(cluster.cluster.kubeconfig))
    api = client.CustomObjectsApi(api_client)

    def create(document: dict[str, Any]) -> str:
        plural = {"Workflow": "workflows", "Strategy": "strategies"}[document["kind"]]
        try:
            api.create_namespaced_custom_object(
                "autonomic.dev", "v1alpha1", cluster.namespace, plural, document, dry_run="All", field_validation="Strict"
            )
        except client.ApiException as refused:
            if refused.status not in (400, 422):
                raise
            return str(yaml.safe_load(refused.body)["message"])
        return ""

    yield create
    api_client.close()


def faults(*documents: dict[str, Any]) -> list[str]:
    try:
        check_documents([Document(file="given", data=one) for one in documents], code=False)
    except SpecError as refused:
        return [problem.message for problem in refused.problems]
    return []


@pytest.mark.parametrize("name", GOOD)
def test_what_is_valid_is_taken(server: Any, name: str) -> None:
    assert faults(BATCH, ONLINE, STRATEGY) == []
    assert server(GOOD[name]) == ""


@pytest.mark.parametrize(
    ("name", "where", "value", "said"), BAD, ids=[f"{name}-{where}-{number}" for number, (name, where, *_) in enumerate(BAD)]
)
def test_what_validate_refuses_is_refused_or_left_to_the_agents(server: Any, name: str, where: str, value: Any, said: str) -> None:
    bad = put(GOOD[name], where, value)
    others = [one for key, one in GOOD.items() if key != name]
    assert faults(bad, *others), "autonomic validate accepts it, so that there is nothing to refuse"
    answer = server(bad)
    if said is AGENTS:
        assert answer == ""
    else:
        assert said in answer


def test_shipped_files_are_taken_as_they_are(cluster: Any) -> None:
    paths = [argument for path in SHIPPED for argument in ("-f", str(path))]
    documents = load_documents(SHIPPED)
    for extra in (["--dry-run=server"], []):
        told = cluster.kubectl("apply", *extra, *paths)
        assert told.count("created") == len(documents) >= 10
    told = cluster.kubectl("apply", *paths)
    assert told.count("unchanged") == len(documents)
    cluster.kubectl("delete", *paths)


def test_a_typo_in_a_file_is_told_by_kubectl(cluster: Any) -> None:
    text = (ROOT / "examples/hello/hello.yaml").read_text().replace("needs:", "need:")
    done = cluster.run("apply", "-f", "-", text=text)
    assert done.returncode != 0
    assert 'unknown field "spec.steps[1].need"' in done.stderr


def test_a_number_without_a_type_that_fits_is_refused(server: Any) -> None:
    assert "spec.steps[1].resources.memory" in server(put(BATCH, "spec.steps.1.resources.memory", 0.5))
