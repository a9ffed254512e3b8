"""What a workflow asks of a platform, beside primitives."""

from collections.abc import Iterator
from typing import NamedTuple

from autonomic.seams.abilities import Abilities
from autonomic.workflows.spec.placement import Placement, Volume
from autonomic.workflows.spec.places import Keys
from autonomic.workflows.spec.workflow import OnlineSpec, Resources, Service, Step, StepResources, Workflow


class Lack(NamedTuple):
    """Something that a platform cannot do for a workflow. It is `refused`, or the workflow runs without it."""

    path: Keys
    message: str
    refused: bool


def lacking(workflow: Workflow, abilities: Abilities) -> Iterator[Lack]:
    """What a platform of these `abilities` lacks for a workflow, in the order of its YAML."""
    for path, needed, words, refused in _wants(workflow):
        if needed not in abilities.features:
            yield Lack(path, f"the platform {abilities.platform} {words}", refused)


_Want = tuple[Keys, str, str, bool]


def _wants(workflow: Workflow) -> Iterator[_Want]:
    if isinstance(workflow.spec, OnlineSpec):
        for number, service in enumerate(workflow.spec.services):
            yield from _of_service(service, ("spec", "services", number))
        return
    for number, step in enumerate(workflow.spec.steps):
        yield from _of_step(step, ("spec", "steps", number))


def _of_step(step: Step, at: Keys) -> Iterator[_Want]:
    yield from _of_pods(step.resources, step.placement, step.volumes, at)
    if step.queue is not None:
        yield (*at, "queue"), "queues", "has no queues of a batch scheduler; the step starts as soon as there is room", False


def _of_service(service: Service, at: Keys) -> Iterator[_Want]:
    yield from _of_pods(service.resources, service.placement, service.volumes, at)
    if service.expose is not None:
        yield (*at, "expose"), "expose", "makes no Service; this one answers at the front only", False
    if service.route is not None:
        yield (*at, "route"), "routes", "makes no HTTPRoute; this one answers at the front only", False
    if service.tls is not None:
        yield (*at, "tls"), "tls", "does not terminate TLS; take tls: away and put a proxy of your own before the front", True


def _of_pods(resources: Resources, placement: Placement, volumes: tuple[Volume, ...], at: Keys) -> Iterator[_Want]:
    if resources.gpu != int(resources.gpu):
        yield (*at, "resources", "gpu"), "parts-of-gpus", f"gives whole GPUs only, and {resources.gpu:g} is asked for", True
    if resources.accelerator is not None:
        yield (*at, "resources", "accelerator"), "accelerators", "does not tell GPUs of different types apart; any will do", False
    if isinstance(resources, StepResources) and resources.cpu_after is not None:
        yield (*at, "resources", "cpu_after"), "accelerators", "does not fall back to CPU; the step waits for its GPUs", False
    if placement != Placement():
        yield (*at, "placement"), "placement", "places steps and replicas by their resources alone; placement: has no effect", False
    for number, volume in enumerate(volumes):
        words = f"mounts no volumes; {volume.mount} must be there on each of its machines"
        yield (*at, "volumes", number), "volumes", words, False
