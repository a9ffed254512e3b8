"""What can be wrong with a workflow that its form alone does not show: names, order, references, code."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autonomic.workflows.spec.faults import listed, nearest
from autonomic.workflows.spec.functions import FunctionNotFound, Signature, find_function
from autonomic.workflows.spec.graph import ancestors, find_cycle, unknown_needs
from autonomic.workflows.spec.parameters import faults_of_declarations
from autonomic.workflows.spec.placement import Volume
from autonomic.workflows.spec.places import Keys
from autonomic.workflows.spec.references import Reference, located_references
from autonomic.workflows.spec.workflow import BatchSpec, OnlineSpec, Service, Step, Workflow

Finding = tuple[Keys, str]
"""Where in the document, and what is wrong."""

REFERENCES = "${parameters.NAME}, ${steps.STEP.outputs.NAME} and ${run.id}"


def check_workflow(workflow: Workflow, folder: Path | None, *, code: bool = True) -> list[Finding]:
    """Everything wrong with one workflow. `code`: also look for the functions that it names, in `folder` and on sys.path."""
    spec = workflow.spec
    if isinstance(spec, OnlineSpec):
        return list(_check_services(spec.services, folder, code))
    return list(_check_batch(spec, folder, code))


def step_outputs(step: Step, signature: Signature | None) -> tuple[str, ...] | None:
    """The names of a step's outputs as it declares them, else as its return annotation does, else None: unknown."""
    return step.outputs if step.outputs is not None else signature.outputs if signature else None


def _check_batch(spec: BatchSpec, folder: Path | None, code: bool) -> Iterator[Finding]:
    needs = _needs(spec)
    yield from _duplicates("step", ("spec", "steps"), [step.name for step in spec.steps])
    index = {step.name: number for number, step in reversed(list(enumerate(spec.steps)))}
    for step, name in unknown_needs(needs):
        at = ("spec", "steps", index[step], "needs", spec.steps[index[step]].needs.index(name))
        yield at, f"unknown step {name!r}{nearest(name, needs)} (steps: {listed(needs)})"
    if cycle := find_cycle(needs):
        yield ("spec", "steps", index[cycle[0]], "needs"), f"the steps need one another in a cycle: {' needs '.join(cycle)}"
    for path, fault in faults_of_declarations(spec.parameters):
        yield ("spec", "parameters", *path), fault
    signatures: dict[str, Signature | None] = {}
    for number, step in enumerate(spec.steps):
        if code and step.run is not None:
            try:
                signatures[step.name] = find_function(step.run, folder)
            except FunctionNotFound as missing:
                yield ("spec", "steps", number, "run"), str(missing)
        if (signature := signatures.get(step.name)) is not None:
            yield from _check_arguments(step, signature, ("spec", "steps", number))
    outputs = {step.name: step_outputs(step, signatures.get(step.name)) for step in spec.steps}
    for path, reference in located_references(dict(spec.env), ("spec", "env")):
        yield from _check_reference(path, reference, spec.parameters, {}, frozenset())
    for number, step in enumerate(spec.steps):
        yield from _check_mounts(step.volumes, ("spec", "steps", number, "volumes"))
        before = ancestors(needs, step.name)
        values = {"with": step.with_, "command": list(step.command or ()), "env": dict(step.env)}
        for path, reference in located_references(values, ("spec", "steps", number)):
            yield from _check_reference(path, reference, spec.parameters, outputs, before)


def _needs(spec: BatchSpec) -> dict[str, tuple[str, ...]]:
    return {step.name: step.needs for step in spec.steps}


def _check_arguments(step: Step, signature: Signature, at: Keys) -> Iterator[Finding]:
    known = (*signature.required, *signature.optional)
    if not signature.takes_any:
        for name in step.with_:
            if name not in known:
                yield (*at, "with", name), f"{step.run} takes no argument {name!r}{nearest(name, known)} (it takes {listed(known)})"
    missing = [name for name in signature.required if name not in step.with_]
    if missing:
        yield (*at, "with"), f"{step.run} needs {listed(missing)}, which is not given under with:"


def _check_reference(
    path: Keys, reference: Reference, parameters: Mapping[str, Any], outputs: Mapping[str, tuple[str, ...] | None], before: frozenset[str]
) -> Iterator[Finding]:
    text = "${" + ".".join(reference) + "}"
    match reference:
        case ("run", "id"):
            return
        case ("parameters", name, *_):
            if name not in parameters:
                yield path, f"{text}: unknown parameter {name!r}{nearest(name, parameters)} (parameters: {listed(parameters)})"
        case ("steps", step, "outputs", name, *_):
            if step not in outputs:
                yield path, f"{text}: unknown step {step!r}{nearest(step, outputs)} (steps: {listed(outputs)})"
            elif step not in before:
                yield path, f"{text}: the step does not come after {step!r}; add it to needs: (directly or through others)"
            elif (known := outputs[step]) is not None and name not in known:
                yield path, f"{text}: step {step!r} has no output {name!r}{nearest(name, known)} (outputs: {listed(known)})"
        case _:
            shown = text if reference else "a ${...} that is no name"
            yield path, f"unknown reference {shown}; allowed are {REFERENCES} (write $${{ for a plain ${{)"


def _check_services(services: Sequence[Service], folder: Path | None, code: bool) -> Iterator[Finding]:
    yield from _duplicates("service", ("spec", "services"), [service.name for service in services])
    for number, service in enumerate(services):
        at: Keys = ("spec", "services", number)
        yield from _check_mounts(service.volumes, (*at, "volumes"))
        if service.traffic.canary > 0 and service.canary is None:
            yield (*at, "traffic", "canary"), "traffic is given to a canary, but canary: names no model"
        if service.drift is not None:
            if not service.log:
                yield (*at, "log"), "drift: reads the prediction log, so log: must be true"
            if service.drift.every <= 0:
                yield (*at, "drift", "every"), "drift.every must be longer than 0s"
            if code:
                try:
                    find_function(service.drift.detector, folder)
                except FunctionNotFound as missing:
                    yield (*at, "drift", "detector"), str(missing)


def _check_mounts(volumes: Sequence[Volume], at: Keys) -> Iterator[Finding]:
    seen: set[str] = set()
    for number, volume in enumerate(volumes):
        if volume.mount in seen:
            yield (*at, number, "mount"), f"there are two volumes at {volume.mount}; each has a folder of its own"
        seen.add(volume.mount)


def _duplicates(what: str, at: Keys, names: Iterable[str]) -> Iterator[Finding]:
    seen: Counter[str] = Counter()
    for number, name in enumerate(names):
        seen[name] += 1
        if seen[name] == 2:
            yield (*at, number, "name"), f"there are two {what}s named {name!r}; the names of one workflow's {what}s are unique"
