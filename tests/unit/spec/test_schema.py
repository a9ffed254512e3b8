import copy
from pathlib import Path

import jsonschema
import pytest

from autonomic.strategies.schema import json_schema, text
from autonomic.strategies.validation import load_specs
from autonomic.workflows.spec.documents import load_documents

ROOT = Path(__file__).parents[3]
FILE = ROOT / "deploy" / "schema" / "autonomic.schema.json"
SHIPPED = [
    path for folder in ("examples", "strategies/library", "strategies/kubernetes") for path in sorted((ROOT / folder).rglob("*.yaml"))
]


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_what_the_models_say() -> None:
    assert FILE.read_text() == text(), "stale: run `autonomic schema > deploy/schema/autonomic.schema.json`"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_documents_satisfy_the_schema_and_tell_editors_where_it_is(path: Path, validator: jsonschema.Draft202012Validator) -> None:
    for document in load_documents([path]):
        validator.validate(document.data)
    marker, _, relative = path.read_text().split("\n", 1)[0].partition("$schema=")
    assert marker == "# yaml-language-server: "
    assert (path.parent / relative).resolve() == FILE


def test_shipped_documents_fit_together() -> None:
    specs = load_specs(SHIPPED)
    assert {"hello"} <= {workflow.name for workflow in specs.workflows}


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ((), "kind", "Workflov"),
        ((), "extra", 1),
        (("metadata",), "name", "Not_a_label"),
        (("spec",), "on", {"evry": "1s"}),
        (("spec",), "readings", {"a": {"promq": "x"}}),
        (("spec",), "readings", {"a": {"promql": "x", "platform": "queued"}}),
        (("spec",), "readings", {"a": {"scrape": {"metric": "x", "quantil": 0.5}}}),
        (("spec",), "do", [{"rescal": {"by": 1}}]),
        (("spec",), "do", [{"rescale": {"bye": 1}}]),
        (("spec",), "do", [{"rescale": {"by": 1}, "run": {}}]),
        (("spec",), "do", [{"retrain": None}]),
        (("spec",), "for", "5 seconds"),
        (("spec",), "guard", {"limit": "10"}),
    ],
)
def test_an_editor_marks_what_is_wrong(validator: jsonschema.Draft202012Validator, where: tuple[str, ...], key: str, value: object) -> None:
    good = {
        "apiVersion": "autonomic.dev/v1alpha1",
        "kind": "Strategy",
        "metadata": {"name": "s"},
        "spec": {
            "target": "w/s",
            "on": {"every": "1s"},
            "readings": {"a": {"promql": "x", "max_age": "5s"}, "b": {"scrape": {"metric": "m"}, "missing": {"last": "1m"}}},
            "when": "a > 1",
            "for": "5s",
            "do": [{"rescale": {"by": 1}}, {"rollback": None}, {"run": {}, "target": "t"}],
            "verify": {"that": "a < 1", "within": "1m", "else": "keep"},
        },
    }
    assert validator.is_valid(good)
    bad = copy.deepcopy(good)
    inner = bad
    for name in where:
        inner = inner[name]
    inner[key] = value
    assert not validator.is_valid(bad)
