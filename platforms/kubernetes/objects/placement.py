"""Where a pod may run, which GPUs it gets and which volumes it sees, as Kubernetes writes it. Pure."""

import math
from collections.abc import Sequence
from typing import Any

from autonomic.platforms.kubernetes.objects import names
from autonomic.platforms.kubernetes.settings import Accelerator, KubernetesSettings
from autonomic.seams.errors import Permanent
from autonomic.workflows.spec.placement import Neighbour, Placement, Toleration, Volume
from autonomic.workflows.spec.workflow import Resources

Manifest = dict[str, Any]

_HOST = "kubernetes.io/hostname"
# a wish is the only one of its kind, so that its weight says nothing
_WEIGHT = 100
_DEFAULT_MILLICORES = 100


def resources(settings: KubernetesSettings, wanted: Resources) -> Manifest:
    """Requests and limits. CPU is what is asked for and no bound; memory and GPUs are both.

    A little CPU is asked for always: what asks for none gets none from a node that is busy.

    Raises:
        Permanent: a part of a GPU is asked for.
    """
    if wanted.gpu != int(wanted.gpu):
        raise Permanent(f"{wanted.gpu:g} of a GPU is asked for; Kubernetes gives whole ones only")
    both = {"memory": str(wanted.memory)} if wanted.memory else {}
    if wanted.gpu:
        both[_accelerator(settings, wanted).resource] = str(int(wanted.gpu))
    asked = both | {"cpu": f"{math.ceil(wanted.cpu * 1000) or _DEFAULT_MILLICORES}m"}
    return {name: value for name, value in {"requests": asked, "limits": both}.items() if value}


def placed(pod: Manifest, settings: KubernetesSettings, wanted: Resources, placement: Placement) -> Manifest:
    """A pod's spec with the nodes that it may run on."""
    gpus = _accelerator(settings, wanted)
    of_cluster = {"nodeSelector": {**settings.node_selector, **gpus.nodes, **placement.nodes}, "affinity": _affinity(settings, placement)}
    tolerations = [*settings.tolerations, *gpus.tolerations, *(_toleration(each) for each in placement.tolerations)]
    own = {**of_cluster, "tolerations": tolerations, "priorityClassName": placement.priority_class}
    return {**pod, **{name: value for name, value in own.items() if value}}


def with_volumes(pod: Manifest, volumes: Sequence[Volume]) -> Manifest:
    """A pod's spec whose one container sees these volumes."""
    (container,) = pod["containers"]
    mounts = [*container["volumeMounts"], *(_mount(number, each) for number, each in enumerate(volumes))]
    sources = [*pod["volumes"], *({"name": _name(number), **_source(each)} for number, each in enumerate(volumes))]
    return {**pod, "volumes": sources, "containers": [{**container, "volumeMounts": mounts}]}


def _accelerator(settings: KubernetesSettings, wanted: Resources) -> Accelerator:
    if not wanted.gpu:
        return Accelerator(resource="")
    if wanted.accelerator is None:
        return Accelerator()
    known = settings.accelerators.get(wanted.accelerator)
    return known or Accelerator(nodes={settings.accelerator_label: wanted.accelerator})


def _toleration(one: Toleration) -> Manifest:
    made: Manifest = {"key": one.key, "operator": "Exists" if one.value is None else "Equal", "value": one.value, "effect": one.effect}
    if one.for_ is not None:
        made["tolerationSeconds"] = math.ceil(one.for_)
    return {name: value for name, value in made.items() if value is not None}


def _affinity(settings: KubernetesSettings, placement: Placement) -> Manifest:
    made = {
        "nodeAffinity": _of_nodes(placement),
        "podAffinity": _of_pods(settings, placement.near),
        "podAntiAffinity": _of_pods(settings, placement.avoid),
    }
    return {name: value for name, value in made.items() if value}


def _of_nodes(placement: Placement) -> Manifest:
    def fields(neighbours: Sequence[Neighbour], operator: str, strict: bool) -> list[Manifest]:
        named = [each.node for each in neighbours if each.node is not None and each.strict is strict]
        return [{"key": "metadata.name", "operator": operator, "values": [node]} for node in named]

    made: Manifest = {}
    near, avoided = fields(placement.near, "In", True), fields(placement.avoid, "NotIn", True)
    # one of those that are near, and none of those that are avoided
    terms = [{"matchFields": [each, *avoided]} for each in near] or ([{"matchFields": avoided}] if avoided else [])
    if terms:
        made["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    wishes = [*fields(placement.near, "In", False), *fields(placement.avoid, "NotIn", False)]
    if wishes:
        preferred = [{"weight": _WEIGHT, "preference": {"matchFields": [each]}} for each in wishes]
        made["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    return made


def _of_pods(settings: KubernetesSettings, neighbours: Sequence[Neighbour]) -> Manifest:
    made: Manifest = {}
    for each in neighbours:
        if each.workflow is None:
            continue
        chosen = names.labels(settings.installation, workflow=each.workflow)
        if each.part is not None:
            chosen["app.kubernetes.io/name"] = names.label_value(each.part)
        term = {"topologyKey": _HOST, "labelSelector": {"matchLabels": chosen}}
        if each.strict:
            made.setdefault("requiredDuringSchedulingIgnoredDuringExecution", []).append(term)
        else:
            wish = {"weight": _WEIGHT, "podAffinityTerm": term}
            made.setdefault("preferredDuringSchedulingIgnoredDuringExecution", []).append(wish)
    return made


def _name(number: int) -> str:
    return f"autonomic-volume-{number}"


def _source(volume: Volume) -> Manifest:
    if volume.nfs is not None:
        return {"nfs": {**volume.nfs.model_dump(), "readOnly": volume.read_only}}
    return {"persistentVolumeClaim": {"claimName": volume.claim, "readOnly": volume.read_only}}


def _mount(number: int, volume: Volume) -> Manifest:
    made: Manifest = {"name": _name(number), "mountPath": volume.mount, "readOnly": volume.read_only}
    return made | ({"subPath": volume.folder} if volume.folder else {})
