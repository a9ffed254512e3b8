"""Parsing documents of every kind that a user may write."""

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel

from autonomic.primitives.table import ARGUMENTS
from autonomic.seams.errors import Problem
from autonomic.signals.queries import NESTED, QUERIES
from autonomic.strategies.spec.strategy import ActionSpec, ReadingSpec, Strategy
from autonomic.workflows.spec.documents import Document
from autonomic.workflows.spec.faults import Shorthand, describe, listed, nearest, validate
from autonomic.workflows.spec.workflow import Workflow

KINDS: dict[str, type[Workflow] | type[Strategy]] = {"Strategy": Strategy, "Workflow": Workflow}
READING_KEYS = frozenset({"max_age", "since", "missing"})
"""What may stand beside a reading's signal."""
ACTION_KEYS = frozenset({"target"})
"""What may stand beside an action's primitive."""


def parse(document: Document, problems: list[Problem]) -> Workflow | Strategy | None:
    """The document as the model of its kind; None after what is wrong was added to `problems`."""
    model = KINDS.get(document.kind)
    data: Any = document.data
    if model is None and isinstance(data, dict):
        if "kind" not in data:
            problems.append(document.problem((), f"the key 'kind' is missing; it is one of {listed(KINDS)}"))
        else:
            found = cast(object, data["kind"])
            near = nearest(found, KINDS) if isinstance(found, str) else ""
            problems.append(document.problem(("kind",), f"unknown kind: found {describe(found)}; allowed are {listed(KINDS)}{near}"))
        return None
    return validate(document, model or Workflow, problems, _SHORTHANDS)


def _reading(data: Mapping[str, Any]) -> tuple[str | None, type[BaseModel] | None, frozenset[str]]:
    signal = next((name for name in QUERIES if name in data), None)
    if signal is None:
        return None, None, READING_KEYS | QUERIES.keys()
    nested = signal in NESTED and isinstance(data[signal], Mapping)
    return (signal if nested else None), QUERIES[signal], READING_KEYS


def _action(data: Mapping[str, Any]) -> tuple[str | None, type[BaseModel] | None, frozenset[str]]:
    primitive = next((name for name in data if name in ARGUMENTS), None)
    return primitive, ARGUMENTS.get(primitive or ""), ACTION_KEYS


_SHORTHANDS: dict[type[BaseModel], Shorthand] = {ReadingSpec: _reading, ActionSpec: _action}
