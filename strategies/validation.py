"""Reading and cross-checking everything that a user wrote, before anything runs."""

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from autonomic.seams.abilities import Platforms
from autonomic.seams.errors import Problem, SpecError
from autonomic.strategies.checks import check_strategy
from autonomic.strategies.promql import PromqlChecker
from autonomic.strategies.spec.documents import parse
from autonomic.strategies.spec.strategy import Strategy
from autonomic.workflows.runs.code_package import check_code
from autonomic.workflows.spec.checks import Finding, check_workflow
from autonomic.workflows.spec.documents import Document, load_documents
from autonomic.workflows.spec.faults import listed
from autonomic.workflows.spec.workflow import OnlineSpec, Workflow

Key = tuple[str, str]
"""(kind, name) of a document."""
_UNKNOWN = Platforms()


@dataclass(frozen=True)
class Specs:
    """Documents that fit together. `origins` says where each stands, `folders` where each workflow's code is looked for."""

    workflows: tuple[Workflow, ...] = ()
    strategies: tuple[Strategy, ...] = ()
    origins: Mapping[Key, Document] = field(default_factory=dict[Key, Document])
    folders: Mapping[str, Path] = field(default_factory=dict[str, Path])


def load_specs(
    paths: Iterable[str | Path],
    *,
    prometheus_url: str | None = None,
    known_workflows: Sequence[Workflow] = (),
    platforms: Platforms = _UNKNOWN,
) -> Specs:
    """All documents of the files and folders given, parsed and cross-checked.

    Args:
        paths: files, or folders whose *.yaml and *.yml files are meant.
        prometheus_url: is asked about PromQL that the parser library does not know.
        known_workflows: what strategies may aim at besides the workflows read here, such as those applied before.
        platforms: what the platform where the workflows will run cannot do is refused; by default it is not judged.

    Raises:
        SpecError: with every problem of every file.
    """
    return check_documents(load_documents(paths), prometheus_url=prometheus_url, known_workflows=known_workflows, platforms=platforms)


def check_documents(
    documents: Iterable[Document],
    *,
    prometheus_url: str | None = None,
    known_workflows: Sequence[Workflow] = (),
    code: bool = True,
    platforms: Platforms = _UNKNOWN,
) -> Specs:
    """Like `load_specs` for documents already read. `code=False` does not look for user code: it may lie elsewhere."""
    problems: list[Problem] = []
    models: dict[Key, Workflow | Strategy] = {}
    origins: dict[Key, Document] = {}
    broken: set[str] = set()
    for document in documents:
        model = parse(document, problems)
        if model is None:
            broken |= _name_of(document)
            continue
        key = (model.kind, model.name)
        if (first := origins.get(key)) is not None:
            message = f"there is a second {model.kind} named {model.name!r}; the first is at {first.file}:{first.line}"
            problems.append(document.problem(("metadata", "name"), message))
        else:
            models[key], origins[key] = model, document
    workflows = [model for model in models.values() if isinstance(model, Workflow)]
    strategies = [model for model in models.values() if isinstance(model, Strategy)]
    folders = {workflow.name: Path(origins["Workflow", workflow.name].file).absolute().parent for workflow in workflows}
    importlib.invalidate_caches()
    for workflow in workflows:
        findings = check_workflow(workflow, folders[workflow.name], code=code)
        findings += check_code(workflow, folders[workflow.name]) if code else []
        _place([*findings, *_check_platform(workflow, platforms)], origins["Workflow", workflow.name], problems)
    targets = {workflow.name: workflow for workflow in (*known_workflows, *workflows)}
    promql = PromqlChecker(prometheus_url)
    for strategy in strategies:
        aims = {strategy.spec.target, *(action.target for action in strategy.spec.do if action.target)}
        if not any(aim.partition("/")[0] in broken for aim in aims):
            findings = check_strategy(strategy, targets, promql, code=code, platforms=platforms)
            _place(findings, origins["Strategy", strategy.name], problems)
    if problems:
        raise SpecError(sorted(problems, key=lambda problem: (problem.file, problem.line, problem.column)))
    return Specs(tuple(workflows), tuple(strategies), origins, folders)


def _check_platform(workflow: Workflow, platforms: Platforms) -> Iterator[Finding]:
    chosen = platforms.chosen
    if chosen is not None and not chosen.adopts and isinstance(workflow.spec, OnlineSpec) and workflow.spec.adopt is not None:
        able = listed([abilities.platform for abilities in platforms.all if abilities.adopts])
        yield ("spec", "adopt"), f"the platform {chosen.platform} adopts nothing; workloads are adopted on {able}"


def _name_of(document: Document) -> set[str]:
    """The name of a document that could not be parsed: what aims at it is not blamed for its absence."""
    name: Any = document.data
    for key in ("metadata", "name"):
        name = cast(dict[str, Any], name).get(key) if isinstance(name, dict) else None
    return {name} if isinstance(name, str) else set()


def _place(findings: Iterable[Finding], document: Document, problems: list[Problem]) -> None:
    problems += [document.problem(path, message) for path, message in findings]
