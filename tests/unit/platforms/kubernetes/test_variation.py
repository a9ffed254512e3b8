from typing import Any

from autonomic.workflows.platforms.kubernetes.variation import varied

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
ZONE_TERM = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}


def deployment(**pod: Any) -> dict[str, Any]:
    containers = [{"name": "replica", "resources": {"requests": {"cpu": "1"}}}, {"name": "proxy"}]
    template = {"metadata": {}, "spec": {"containers": containers, **pod}}
    return {"spec": {"replicas": 2, "selector": {"matchLabels": {"app": "a"}}, "template": template}}


def pod_of(placement: dict[str, Any], **pod: Any) -> dict[str, Any]:
    return varied(deployment(**pod), {"resources": {}, "placement": placement}, "mine")["spec"]["template"]["spec"]


def test_without_a_variation_nothing_changes() -> None:
    assert varied(deployment(), None, "mine") == deployment()
    assert varied(deployment(), {"resources": {}, "placement": {}}, "mine") == deployment()


def test_the_first_container_is_resized_and_what_was_given_stays_as_it_was() -> None:
    given = deployment()
    made = varied(given, {"resources": {"cpu": 0.5, "memory": 1024, "gpu": 1}, "placement": {}}, "mine")
    first, second = made["spec"]["template"]["spec"]["containers"]
    assert first["resources"] == {
        "requests": {"memory": "1024", "nvidia.com/gpu": "1", "cpu": "500m"},
        "limits": {"memory": "1024", "nvidia.com/gpu": "1"},
    }
    assert second == {"name": "proxy"}
    assert given == deployment()


def test_each_term_of_what_is_declared_keeps_away_from_the_nodes_too() -> None:
    declared = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [ZONE_TERM, {}]}}}
    pod = pod_of({"avoid": [{"node": "n1"}, {"node": "n2"}], "nodes": {"disk": "ssd"}}, affinity=declared, nodeSelector={"os": "linux"})
    away = [{"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in ("n1", "n2")]
    assert pod["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"] == [{**ZONE_TERM, "matchFields": away}, {"matchFields": away}]
    assert pod["nodeSelector"] == {"os": "linux", "disk": "ssd"}


def test_it_keeps_away_from_what_a_workflow_runs_of_this_installation_only() -> None:
    (term,) = pod_of({"avoid": [{"workflow": "web", "part": "api"}]})["affinity"]["podAntiAffinity"][REQUIRED]
    chosen = term["labelSelector"]["matchLabels"]
    assert chosen["autonomic.dev/workflow"] == "web"
    assert chosen["app.kubernetes.io/name"] == "api"
    assert chosen["autonomic.dev/installation"] == "mine"


def test_a_spread_takes_the_place_of_the_soft_one_over_the_same_nodes() -> None:
    soft = [{"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}, {"topologyKey": "other"}]
    other, spread = pod_of({"spread": "node"}, topologySpreadConstraints=soft)["topologySpreadConstraints"]
    assert other == {"topologyKey": "other"}
    assert (spread["whenUnsatisfiable"], spread["labelSelector"]) == ("DoNotSchedule", {"matchLabels": {"app": "a"}})
