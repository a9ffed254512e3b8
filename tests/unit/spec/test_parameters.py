"""Parameters with a type and bounds, beside plain values; and that documents take no value of another kind than they say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autonomic.seams.clock import VirtualClock
from autonomic.strategies.validation import load_specs
from autonomic.workflows.runs.engine import Dag, Launch, new_run
from autonomic.workflows.spec.parameters import Parameter
from autonomic.workflows.spec.workflow import BatchSpec


def batch(parameters: str, more: str = "") -> str:
    return (
        f"kind: Workflow\nmetadata: {{name: w}}\nspec: {{type: batch, parameters: {parameters}, "
        f"steps: [{{name: a, command: [echo], with: {{v: '${{parameters.a}}'}}}}]}}\n{more}"
    )


@pytest.mark.parametrize(
    "parameters",
    [
        "{a: 3}",
        "{a: {type: linear}}",
        "{a: {x: 1, default: 2}}",
        "{a: {type: integer, default: 3, min: 1, max: 50, description: How often.}}",
        "{a: {type: text}}",
        "{a: {default: null, choices: [null, 1]}}",
        "{a: {type: list, default: [1], max: 3}}",
    ],
)
def test_plain_values_and_declarations_stand_side_by_side(write: Callable[..., Path], parameters: str) -> None:
    assert load_specs([write(batch(parameters))]).workflows


@pytest.mark.parametrize(
    ("parameters", "path", "words"),
    [
        ("{a: {type: intger, default: 3}}", "a.type", "found 'intger'; allowed are text, integer, number, boolean, list, mapping; did you"),
        ("{a: {type: integer, defualt: 3}}", "a.defualt", "unknown key 'defualt'; did you mean 'default'?"),
        ("{a: {type: integer, default: x}}", "a.default", "found 'x'; allowed is a whole number"),
        ("{a: {type: integer, default: true}}", "a.default", "found true (a boolean); allowed is a whole number"),
        ("{a: {type: integer, default: 0, min: 1}}", "a.default", "allowed is a whole number of at least 1"),
        ("{a: {type: integer, min: 5, max: 1}}", "a.min", "min 5 is greater than max 1"),
        ("{a: {type: number, default: 1, min: true}}", "a.min", "found true (a boolean); allowed is a number"),
        ("{a: {type: text, default: 3}}", "a.default", "found 3 (a number); allowed is text (in quotes)"),
    ],
)
def test_a_faulty_declaration_is_reported_at_its_place(problems_of: Callable[[str], list], parameters: str, path: str, words: str) -> None:
    (problem,) = problems_of(batch(parameters))
    assert problem.path == f"spec.parameters.{path}"
    assert words in problem.message


def test_what_a_strategy_gives_is_held_to_the_declaration(problems_of: Callable[[str], list], write: Callable[..., Path]) -> None:
    declared = "{a: {type: integer, default: 3, max: 9}}"
    action = "---\nkind: Strategy\nmetadata: {{name: s}}\nspec: {{target: w, on: {{event: retrain.wanted}}, "
    action += "do: [{{run: {{parameters: {{a: {value}}}}}}}]}}\n"
    (problem,) = problems_of(batch(declared, action.format(value="10")))
    assert problem.path == "spec.do[0].run.parameters.a"
    assert "found 10 (a number); allowed is a whole number of at most 9" in problem.message
    assert load_specs([write(batch(declared, action.format(value="'${event.data.x}'")))]).strategies


def test_a_run_starts_with_the_declared_defaults() -> None:
    steps = [{"name": "a", "command": ["x"], "with": {"n": "${parameters.n}", "m": "${parameters.m}"}}]
    spec = BatchSpec.model_validate({"type": "batch", "parameters": {"n": {"type": "integer", "default": 3}, "m": 1}, "steps": steps})
    run = new_run("run-1", "w", spec, {"m": 2})
    (order,) = Dag(spec, run, VirtualClock()).advance()
    assert isinstance(order, Launch)
    assert order.arguments == {"n": 3, "m": 2}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, float("nan")], {"a": "\udcff"}, "\ud800"])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    fault = Parameter().fault(value)
    assert "JSON cannot hold" in fault
    fault.encode()


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ("replicas: {min: true}", "found true (a boolean); allowed is a whole number"),
        ("replicas: {max: '3'}", "found '3'; allowed is a whole number"),
        ("replicas: {max: 2.0}", "found 2.0 (a number); allowed is a whole number"),
        ("log: 'yes'", "found 'yes'; allowed is true or false"),
        ("log: 1", "found 1 (a number); allowed is true or false"),
        ("token: 'true'", "found 'true'; allowed is true or false"),
        ("name: 5", "found 5 (a number); allowed is text (put it in quotes)"),
        ("timeout: true", "True is not a duration"),
        ("max_in_flight: 3e1", "allowed is a whole number"),
    ],
)
def test_a_value_of_another_kind_is_refused(problems_of: Callable[[str], list], service: str, words: str) -> None:
    name = "" if service.startswith("name") else "name: s, "
    (problem,) = problems_of(
        f"kind: Workflow\nmetadata: {{name: w}}\nspec: {{type: online, services: [{{{name}model: 'models:/a@b', {service}}}]}}\n"
    )
    assert words in problem.message
