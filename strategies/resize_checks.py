"""Whether a `resize` can change anything of the step or the service that it is for. Pure."""

from collections.abc import Iterator, Mapping

from autonomic.primitives.resize import ResizeArguments
from autonomic.workflows.spec.checks import Finding
from autonomic.workflows.spec.documents import Keys
from autonomic.workflows.spec.workflow import BatchSpec, Resources, Workflow

_EXAMPLES = {"memory": "memory: 1Gi, max: {memory: 4Gi}", "cpu": "cpu: 1, max: {cpu: 4}", "gpu": "gpu: 1, max: {gpu: 2}"}


def check_resize(args: ResizeArguments, target: str, at: Keys, workflows: Mapping[str, Workflow]) -> Iterator[Finding]:
    """What of a resize can never be done, as `target` declares its resources."""
    resources = declared_resources(target, workflows)
    if resources is None:
        return
    for name, example in _EXAMPLES.items():
        factor = getattr(args.times, name) if args.times else None
        amount = getattr(args, name)
        if factor is None and amount is None:
            continue
        now, (low, high) = getattr(resources, name), resources.bounds(name)
        if now is None or low is None or high is None:
            yield at, f"{target!r} declares no {name}, so that there is nothing to resize; write resources: {{{example}}} there"
            continue
        wanted = now * factor if amount is None else amount
        if (wanted > now and high <= now) or (wanted < now and low >= now):
            bound = "max" if wanted > now else "min"
            yield at, f"{target!r} declares no room for its {name}: write resources: {{{bound}: {{{name}: …}}}} there"


def declared_resources(target: str, workflows: Mapping[str, Workflow]) -> Resources | None:
    """What a step or a service of ours declares; None where the target is neither, or is adopted."""
    name, _, part = target.partition("/")
    workflow = workflows.get(name)
    if workflow is None:
        return None
    if isinstance(workflow.spec, BatchSpec):
        return next((step.resources for step in workflow.spec.steps if step.name == part), None)
    return next((service.resources for service in workflow.spec.services if service.name == part), None)
