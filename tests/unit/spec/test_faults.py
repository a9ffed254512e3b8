"""What is wrong with the form of a document, in its writer's words."""

from collections.abc import Callable

import pytest

from autonomic.seams.errors import Problem

Find = Callable[[str], list[Problem]]


def batch(step: str) -> str:
    return f"kind: Workflow\nmetadata: {{name: w}}\nspec: {{type: batch, steps: [{step}]}}\n"


def online(service: str) -> str:
    return f'kind: Workflow\nmetadata: {{name: w}}\nspec: {{type: online, services: [{{name: a, model: "models:/m@c", {service}}}]}}\n'


def strategy(body: str) -> str:
    return f"kind: Strategy\nmetadata: {{name: s}}\nspec: {{target: w, {body}}}\n"


DO = "do: [{notify: {message: x}}]"


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (
            batch('{name: a, run: "json:dumps", nedes: []}'),
            "spec.steps[0].nedes",
            "unknown key 'nedes'; did you mean 'needs'? (allowed",
        ),
        (batch("{name: A_b, command: [ls]}"), "spec.steps[0].name", "found 'A_b'; allowed is lower-case letters"),
        (batch("{name: 5, command: [ls]}"), "spec.steps[0].name", "found 5 (a number); allowed is text (put it in quotes)"),
        (batch("{name: a, command: ls}"), "spec.steps[0].command", "found 'ls'; allowed is a list"),
        (batch("{name: a}"), "spec.steps[0]", "either run: (a Python function) or command:"),
        (batch("{name: a, run: json}"), "spec.steps[0].run", "allowed is package.module:function"),
        (batch("{name: a, command: [ls], timeout: 30}"), "spec.steps[0].timeout", "30 is not a duration"),
        (batch("{name: a, command: [ls], retries: {limit: 101}}"), "spec.steps[0].retries.limit", "allowed is a number <= 100"),
        (batch("{name: a, command: [ls], with: [1]}"), "spec.steps[0].with", "allowed is a mapping"),
        (batch("{command: [ls]}"), "spec.steps[0].name", "the key 'name' is missing"),
        (batch(""), "spec.steps", "0 entries; at least 1"),
        (online("replicas: {min: 4, max: 2}"), "spec.services[0].replicas", "replicas.min 4 is greater than replicas.max 2"),
        (online("traffic: {canary: 110%}"), "spec.services[0].traffic.canary", "'110%' is not a percentage"),
        (online("resources: {memory: 1Gb}"), "spec.services[0].resources.memory", "'1Gb' is not an amount of memory"),
        (
            "kind: Workflow\nmetadata: {name: w}\nspec: {type: onlin}\n",
            "spec.type",
            "found 'onlin'; allowed are 'batch', 'online'; did you",
        ),
        ("kind: Workflow\nmetadata: {name: w}\nspec: {}\n", "spec", "the key 'type' is missing"),
        ("kind: Workflow\nmetadata: {name: w}\n", "spec", "the key 'spec' is missing"),
        ("kind: workflow\n", "kind", "unknown kind: found 'workflow'; allowed are Strategy, Workflow; did you mean 'Workflow'?"),
        ("metadata: {name: x}\n", "", "the key 'kind' is missing"),
        ("kind: [a]\n", "kind", "unknown kind: found a list"),
        ("- 1\n", "", "found a list; a document is a mapping"),
        (strategy(f"on: {{evry: 1s}}, {DO}"), "spec.on.evry", "did you mean 'every'?"),
        (strategy(f"on: {{every: 1s, at: '2026-01-01T00:00:00Z'}}, {DO}"), "spec.on", "exactly one of every, at"),
        (strategy(f"readings: {{a: {{promq: x}}}}, {DO}"), "spec.readings.a", "found promq; did you mean 'promql'?"),
        (strategy(f"readings: {{a: {{promql: x, max_aeg: 5s}}}}, {DO}"), "spec.readings.a.max_aeg", "did you mean 'max_age'?"),
        (
            strategy(f"readings: {{a: {{scrape: {{metric: x, quantil: 1}}}}}}, {DO}"),
            "spec.readings.a.scrape.quantil",
            "did you mean 'quantile'?",
        ),
        (strategy(f"readings: {{a: {{scrape: {{}}}}}}, {DO}"), "spec.readings.a.scrape.metric", "the key 'metric' is missing"),
        (strategy(f"readings: {{a: {{platform: readyreplicas}}}}, {DO}"), "spec.readings.a.platform", "did you mean 'ready_replicas'?"),
        (strategy(f"missing: hodl, {DO}"), "spec.missing", "found 'hodl'; allowed is 'hold'; did you mean 'hold'?"),
        (strategy(f"missing: {{lst: 1m}}, {DO}"), "spec.missing.lst", "did you mean 'last'? (allowed here: last, fallback)"),
        (strategy(f"missing: {{last: 1m, fallback: 1}}, {DO}"), "spec.missing", "takes hold, {last: DURATION} or {fallback: NUMBER}"),
        (strategy("do: [{rescal: {by: 1}}]"), "spec.do[0]", "unknown primitive 'rescal'; did you mean 'rescale'?"),
        (strategy("do: [{rescale: {byy: 1}}]"), "spec.do[0].rescale.byy", "did you mean 'by'? (allowed here: by, to, require, role)"),
        (strategy("do: [{rescale: {by: 1, to: 2}}]"), "spec.do[0].rescale", "rescale takes exactly one of by, to, require"),
        (strategy("do: [{rescale: 1}]"), "spec.do[0]", "rescale takes a mapping of its arguments; found 1"),
        (strategy("do: [{retrain: {}}]"), "spec.do[0].retrain.from", "the key 'from' is missing"),
        (strategy("do: [{rescale: {by: 1}, run: {}}]"), "spec.do[0]", "an action is one primitive"),
        (strategy("when: x"), "spec", "either do: (actions) or decide:"),
        (strategy(f"verify: {{that: x, within: 1s, els: keep}}, {DO}"), "spec.verify.els", "did you mean 'else'?"),
        (strategy(f"guard: {{autonomy: atuo}}, {DO}"), "spec.guard.autonomy", "did you mean 'auto'?"),
        (strategy(f"guard: {{limit: 10}}, {DO}"), "spec.guard.limit", "10 is not a rate"),
    ],
)
def test_a_fault_is_named_with_what_is_allowed_and_the_nearest_key(problems_of: Find, text: str, path: str, words: str) -> None:
    problems = problems_of(text)
    assert any(problem.path == path and words in problem.message for problem in problems), problems


def test_a_problem_points_at_the_key_or_the_value_that_is_wrong(problems_of: Find) -> None:
    problems = problems_of(
        """
        kind: Workflow
        metadata: {name: w, taem: x}
        spec:
          type: batch
          steps:
            - name: a
              command: [ls]
              retries:
                limit: many
        """
    )
    assert [(problem.line, problem.column, problem.path) for problem in problems] == [
        (3, 21, "metadata.taem"),
        (10, 16, "spec.steps[0].retries.limit"),
    ]


def test_every_fault_of_every_document_is_said_at_once(problems_of: Find) -> None:
    text = batch('{name: a, run: "x", foo: 1}') + "---\n" + online("replicas: {max: 0}").replace("name: w", "name: v") + "---\nkind: Z\n"
    assert [problem.path for problem in problems_of(text)] == [
        "spec.steps[0].run",
        "spec.steps[0].foo",
        "spec.services[0].replicas.max",
        "kind",
    ]


def test_a_list_with_a_faulty_entry_is_not_also_called_empty(problems_of: Find) -> None:
    (problem,) = problems_of(batch("{name: a, command: [ls], foo: 1}"))
    assert problem.path == "spec.steps[0].foo"
