"""What of a pod may change after it was declared: how much it gets, and where it may run. Pure functions of manifests."""

from typing import Any

from autonomic.platforms.kubernetes.objects import names
from autonomic.platforms.kubernetes.objects.manifests import Manifest
from autonomic.platforms.kubernetes.objects.placement import resources
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.workflows.spec.placement_override import PlacementOverride
from autonomic.workflows.spec.workflow import Resources

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def varied(deployment: Manifest, variation: dict[str, Any] | None, settings: KubernetesSettings) -> Manifest:
    """A Deployment with `{resources, placement}`; as it is where there is none.

    Raises:
        Permanent: a part of a GPU is asked for.
    """
    if not variation:
        return deployment
    template = deployment["spec"]["template"]
    chosen = deployment["spec"]["selector"]["matchLabels"]
    pod = varied_pod(template["spec"], variation, settings, chosen)
    return {**deployment, "spec": {**deployment["spec"], "template": {**template, "spec": pod}}}


def varied_pod(pod: Manifest, variation: dict[str, Any], settings: KubernetesSettings, chosen: dict[str, str]) -> Manifest:
    """The spec of a pod with `{resources, placement}`, either of which may be left out. `chosen` are the labels that its like have."""
    size = variation.get("resources")
    if size:
        first, *others = pod["containers"]
        pod = {**pod, "containers": [{**first, "resources": container_resources(size, settings)}, *others]}
    placement = variation.get("placement")
    return _placed(pod, PlacementOverride.model_validate(placement), settings.installation, chosen) if placement else pod


def container_resources(size: dict[str, Any], settings: KubernetesSettings) -> Manifest:
    """A size, with the type of its GPUs (`accelerator`), as a container has it."""
    gpu = size.get("gpu") or 0.0
    accelerator = size.get("accelerator") if gpu else None
    return resources(settings, Resources(cpu=size.get("cpu") or 0.0, memory=size.get("memory"), gpu=gpu, accelerator=accelerator))


def _placed(pod: Manifest, placement: PlacementOverride, installation: str, chosen: dict[str, str]) -> Manifest:
    pod = dict(pod)
    affinity: Manifest = dict(pod.get("affinity", {}))
    if placement.nodes:
        pod["nodeSelector"] = {**pod.get("nodeSelector", {}), **placement.nodes}
    away = [{"key": "metadata.name", "operator": "NotIn", "values": [one.node]} for one in placement.avoid if one.node]
    if away:
        kind = "requiredDuringSchedulingIgnoredDuringExecution"
        nodes = dict(affinity.get("nodeAffinity", {}))
        # terms are alternatives: each has to keep away
        terms = nodes.get(kind, {}).get("nodeSelectorTerms", [{}])
        nodes[kind] = {"nodeSelectorTerms": [{**term, "matchFields": [*term.get("matchFields", []), *away]} for term in terms]}
        affinity["nodeAffinity"] = nodes
    apart = [_beside(one.workflow, one.part, installation) for one in placement.avoid if one.workflow]
    if apart:
        kind = "requiredDuringSchedulingIgnoredDuringExecution"
        pods = dict(affinity.get("podAntiAffinity", {}))
        pods[kind] = [*pods.get(kind, []), *apart]
        affinity["podAntiAffinity"] = pods
    if affinity:
        pod["affinity"] = affinity
    if placement.spread:
        key = HOST if placement.spread == "node" else ZONE
        spread = {
            "maxSkew": 1,
            "topologyKey": key,
            # a wish: a replica that has to leave its node, as in a drain, goes where there is room
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": chosen},
            # a node that takes no pods is no place to spread to
            "nodeTaintsPolicy": "Honor",
            # while replicas are replaced, those that go do not count
            "matchLabelKeys": ["pod-template-hash"],
        }
        others = [one for one in pod.get("topologySpreadConstraints", []) if one["topologyKey"] != key]
        pod["topologySpreadConstraints"] = [*others, spread]
    return pod


def _beside(workflow: str, part: str | None, installation: str) -> Manifest:
    told = names.labels(installation, workflow=workflow) | ({"app.kubernetes.io/name": names.label_value(part)} if part else {})
    return {"labelSelector": {"matchLabels": told}, "topologyKey": HOST}
