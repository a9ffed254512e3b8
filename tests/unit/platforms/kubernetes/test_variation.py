from pathlib import Path
from typing import Any

from autonomic.platforms.kubernetes.objects.placement import placed
from autonomic.platforms.kubernetes.objects.variation import varied
from autonomic.platforms.kubernetes.settings import Accelerator, KubernetesSettings
from autonomic.workflows.spec.placement import Placement
from autonomic.workflows.spec.workflow import Resources

SETTINGS = KubernetesSettings(
    home=Path("/home"), image="image:1", installation="mine", accelerators={"MI300": Accelerator(resource="amd.com/gpu")}
)
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
ZONE_TERM = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}


def deployment(**pod: Any) -> dict[str, Any]:
    containers = [{"name": "replica", "resources": {"requests": {"cpu": "1"}}}, {"name": "proxy"}]
    template = {"metadata": {}, "spec": {"containers": containers, **pod}}
    return {"spec": {"replicas": 2, "selector": {"matchLabels": {"app": "a"}}, "template": template}}


def pod_of(placement: dict[str, Any], **pod: Any) -> dict[str, Any]:
    return varied(deployment(**pod), {"resources": {}, "placement": placement}, SETTINGS)["spec"]["template"]["spec"]


def test_without_a_variation_nothing_changes() -> None:
    assert varied(deployment(), None, SETTINGS) == deployment()
    assert varied(deployment(), {"resources": {}, "placement": {}}, SETTINGS) == deployment()


def test_the_first_container_is_resized_and_what_was_given_stays_as_it_was() -> None:
    given = deployment()
    made = varied(given, {"resources": {"cpu": 0.5, "memory": 1024, "gpu": 1}, "placement": {}}, SETTINGS)
    first, second = made["spec"]["template"]["spec"]["containers"]
    assert first["resources"] == {
        "requests": {"memory": "1024", "nvidia.com/gpu": "1", "cpu": "500m"},
        "limits": {"memory": "1024", "nvidia.com/gpu": "1"},
    }
    assert second == {"name": "proxy"}
    assert given == deployment()


def test_gpus_are_resized_as_what_their_type_is_on_this_cluster() -> None:
    def requests(gpu: int) -> dict[str, str]:
        made = varied(deployment(), {"resources": {"gpu": gpu, "accelerator": "MI300"}, "placement": {}}, SETTINGS)
        return made["spec"]["template"]["spec"]["containers"][0]["resources"].get("requests", {})

    assert requests(2) == {"amd.com/gpu": "2", "cpu": "100m"}
    assert requests(0) == {"cpu": "100m"}


def test_where_a_part_was_rescheduled_to_is_said_on_top_of_where_it_is_declared() -> None:
    declared = Placement.model_validate({"nodes": {"disk": "ssd"}, "near": [{"node": "n1"}], "avoid": [{"workflow": "noisy"}]})
    pod = placed({"containers": [{"name": "replica"}]}, SETTINGS, Resources(), declared)
    pod = pod_of({"nodes": {"zone": "a"}, "avoid": [{"node": "n2"}, {"workflow": "batch"}]}, **pod)
    assert pod["nodeSelector"] == {"disk": "ssd", "zone": "a"}
    (term,) = pod["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    assert [(each["operator"], each["values"]) for each in term["matchFields"]] == [("In", ["n1"]), ("NotIn", ["n2"])]
    apart = pod["affinity"]["podAntiAffinity"][REQUIRED]
    assert [each["labelSelector"]["matchLabels"]["autonomic.dev/workflow"] for each in apart] == ["noisy", "batch"]


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
    # it never keeps a replica from running: a node that is drained or full is passed by
    assert (spread["whenUnsatisfiable"], spread["nodeTaintsPolicy"]) == ("ScheduleAnyway", "Honor")
    assert spread["labelSelector"] == {"matchLabels": {"app": "a"}}
