from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from autonomic.strategies.crds import rules
from autonomic.strategies.crds.definitions import definition, files
from autonomic.strategies.crds.structural import property_name, structural
from autonomic.strategies.schema import json_schema
from autonomic.strategies.spec.strategy import StrategySpec
from autonomic.workflows.spec.workflow import BatchSpec, OnlineSpec

FOLDER = Path(__file__).parents[3] / "deploy" / "crds"
KINDS = ("Workflow", "Strategy")
WORDS = {
    *("type", "description", "properties", "required", "items", "additionalProperties", "enum", "pattern", "format", "nullable"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems"),
    *("maxProperties", "anyOf", "oneOf", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string", "x-kubernetes-validations"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
}


def schema_of(kind: str) -> dict[str, Any]:
    return definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


def test_the_files_are_what_the_models_say() -> None:
    written = {path.name: path.read_text() for path in FOLDER.glob("*.yaml")}
    assert written == files(), "stale: run `autonomic crds --out deploy/crds`"
    assert [yaml.safe_load(text)["kind"] for text in written.values()] == ["CustomResourceDefinition"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_schemas_are_structural(kind: str) -> None:
    for path, node in nodes(schema_of(kind)):
        assert node.keys() <= WORDS, path
        free = node.get("x-kubernetes-preserve-unknown-fields") or node.get("x-kubernetes-int-or-string")
        assert ("type" in node) != bool(free) or node.get("type") == "object", path
        # Kubernetes knows no closed mappings, and no mapping with named and other keys
        assert not ("additionalProperties" in node and (node["additionalProperties"] is False or "properties" in node)), path
        for option in (*node.get("anyOf", []), *node.get("oneOf", [])):
            assert option.keys() == {"required"}, path
            assert set(option["required"]) <= node["properties"].keys(), path


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_free_keeps_unknown_keys(kind: str) -> None:
    free = {
        path.rpartition(".")[2].removesuffix("[]")
        for path, node in nodes(schema_of(kind))
        if "x-kubernetes-preserve-unknown-fields" in node
    }
    allowed = {
        "Workflow": {"parameters", "with", "cpu", "gpu"},
        "Strategy": {"parameters", "data", "missing", "space[][]", "cpu", "gpu", "avoid"},
    }
    assert free == allowed[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_what_rules_go_over_is_bounded(kind: str) -> None:
    for path, node in nodes(schema_of(kind)["properties"]["spec"]):
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path
        if node.get("type") == "string" and "enum" not in node and not path.endswith(("command[]", "env[]")):
            assert "maxLength" in node, path


@pytest.mark.parametrize(("kind", "models"), [("Workflow", (BatchSpec, OnlineSpec)), ("Strategy", (StrategySpec,))])
def test_every_field_is_there_as_it_is_written(kind: str, models: tuple[type, ...]) -> None:
    written = {info.alias or name for model in models for name, info in model.model_fields.items()}
    extra = {"true"} if kind == "Strategy" else set[str]()
    assert schema_of(kind)["properties"]["spec"]["properties"].keys() == written | extra


def test_a_union_of_mappings_becomes_one_with_rules() -> None:
    schema = structural(json_schema()["$defs"], "ReadingSpec")
    told = {one["message"]: one["rule"] for one in schema["x-kubernetes-validations"]}
    assert "field: belongs to webhook" in told
    assert told["by: belongs to promql"] == "!has(self.by) || has(self.promql)"
    assert any(message.startswith("exactly one of promql, ") for message in told)
    assert "max_age" in schema["properties"]
    assert not any(message.startswith("max_age") for message in told)


def test_a_trigger_within_a_trigger_ends_there() -> None:
    on = schema_of("Strategy")["properties"]["spec"]["properties"]["on"]
    assert "every" in on["properties"]["any"]["items"]["properties"]
    assert "any" not in on["properties"]["any"]["items"]["properties"]


def test_rules_name_models_and_fields_that_are_there() -> None:
    definitions = json_schema()["$defs"] | structural_queries()
    for name in rules.RULES:
        assert name.partition(".")[0] in definitions, name
    for name, field in (*rules.FIELD_RULES, *rules.UNIQUE, *rules.LIMITS):
        if name in definitions and "properties" in definitions[name]:
            assert field in definitions[name]["properties"], (name, field)


def structural_queries() -> dict[str, Any]:
    from autonomic.signals.queries import QUERIES

    return {model.__name__: model.model_json_schema(by_alias=True) for model in QUERIES.values()}


def test_reserved_words_are_spelled_as_cel_wants_them() -> None:
    assert property_name("for") == "__for__"
    assert property_name("when") == "when"
