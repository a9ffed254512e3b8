"""Where pods may run, which GPUs they get, and what they see, as Kubernetes writes it."""

from pathlib import Path
from typing import Any

import pytest

from autonomic.platforms.kubernetes.objects import placement
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.errors import Permanent
from autonomic.workflows.spec.placement import Placement, Volume
from autonomic.workflows.spec.workflow import StepResources

SETTINGS = KubernetesSettings.model_validate(
    {
        "home": Path("/home"),
        "image": "image:1",
        "node_selector": {"pool": "ml"},
        "tolerations": [{"operator": "Exists", "key": "ml"}],
        "accelerators": {"MI300": {"resource": "amd.com/gpu", "nodes": {"gpu": "mi300"}, "tolerations": [{"key": "amd"}]}},
    }
)
POD: dict[str, Any] = {"containers": [{"name": "c", "volumeMounts": [{"name": "work", "mountPath": "/w"}]}], "volumes": [{"name": "work"}]}


def placed(words: dict[str, Any], **resources: Any) -> dict[str, Any]:
    return placement.placed(POD, SETTINGS, StepResources.model_validate(resources), Placement.model_validate(words))


def test_what_the_cluster_says_and_what_a_step_says_are_both_kept() -> None:
    toleration = {"key": "dedicated", "value": "ml", "effect": "NoExecute", "for": "90s"}
    pod = placed({"nodes": {"disk": "ssd"}, "tolerations": [toleration, {"effect": "NoSchedule"}], "priority_class": "high"})
    assert pod["nodeSelector"] == {"pool": "ml", "disk": "ssd"}
    assert pod["tolerations"] == [
        {"operator": "Exists", "key": "ml"},
        {"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoExecute", "tolerationSeconds": 90},
        {"operator": "Exists", "effect": "NoSchedule"},
    ]
    assert pod["priorityClassName"] == "high"
    assert "affinity" not in pod
    assert POD.keys() == {"containers", "volumes"}


def test_neighbours_are_nodes_or_the_pods_of_a_workflow() -> None:
    pod = placed(
        {
            "near": [{"node": "a"}, {"node": "b"}, {"workflow": "cache", "part": "store", "strict": False}],
            "avoid": [{"node": "c"}, {"workflow": "online"}],
        }
    )
    required, preferred = (f"{word}DuringSchedulingIgnoredDuringExecution" for word in ("required", "preferred"))
    not_c = {"key": "metadata.name", "operator": "NotIn", "values": ["c"]}
    # one of the near nodes, and none that is avoided
    assert pod["affinity"]["nodeAffinity"] == {
        required: {
            "nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}, not_c]} for node in ("a", "b")
            ]
        }
    }
    (wish,) = pod["affinity"]["podAffinity"][preferred]
    chosen = wish["podAffinityTerm"]["labelSelector"]["matchLabels"]
    assert (chosen["autonomic.dev/workflow"], chosen["app.kubernetes.io/name"]) == ("cache", "store")
    (term,) = pod["affinity"]["podAntiAffinity"][required]
    assert term["labelSelector"]["matchLabels"]["autonomic.dev/workflow"] == "online"
    assert term["topologyKey"] == "kubernetes.io/hostname"


GPUS = [
    ({"gpu": 2}, "nvidia.com/gpu", {"pool": "ml"}, 1),
    ({"gpu": 1, "accelerator": "L4"}, "nvidia.com/gpu", {"pool": "ml", "nvidia.com/gpu.product": "L4"}, 1),
    ({"gpu": 1, "accelerator": "MI300"}, "amd.com/gpu", {"pool": "ml", "gpu": "mi300"}, 2),
]


@pytest.mark.parametrize(("asked", "resource", "nodes", "tolerations"), GPUS)
def test_the_type_of_a_gpu_is_what_the_cluster_calls_it(
    asked: dict[str, Any], resource: str, nodes: dict[str, str], tolerations: int
) -> None:
    pod = placed({}, **asked)
    assert pod["nodeSelector"] == nodes
    assert len(pod["tolerations"]) == tolerations
    made = placement.resources(SETTINGS, StepResources.model_validate({"cpu": 0.25, **asked}))
    assert made == {"requests": {"cpu": "250m", resource: str(asked["gpu"])}, "limits": {resource: str(asked["gpu"])}}


def test_a_part_of_a_gpu_is_refused() -> None:
    with pytest.raises(Permanent, match="whole ones only"):
        placement.resources(SETTINGS, StepResources(gpu=0.5))


def test_volumes_stand_beside_what_a_pod_has() -> None:
    volumes = [
        Volume.model_validate({"mount": "/data", "claim": "data", "folder": "mnist/1", "read_only": True}),
        Volume.model_validate({"mount": "/shared", "nfs": {"server": "nfs.here", "path": "/export"}}),
    ]
    pod = placement.with_volumes(POD, volumes)
    assert pod["volumes"][1:] == [
        {"name": "autonomic-volume-0", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}},
        {"name": "autonomic-volume-1", "nfs": {"server": "nfs.here", "path": "/export", "readOnly": False}},
    ]
    assert pod["containers"][0]["volumeMounts"][1:] == [
        {"name": "autonomic-volume-0", "mountPath": "/data", "readOnly": True, "subPath": "mnist/1"},
        {"name": "autonomic-volume-1", "mountPath": "/shared", "readOnly": False},
    ]


WRONG = [
    (Placement, {"avoid": [{}]}, "exactly one of node and workflow"),
    (Placement, {"avoid": [{"node": "a", "workflow": "b"}]}, "exactly one of node and workflow"),
    (Placement, {"near": [{"node": "a", "part": "b"}]}, "which workflow: names"),
    (Placement, {"nodes": {"not a key": "x"}}, "not the key of a label"),
    (Placement, {"tolerations": [{"value": "x"}]}, "which is not given"),
    (Placement, {"tolerations": [{"key": "x", "for": "5s"}]}, "belongs to effect: NoExecute"),
    (Volume, {"mount": "/a"}, "exactly one of claim and nfs"),
    (Volume, {"mount": "/a", "claim": "b", "folder": "../c"}, "no .."),
    (Volume, {"mount": "a", "claim": "b"}, "mount"),
    (StepResources, {"accelerator": "L4"}, "gpu: asks for none"),
    (StepResources, {"cpu_after": "5s"}, "gpu: asks for none"),
]


@pytest.mark.parametrize(("model", "words", "why"), WRONG)
def test_what_does_not_make_sense_is_refused_with_its_fault(model: Any, words: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        model.model_validate(words)
