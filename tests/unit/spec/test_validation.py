"""What does not fit together, found before anything runs."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.platforms.table import platforms
from autonomic.seams.errors import Problem, SpecError
from autonomic.strategies.promql import PromqlChecker
from autonomic.strategies.validation import check_documents, load_specs
from autonomic.workflows.spec.documents import Document, load_documents
from autonomic.workflows.spec.workflow import OnlineSpec

Find = Callable[[str], list[Problem]]
Write = Callable[..., Path]

WORKFLOWS = """\
kind: Workflow
metadata: {name: training}
spec:
  type: batch
  parameters: {epochs: 1, base_model: "", points: ""}
  steps: [{name: train, command: [ls]}]
---
kind: Workflow
metadata: {name: online}
spec:
  type: online
  services:
    - {name: api, model: "models:/m@champion"}
    - {name: files, model: "file:///m", log: false}
---
"""


def batch(*steps: str) -> str:
    lines = "".join(f"    - {step}\n" for step in steps)
    return f"kind: Workflow\nmetadata: {{name: w}}\nspec:\n  type: batch\n  parameters: {{epochs: 1}}\n  steps:\n{lines}"


def strategy(body: str, target: str = "online/api") -> str:
    return f"{WORKFLOWS}kind: Strategy\nmetadata: {{name: s}}\nspec: {{target: {target}, {body}}}\n"


DO = "do: [{notify: {message: x}}]"


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (batch("{name: a, command: [ls]}", "{name: a, command: [ls]}"), "spec.steps[1].name", "two steps named 'a'"),
        (batch("{name: load, command: [ls]}", "{name: b, needs: [lod], command: [ls]}"), "spec.steps[1].needs[0]", "did you mean 'load'?"),
        (
            batch("{name: a, needs: [c], command: [ls]}", "{name: b, needs: [a], command: [ls]}", "{name: c, needs: [b], command: [ls]}"),
            "spec.steps[0].needs",
            "cycle: a needs c needs b needs a",
        ),
        (batch("{name: a, command: [echo, '${parameters.epoch}']}"), "spec.steps[0].command[1]", "did you mean 'epochs'?"),
        (batch("{name: a, command: [ls], env: {A: '${steps.b.outputs.x}'}}"), "spec.steps[0].env.A", "unknown step 'b'"),
        (
            batch("{name: a, command: [ls], outputs: [x]}", "{name: b, command: [ls], with: {v: '${steps.a.outputs.x}'}}"),
            "spec.steps[1].with.v",
            "does not come after 'a'",
        ),
        (
            batch("{name: a, command: [ls], outputs: [path]}", "{name: b, needs: [a], command: [ls], with: {v: '${steps.a.outputs.pth}'}}"),
            "spec.steps[1].with.v",
            "no output 'pth'; did you mean 'path'?",
        ),
        (batch("{name: a, command: [ls], with: {v: '${HOME}'}}"), "spec.steps[0].with.v", "unknown reference ${HOME}; allowed are"),
        (batch("{name: a, run: 'nowhere.at_all:f'}"), "spec.steps[0].run", "there is no 'nowhere' beside the file"),
        (batch("{name: a, run: 'json:dunps', with: {obj: 1}}"), "spec.steps[0].run", "module 'json' has no 'dunps'; did you mean 'dumps'?"),
        (batch("{name: a, run: 'json:dumps', with: {ob: 1}}"), "spec.steps[0].with", "needs obj"),
        (batch("{name: a, run: 'statistics:mean', with: {data: 1, x: 1}}"), "spec.steps[0].with.x", "takes no argument 'x'"),
        (strategy(DO, "onlin/api"), "spec.target", "unknown workflow 'onlin'; did you mean 'online'?"),
        (strategy(DO, "online/apy"), "spec.target", "has no service 'apy'; did you mean 'api'?"),
        (strategy(DO, "training/x"), "spec.target", "has no step 'x'"),
        (strategy(DO, "a/b/c"), "spec.target", "is not of the form workflow or workflow/step"),
        (strategy("do: [{rescale: {by: 1}}]", "training"), "spec.do[0].rescale", "rescale acts on a service"),
        (strategy("do: [{rescale: {by: 1}}]", "online"), "spec.do[0].rescale", "rescale acts on a service"),
        (strategy("do: [{run: {}}]"), "spec.do[0].run", "run acts on a batch workflow"),
        (strategy("do: [{deploy: {}}]"), "spec.do[0].deploy", "deploy acts on an online workflow"),
        (strategy("do: [{run: {}, target: nowhere}]"), "spec.do[0].target", "unknown workflow 'nowhere'"),
        (strategy("do: [{run: {parameters: {epoch: 2}}, target: training}]"), "spec.do[0].run.parameters.epoch", "did you mean 'epochs'?"),
        (
            strategy("do: [{tune: {metric: m, space: {lr: {choice: [1]}}}, target: training}]"),
            "spec.do[0].tune.space.lr",
            "has no parameter 'lr'",
        ),
        (
            strategy("do: [{retrain: {from: 'models:/m@c', points: online/files}, target: training}]"),
            "spec.do[0].retrain.points",
            "keeps no prediction log",
        ),
        (
            strategy("do: [{retrain: {from: 'models:/m@c', points: training}, target: training}]"),
            "spec.do[0].retrain.points",
            "there is no 'training'",
        ),
        (strategy("do: [{promote: {metric: accuracy}}]", "online/files"), "spec.do[0].promote", "serves 'file:///m'"),
        (strategy("do: [{rescale: {require: {reading: q, per_replica: 2}}}]"), "spec.do[0].rescale.require.reading", "unknown reading 'q'"),
        (strategy("do: [{notify: {message: '${by.node}'}}]"), "spec.do[0].notify.message", "unknown reference ${by.node}"),
        (strategy("do: [{delete: {}, target: online}], guard: {autonomy: auto}"), "spec.guard.autonomy", "delete cannot be undone"),
        (strategy(f"readings: {{a: {{promql: 'sum(x'}}}}, {DO}"), "spec.readings.a.promql", "not valid PromQL: unclosed left parenthesis"),
        (strategy(f"readings: {{a: {{promql: '\"up\"'}}}}, {DO}"), "spec.readings.a.promql", "is a text; a reading is a number"),
        (strategy(f"readings: {{a: {{promql: 'up[5m]'}}}}, {DO}"), "spec.readings.a.promql", "gives a range of samples"),
        (strategy(f"readings: {{a-b: {{promql: x}}}}, {DO}"), "spec.readings.a-b", "no name for a condition"),
        (strategy(f"readings: {{a: {{drift: score}}}}, {DO}"), "spec.readings.a.drift", "has no drift: detector"),
        (strategy(f"readings: {{a: {{scrape: {{metric: m}}}}}}, {DO}", "training"), "spec.readings.a.scrape", "write workflow/service"),
        (
            strategy(f"readings: {{a: {{mlflow: {{metric: m, model: x}}}}}}, {DO}"),
            "spec.readings.a.mlflow",
            "one of alias and version",
        ),
        (strategy(f"readings: {{p99: {{promql: x}}}}, when: p9 > 1, {DO}"), "spec.when", "unknown name 'p9'; did you mean 'p99'?"),
        (strategy(f"readings: {{a: {{promql: x}}}}, constraint: a >, {DO}"), "spec.constraint", "(in 'a >' at 1:4)"),
        (strategy(f"readings: {{a: {{promql: x}}}}, when: a + 1, {DO}"), "spec.when", "must be true or false"),
        (strategy(f"verify: {{that: b > 1, within: 5s}}, {DO}"), "spec.verify.that", "unknown name 'b'"),
        (strategy(f"clear: 1 > 2, {DO}"), "spec.clear", "there is no when:"),
        (strategy(f"for: 5s, {DO}"), "spec.for", "there is no when:"),
        (strategy(f"on: {{cron: '61 * * * *'}}, {DO}"), "spec.on.cron", "is not a cron expression"),
        (strategy(f"on: {{cron: '0 0 31 2 *'}}, {DO}"), "spec.on.cron", "never comes: no month that it names has such a day"),
        (strategy(f"on: {{at: 20261225}}, {DO}"), "spec.on.at", "20261225 is a number; write a date and time with its zone"),
        (strategy(f"on: {{at: '1.8e9'}}, {DO}"), "spec.on.at", "1.8e9 is a number"),
        (strategy(f"on: {{cron: '0 * * * *', timezone: Mars/X}}, {DO}"), "spec.on.timezone", "unknown time zone 'Mars/X'"),
        (strategy(f"on: {{any: [{{every: 0s}}]}}, {DO}"), "spec.on.any[0].every", "longer than 0s"),
        (strategy(f"on: {{at: '2026-01-01T00:00:00'}}, {DO}"), "spec.on.at", "needs its zone"),
        (strategy("decide: 'nowhere:f'"), "spec.decide", "the planner runs it"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(problems_of: Find, text: str, path: str, words: str) -> None:
    problems = problems_of(text)
    assert [problem for problem in problems if problem.path == path and words in problem.message], problems


def test_retrain_needs_the_parameters_that_it_gives(problems_of: Find) -> None:
    text = batch("{name: a, command: [ls]}") + "---\n" + WORKFLOWS
    text += "kind: Strategy\nmetadata: {name: s}\nspec: {target: w, do: [{retrain: {from: 'models:/m@c'}}]}\n"
    assert [problem.message.split(",")[0] for problem in problems_of(text)] == [
        "retrain gives the parameter 'base_model'",
        "retrain gives the parameter 'points'",
    ]


def test_a_second_document_of_the_same_name_is_refused_with_the_place_of_the_first(problems_of: Find) -> None:
    (problem,) = problems_of(WORKFLOWS + batch("{name: a, command: [ls]}") + "---\n" + batch("{name: a, command: [ls]}"))
    assert "second Workflow named 'w'" in problem.message
    assert "spec.yaml:18" in problem.message


def test_a_strategy_is_not_blamed_for_a_workflow_that_is_broken_itself(problems_of: Find) -> None:
    (problem,) = problems_of(strategy(DO).replace("type: online", "type: onlin"))
    assert problem.path == "spec.type"


def test_documents_that_fit_are_returned_with_their_origins(write: Write) -> None:
    path = write(
        strategy("readings: {p99: {promql: x}}, when: p99 > 0.1, clear: p99 < 0.05, do: [{rescale: {by: 1}}], guard: {autonomy: auto}")
    )
    specs = load_specs([path])
    assert [workflow.name for workflow in specs.workflows] == ["training", "online"]
    assert [strategy.name for strategy in specs.strategies] == ["s"]
    assert specs.origins["Strategy", "s"].line == 18
    assert specs.folders == {"training": path.parent, "online": path.parent}


def test_a_strategy_may_aim_at_a_workflow_that_was_applied_before(write: Write) -> None:
    known = load_specs([write(WORKFLOWS)]).workflows
    path = write("kind: Strategy\nmetadata: {name: s}\nspec: {target: online/api, do: [{rescale: {by: 1}}]}\n", "alone.yaml")
    assert load_specs([path], known_workflows=known).strategies
    with pytest.raises(SpecError, match="unknown workflow 'online'"):
        load_specs([path])


def test_notifying_people_may_be_automatic(write: Write) -> None:
    assert load_specs([write(strategy(DO + ", guard: {autonomy: auto}"))]).strategies


def test_user_code_is_found_beside_its_file_without_being_run(write: Write, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "own.py").write_text(
        "raise SystemExit('imported')\n"
        "from typing import TypedDict\n"
        "class Out(TypedDict):\n    path: str\n"
        "def load(context, folder: str, limit: int = 5) -> Out: ...\n"
    )
    fits = batch(
        "{name: a, run: 'own:load', with: {folder: x}}", "{name: b, needs: [a], command: [ls], with: {v: '${steps.a.outputs.path}'}}"
    )
    load_specs([write(fits, "deep/w.yaml")])
    with pytest.raises(SpecError, match="no output 'pth'; did you mean 'path'"):
        load_specs([write(fits.replace("outputs.path", "outputs.pth"), "deep/w.yaml")])
    with pytest.raises(SpecError, match="there is no 'own' beside the file"):
        load_specs([write(fits, "elsewhere/w.yaml")])


def test_user_code_is_not_looked_for_where_it_is_elsewhere(write: Write) -> None:
    documents = load_documents([write(batch("{name: a, run: 'nowhere:f'}"))])
    assert check_documents(documents, code=False).workflows


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f(:\n", "own.py:1 is not valid Python"),
        ("x = 1\n", "module 'own' has no 'f'"),
        ("\0", "own.py is not valid Python"),
    ],
)
def test_faulty_user_code_is_named(write: Write, tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "own.py").write_text(source)
    with pytest.raises(SpecError) as caught:
        load_specs([write(batch("{name: a, run: 'own:f'}"))])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    from json import dumps as f\nexcept ImportError:\n    f = None\n",
        "if True:\n    async def f(): ...\n",
        "from json import *\n",
        "def __getattr__(name): ...\n",
        "class f: ...\n",
        "a, f = 1, 2\n",
        "import functools\n@functools.cache\ndef f(x): ...\n",
        "def f(**anything): ...\n",
    ],
)
def test_every_way_to_define_a_name_is_known(write: Write, tmp_path: Path, source: str) -> None:
    (tmp_path / "own.py").write_text(source)
    assert load_specs([write(batch("{name: a, run: 'own:f'}"))]).workflows


def test_prometheus_is_asked_only_about_what_the_library_does_not_know() -> None:
    nobody = "http://127.0.0.1:9"
    assert PromqlChecker(nobody).fault("sum by (le) (rate(x_bucket[5m]))") == ""
    assert PromqlChecker(nobody).fault("sum(x") == "unclosed left parenthesis"


def test_the_json_of_a_document_is_read_back_equal(write: Write) -> None:
    specs = load_specs(
        [
            write(
                strategy(
                    "readings: {a: {scrape: {metric: m, rate: 5s}, max_age: 2s}, b: {promql: x, by: node, missing: {last: 1m}}},"
                    "when: a > 1, for: 5s, do: [{reroute: {canary: 10%}}, {run: {}, target: training}],"
                    "verify: {that: a < 1, within: 1m, else: keep}, guard: {limit: 10/h}"
                )
            )
        ]
    )
    for model in (*specs.workflows, *specs.strategies):
        data = model.model_dump(mode="json", by_alias=True)
        assert type(model).model_validate(data) == model
        assert check_documents([Document("<json>", data)], known_workflows=specs.workflows, code=False)


def test_a_document_given_as_json_is_placed_by_its_path() -> None:
    document = Document("<request>", {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "x"}})
    with pytest.raises(SpecError) as caught:
        check_documents([document])
    assert str(caught.value) == "<request>:1:1: the key 'spec' is missing; it is required here (spec)"


KEYS = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "spec",
        "type",
        "steps",
        "services",
        "run",
        "command",
        "needs",
        "with",
        "target",
        "on",
        "readings",
        "promql",
        "scrape",
        "mlflow",
        "platform",
        "when",
        "do",
        "rescale",
        "retrain",
        "verify",
        "guard",
        "missing",
        "any",
        "drift",
    ]
)
VALUES = st.sampled_from(
    ["batch", "online", "a", "models:/m@c", "json:dumps", "5s", "10%", "${parameters.x}", "a > 1", "", None, 0, -1, 1e9, True]
)
TREES = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20)


@given(kind=st.sampled_from(["Workflow", "Strategy", 5, None]), name=VALUES, spec=TREES, key=KEYS, value=TREES)
def test_whatever_is_written_is_accepted_or_refused_with_problems(
    kind: object, name: object, spec: object, key: str, value: object
) -> None:
    data = {"apiVersion": "autonomic.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec, key: value}
    _accepted_or_refused(data)


@given(path=st.integers(0, 200), value=TREES)
def test_one_wrong_value_anywhere_is_accepted_or_refused_with_problems(path: int, value: object) -> None:
    data = copy.deepcopy(RICH)
    places = list(_places(data))
    holder, key = places[path % len(places)]
    holder[key] = value
    _accepted_or_refused(data)


RICH: dict[str, Any] = {
    "apiVersion": "autonomic.dev/v1alpha1",
    "kind": "Strategy",
    "metadata": {"name": "s", "labels": {"a": "b"}},
    "spec": {
        "target": "w/s",
        "on": {"any": [{"every": "1s"}, {"cron": "0 * * * *", "timezone": "UTC"}]},
        "readings": {
            "a": {"promql": "x", "by": "node", "max_age": "5s"},
            "b": {"scrape": {"metric": "m", "labels": {"x": "y"}}, "missing": {"last": "1m"}},
            "c": {"mlflow": {"metric": "m", "model": "x", "alias": "y"}},
        },
        "when": "a > 1 && b < 2",
        "clear": "a < 1",
        "do": [{"rescale": {"require": {"reading": "a", "per_replica": 2}}}, {"tune": {"metric": "m", "space": {"x": {"choice": [1]}}}}],
        "verify": {"that": "a < 1", "within": "1m", "else": "keep"},
        "guard": {"autonomy": "auto", "limit": "10/h"},
        "missing": "hold",
    },
}


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield data, key
        yield from _places(value)


def _accepted_or_refused(data: Any) -> None:
    try:
        specs, problems = check_documents([Document("<json>", data)]), ()
    except SpecError as refused:
        specs, problems = None, refused.problems
    assert specs or problems
    assert all(problem.message and "pydantic" not in problem.message for problem in problems)


@pytest.mark.parametrize("do", ["{resize: {times: {cpu: 2}}}", "{reschedule: {avoid: {node: a}}}"])
def test_what_a_platform_cannot_do_is_found_where_the_platform_is_known(write: Write, do: str) -> None:
    path = write(strategy(f"on: {{every: 1s}}, do: [{do}]"))
    for platform in (None, "kubernetes", "simulated"):
        assert load_specs([path], platforms=platforms(platform)).strategies
    with pytest.raises(SpecError, match="the platform ray has no re"):
        load_specs([path], platforms=platforms("ray"))


@pytest.mark.parametrize(
    ("target", "do", "right"),
    [
        ("training/train", "{resize: {cpu: 1}}", True),
        ("training", "{resize: {cpu: 2}}", False),
        ("training", "{reschedule: {avoid: {node: a}}}", True),
        ("online", "{reschedule: {avoid: {node: a}}}", False),
    ],
)
def test_a_size_is_of_a_part_and_a_place_of_a_part_or_of_all_steps(write: Write, target: str, do: str, right: bool) -> None:
    path = write(strategy(f"on: {{every: 1s}}, do: [{do}]", target))
    if right:
        assert load_specs([path]).strategies
    else:
        with pytest.raises(SpecError, match="a service or a step, written workflow/service or workflow/step"):
            load_specs([path])


ADOPTED = "kind: Workflow\nmetadata: {name: legacy}\nspec: {type: online, adopt: {deployment: web.v1, replicas: {max: 5}}}\n---\n"


def test_bounds_of_an_adopted_container_are_in_order(write: Write) -> None:
    bounds = "{container: web, resources: {min: {memory: 2Gi, cpu: 1}, max: {memory: 1Gi, cpu: 2}}}"
    with pytest.raises(SpecError, match=r"resources\.min\.memory 2Gi is greater than resources\.max\.memory 1Gi"):
        load_specs([write(ADOPTED.replace("deployment: web.v1", "deployment: web.v1, " + bounds[1:-1]))])
    with pytest.raises(SpecError, match="gpu"):
        load_specs([write(ADOPTED.replace("deployment: web.v1", "deployment: web.v1, resources: {max: {gpu: 2}}"))])


def test_an_adopted_workload_is_a_target_by_its_name_and_may_be_rescaled(write: Write) -> None:
    specs = load_specs([write(ADOPTED + strategy("on: {every: 1s}, do: [{rescale: {by: 1}}]", "legacy/web.v1"))])
    parts = {workflow.name: workflow.spec.parts for workflow in specs.workflows if isinstance(workflow.spec, OnlineSpec)}
    assert parts["legacy"] == ("web.v1",)
    assert load_specs([write(ADOPTED)], platforms=platforms("kubernetes")).workflows
    with pytest.raises(SpecError, match="the platform ray adopts nothing"):
        load_specs([write(ADOPTED)], platforms=platforms("ray"))
    with pytest.raises(SpecError, match="has no service 'web'"):
        load_specs([write(ADOPTED + strategy("on: {every: 1s}, do: [{rescale: {by: 1}}]", "legacy/web"))])
    with pytest.raises(SpecError, match="is adopted: it takes rescale, resize, retarget, and not reroute"):
        load_specs([write(ADOPTED + strategy("on: {every: 1s}, do: [{reroute: {canary: 10%}}]", "legacy/web.v1"))])
    retarget = "on: {every: 1s}, do: [{retarget: {metric: cpu, times: 0.8}}]"
    assert load_specs([write(ADOPTED + strategy(retarget, "legacy/web.v1"))], platforms=platforms("kubernetes")).strategies
    with pytest.raises(SpecError, match="is not adopted; retarget acts on what an HPA or a ScaledObject scales"):
        load_specs([write(strategy(retarget))])


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ("{cpu: 1}", "declares no memory, so that there is nothing to resize; write resources: {memory: 1Gi, max: {memory: 4Gi}}"),
        ("{memory: 1Gi}", "declares no room for its memory: write resources: {max: {memory: …}}"),
        ("{memory: 1Gi, max: {memory: 2Gi}}", ""),
    ],
)
def test_a_resize_that_could_never_change_anything_is_found_before_it_is_needed(write: Any, resources: str, words: str) -> None:
    batch = f"{{type: batch, steps: [{{name: train, command: [work], resources: {resources}}}]}}"
    documents = f"{{apiVersion: autonomic.dev/v1alpha1, kind: Workflow, metadata: {{name: fits}}, spec: {batch}}}\n---\n"
    path = write(documents + strategy("on: {call: true}, do: [{resize: {times: {memory: 2}}}]", "fits/train"))
    if not words:
        assert load_specs([path], platforms=platforms("kubernetes")).strategies
        return
    with pytest.raises(SpecError) as refused:
        load_specs([path])
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "spec",
    [
        "{type: online}",
        "{type: online, services: []}",
        "{type: online, adopt: {}}",
        "{type: online, adopt: {deployment: a, job: b}}",
        "{type: online, adopt: {deployment: a}, services: [{name: api, model: 'file:///m'}]}",
    ],
)
def test_an_online_workflow_is_services_or_one_adopted_workload(write: Write, spec: str) -> None:
    with pytest.raises(SpecError, match=r"exactly one of deployment, statefulset, job|not both and not none"):
        load_specs([write(f"kind: Workflow\nmetadata: {{name: legacy}}\nspec: {spec}\n")])
