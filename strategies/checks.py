"""What can be wrong with a strategy that its form alone does not show: names, targets, conditions, queries, times."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from autonomic.primitives.base import TargetKind
from autonomic.primitives.rescale import RescaleArguments
from autonomic.primitives.resize import ResizeArguments
from autonomic.primitives.retrain import RetrainArguments
from autonomic.primitives.run import RunArguments
from autonomic.primitives.table import ADOPTED, ARGUMENTS, NEEDS_PERSON, PRIMITIVES
from autonomic.primitives.tune import TuneArguments
from autonomic.seams.abilities import Platforms
from autonomic.seams.errors import SpecError
from autonomic.seams.event_types import EVENT_TYPES, PREFIX
from autonomic.seams.target import Target
from autonomic.strategies.conditions import Condition
from autonomic.strategies.cron import parse as parse_cron
from autonomic.strategies.promql import PromqlChecker
from autonomic.strategies.resize_checks import check_resize
from autonomic.strategies.spec.strategy import ActionSpec, On, Strategy
from autonomic.workflows.spec.checks import Finding
from autonomic.workflows.spec.faults import listed, nearest
from autonomic.workflows.spec.functions import FunctionNotFound, find_function
from autonomic.workflows.spec.parameters import faults_of_values
from autonomic.workflows.spec.places import Keys
from autonomic.workflows.spec.references import located_references, references
from autonomic.workflows.spec.workflow import BatchSpec, OnlineSpec, Service, Workflow

_WORDS: dict[TargetKind, str] = {
    "batch": "a batch workflow",
    "online": "an online workflow (without a service)",
    "service": "a service of an online workflow, written workflow/service",
    "part": "a service or a step, written workflow/service or workflow/step",
    "placed": "a batch workflow, or a service or a step, written workflow/service or workflow/step",
    "any": "anything",
}
_PARTS: frozenset[TargetKind] = frozenset({"service", "part", "placed"})
SERVICE_SIGNALS = frozenset({"scrape", "drift"})
REFERENCES = "${by.LABEL}, ${reading.NAME} and ${event.data.NAME}"


def check_strategy(
    strategy: Strategy, workflows: Mapping[str, Workflow], promql: PromqlChecker, *, code: bool = True, platforms: Platforms
) -> list[Finding]:
    """Everything wrong with one strategy beside the `workflows` that there are, on the platform that was chosen.

    `code`: also look for `decide:` on sys.path.
    """
    return [
        *_check_target(strategy.spec.target, ("spec", "target"), workflows),
        *_check_on(strategy.spec.on, ("spec", "on")),
        *_check_readings(strategy, workflows, promql),
        *_check_conditions(strategy),
        *_check_actions(strategy, workflows),
        *_check_capabilities(strategy, platforms),
        *(_check_decide(strategy) if code else ()),
    ]


def _check_target(text: str, at: Keys, workflows: Mapping[str, Workflow]) -> Iterator[Finding]:
    try:
        target = Target.parse(text)
    except ValueError as malformed:
        yield at, str(malformed)
        return
    workflow = workflows.get(target.workflow)
    if workflow is None:
        yield at, f"unknown workflow {target.workflow!r}{nearest(target.workflow, workflows)} (workflows: {listed(workflows)})"
    elif target.step:
        steps = _parts(workflow)
        if target.step not in steps:
            what = "step" if isinstance(workflow.spec, BatchSpec) else "service"
            yield at, f"workflow {workflow.name!r} has no {what} {target.step!r}{nearest(target.step, steps)} ({what}s: {listed(steps)})"


def _parts(workflow: Workflow) -> tuple[str, ...]:
    spec = workflow.spec
    return tuple(step.name for step in spec.steps) if isinstance(spec, BatchSpec) else spec.parts


def _service(text: str, workflows: Mapping[str, Workflow]) -> Service | None:
    """The service that a target names; None where it names something else or nothing."""
    name, _, step = text.partition("/")
    workflow = workflows.get(name)
    if workflow is None or not isinstance(workflow.spec, OnlineSpec):
        return None
    return next((service for service in workflow.spec.services if service.name == step), None)


def _is_adopted(text: str, workflows: Mapping[str, Workflow]) -> bool:
    workflow = workflows.get(text.partition("/")[0])
    return workflow is not None and isinstance(workflow.spec, OnlineSpec) and workflow.spec.adopt is not None


def _is(wanted: TargetKind, text: str, workflows: Mapping[str, Workflow]) -> bool:
    name, slash, _ = text.partition("/")
    workflow = workflows.get(name)
    if workflow is None or wanted == "any":
        return True  # an unknown workflow is reported where it is named
    if wanted in ("part", "placed"):
        return bool(slash) or (wanted == "placed" and workflow.spec.type == "batch")
    if wanted == "service":
        return isinstance(workflow.spec, OnlineSpec) and bool(slash)
    return not slash and workflow.spec.type == wanted


def _check_on(on: On, at: Keys) -> Iterator[Finding]:
    if on.every is not None and on.every <= 0:
        yield (*at, "every"), "every must be longer than 0s"
    if on.at is not None and on.at.tzinfo is None:
        yield (*at, "at"), f"found {on.at.isoformat()}; a date needs its zone, such as {on.at.isoformat()}Z or {on.at.isoformat()}+01:00"
    if on.call is False:
        yield (*at, "call"), "call: false never fires; write call: true"
    if on.event == "":
        yield (*at, "event"), "the type of an event is missing, such as dev.autonomic.alert.firing"
    if on.event and (fault := _event_fault(on.event)):
        yield (*at, "event"), fault
    try:
        ZoneInfo(on.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield (*at, "timezone"), f"unknown time zone {on.timezone!r}; write an IANA name such as UTC or Europe/Madrid"
    if on.cron is not None and (fault := _cron_fault(on.cron)):
        yield (*at, "cron"), f"{on.cron!r} {fault}"
    if on.any is not None:
        if not on.any:
            yield (*at, "any"), "any: holds no trigger"
        for number, inner in enumerate(on.any):
            yield from _check_on(inner, (*at, "any", number))


def _event_fault(name: str) -> str:
    """Why nobody sends events of this type, "" where somebody may."""
    if name in EVENT_TYPES:
        return ""
    if name.startswith(PREFIX):
        return f"unknown event type {name!r}{nearest(name, EVENT_TYPES)} (types under {PREFIX}: {listed(EVENT_TYPES)})"
    # a custom type that differs from one of ours by a slip only is no custom type
    if PREFIX + name in EVENT_TYPES or difflib.get_close_matches(name, list(EVENT_TYPES), n=1, cutoff=0.9):
        near = PREFIX + name if PREFIX + name in EVENT_TYPES else difflib.get_close_matches(name, list(EVENT_TYPES), n=1, cutoff=0.9)[0]
        return f"unknown event type {name!r}; did you mean {near!r}? A custom type must differ more from those of autonomic"
    return ""


def _cron_fault(text: str) -> str:
    try:
        cron = parse_cron(text)
    except ValueError as malformed:
        return f"is not a cron expression: {malformed}"
    return "" if cron.next_after(0.0, ZoneInfo("UTC")) is not None else "never comes: no month that it names has such a day"


def _check_readings(strategy: Strategy, workflows: Mapping[str, Workflow], promql: PromqlChecker) -> Iterator[Finding]:
    for name, reading in strategy.spec.readings.items():
        at: Keys = ("spec", "readings", name)
        if not (name.isidentifier() and name.isascii()):
            yield at, f"the reading {name!r} is no name for a condition; write letters, digits and _"
        if reading.signal == "promql" and (fault := promql.fault(reading.query["promql"])):
            yield (*at, "promql"), f"not valid PromQL: {fault}"
        if reading.signal in SERVICE_SIGNALS and not _is("service", strategy.spec.target, workflows):
            yield (
                (*at, reading.signal),
                f"{reading.signal} reads a service, but the target is {strategy.spec.target!r}; write workflow/service",
            )
        if reading.signal == "drift" and (service := _service(strategy.spec.target, workflows)) and service.drift is None:
            yield (*at, "drift"), f"the service {strategy.spec.target!r} has no drift: detector"
        if reading.signal == "kubernetes" and reading.query.get("of") is not None:
            yield from _check_target(reading.query["of"], (*at, "kubernetes", "of"), workflows)
        if reading.signal == "mlflow":
            yield from _check_mlflow(reading.query, (*at, "mlflow"))


def _check_mlflow(query: Mapping[str, Any], at: Keys) -> Iterator[Finding]:
    if "model" in query and ("alias" in query) == ("version" in query):
        yield at, "a model's metric needs exactly one of alias and version"
    if "model" not in query and ("alias" in query or "version" in query):
        yield at, "alias and version belong to a model; name it with model:"
    if "model" in query and ("experiment" in query or query.get("filter")):
        yield at, "a query is over a model's version (model:) or over runs (experiment:, filter:), not both"


def _check_conditions(strategy: Strategy) -> Iterator[Finding]:
    spec = strategy.spec
    conditions: list[tuple[Keys, str | None]] = [
        (("spec", "when"), spec.when),
        (("spec", "clear"), spec.clear),
        (("spec", "constraint"), spec.constraint),
        (("spec", "verify", "that"), spec.verify.that if spec.verify else None),
    ]
    for at, text in conditions:
        if text is not None:
            try:
                Condition.compile(text, spec.readings)
            except SpecError as refused:
                yield from ((at, f"{problem.message} (in {text!r} at {problem.line}:{problem.column})") for problem in refused.problems)
    if spec.when is None:
        if spec.clear is not None:
            yield ("spec", "clear"), "clear: ends what when: began, but there is no when:"
        if spec.for_ > 0:
            yield ("spec", "for"), "for: says how long when: must hold, but there is no when:"
    if spec.verify is not None and spec.verify.within <= 0:
        yield ("spec", "verify", "within"), "within must be longer than 0s"
    if spec.expires <= 0:
        yield ("spec", "expires"), "expires must be longer than 0s, else no event is ever acted on"


def _check_actions(strategy: Strategy, workflows: Mapping[str, Workflow]) -> Iterator[Finding]:
    spec = strategy.spec
    labels = {reading.query["by"] for reading in spec.readings.values() if isinstance(reading.query.get("by"), str)}
    names = {"by": labels, "reading": set(spec.readings)}
    for number, action in enumerate(spec.do):
        at: Keys = ("spec", "do", number)
        target = action.target if action.target is not None else spec.target
        if action.target is not None:
            yield from _check_target(action.target, (*at, "target"), workflows)
        wanted = PRIMITIVES[action.primitive].target
        if not _is(wanted, target, workflows):
            yield (*at, action.primitive), f"{action.primitive} acts on {_WORDS[wanted]}; its target is {target!r}"
        if spec.guard.autonomy == "auto" and action.primitive in NEEDS_PERSON:
            why = f"{action.primitive} cannot be undone, so it is never auto; write suggest or approve"
            yield ("spec", "guard", "autonomy"), f"{why} (the same holds for {listed(sorted(NEEDS_PERSON - {action.primitive}))})"
        adopted = wanted in _PARTS and _is_adopted(target, workflows)
        if adopted and action.primitive not in ADOPTED:
            yield (*at, action.primitive), f"{target!r} is adopted: it takes {listed(sorted(ADOPTED))}, and not {action.primitive}"
        if action.primitive == "retarget" and not adopted and target.partition("/")[0] in workflows:
            yield (*at, action.primitive), f"{target!r} is not adopted; retarget acts on what an HPA or a ScaledObject scales"
        yield from _check_arguments(action, target, (*at, action.primitive), spec.readings, workflows)
        for path, reference in located_references(action.args, (*at, action.primitive)):
            of_event = len(reference) > 2 and reference[:2] == ("event", "data")
            if not of_event and (len(reference) != 2 or reference[1] not in names.get(reference[0], ())):
                known = [f"{root}.{name}" for root, several in names.items() for name in sorted(several)]
                yield path, f"unknown reference ${{{'.'.join(reference)}}}; allowed are {REFERENCES} (here: {listed(known)})"


def _check_capabilities(strategy: Strategy, platforms: Platforms) -> Iterator[Finding]:
    chosen = platforms.chosen
    if chosen is None:
        return
    for number, action in enumerate(strategy.spec.do):
        able = sorted(abilities.platform for abilities in platforms.all if action.primitive in abilities.primitives)
        if able and chosen.platform not in able:
            some = listed(able)
            yield (
                ("spec", "do", number, action.primitive),
                f"the platform {chosen.platform} has no {action.primitive} (it is there on {some})",
            )


def _check_arguments(
    action: ActionSpec, target: str, at: Keys, readings: Mapping[str, Any], workflows: Mapping[str, Workflow]
) -> Iterator[Finding]:
    args = ARGUMENTS[action.primitive].model_validate(action.args)
    workflow = workflows.get(target.partition("/")[0])
    if isinstance(args, ResizeArguments):
        yield from check_resize(args, target, at, workflows)
    declared = workflow.spec.parameters if workflow and isinstance(workflow.spec, BatchSpec) else None
    if isinstance(args, RescaleArguments) and args.require and args.require.reading not in readings:
        name = args.require.reading
        yield (*at, "require", "reading"), f"unknown reading {name!r}{nearest(name, readings)} (readings: {listed(readings)})"
    if declared is not None and isinstance(args, RunArguments | RetrainArguments | TuneArguments):
        for name in args.space if isinstance(args, TuneArguments) else ():
            if name not in declared:
                yield (*at, "space", name), f"{target!r} has no parameter {name!r}{nearest(name, declared)} (it has {listed(declared)})"
        whole = isinstance(args, RunArguments)
        for name, fault in faults_of_values(declared, args.parameters, complete=whole, open_value=lambda value: bool(references(value))):
            path = (*at, "parameters", name) if name in args.parameters else at
            yield path, f"{target!r}, parameter {name!r}: {fault}"
    if isinstance(args, RetrainArguments):
        for name in ("base_model", "points"):
            if declared is not None and name not in declared:
                yield at, f"retrain gives the parameter {name!r}, which {target!r} does not declare"
        if args.points is not None:
            service = _service(args.points, workflows)
            if service is None:
                yield (*at, "points"), f"points: names a service, written workflow/service; there is no {args.points!r}"
            elif not service.log:
                yield (*at, "points"), f"the service {args.points!r} keeps no prediction log (log: false)"
    served = _service(target, workflows)
    if action.primitive == "promote" and served and not served.model.startswith("models:/"):
        yield at, f"promote moves aliases of a registered model; {target!r} serves {served.model!r}"


def _check_decide(strategy: Strategy) -> Iterator[Finding]:
    if strategy.spec.decide is not None:
        try:
            find_function(strategy.spec.decide, None)
        except FunctionNotFound as missing:
            yield ("spec", "decide"), f"{missing} (the planner runs it, so it must be importable there)"
