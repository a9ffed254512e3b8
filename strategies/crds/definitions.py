"""The CustomResourceDefinitions of workflows and strategies. Pure."""

from typing import Any, cast

import yaml

from autonomic.strategies.crds.rules import Rule
from autonomic.strategies.crds.structural import Schema, structural
from autonomic.strategies.schema import json_schema
from autonomic.workflows.spec.workflow import API_VERSION

GROUP, VERSION = API_VERSION.split("/")
ON = "true"
"""How `on:` arrives from a client that reads YAML 1.1, as kubectl does: there the word is a boolean, also as a key."""
_BRANCHES = {"batch": "BatchSpec", "online": "OnlineSpec"}
_CONDITION: Schema = {
    "type": "object",
    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
    "properties": {
        "type": {"type": "string"},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "reason": {"type": "string"},
        "message": {"type": "string", "maxLength": 32768},
        "observedGeneration": {"type": "integer", "format": "int64"},
        "lastTransitionTime": {"type": "string", "format": "date-time"},
    },
}
_STATUS: dict[str, tuple[Schema, str]] = {
    "observedGeneration": ({"type": "integer", "format": "int64"}, "The generation of this object that was judged last."),
    "state": ({"type": "string"}, "In a word."),
    "version": ({"type": "string"}, "The model that is served, by its version; of everything else the generation that is in force."),
    "lastAction": ({"type": "string"}, "The last action, and what came of it."),
    "lastActionTime": ({"type": "string", "format": "date-time"}, "When it ended."),
}
_OWN_STATUS: dict[str, dict[str, tuple[Schema, str]]] = {
    "Workflow": {"replicas": ({"type": "string"}, "Replicas of the champions of all services: ready/wanted.")},
    "Strategy": {"autonomy": ({"type": "string"}, "How freely it may act now, which is less than it says after it demoted itself.")},
}
_COLUMNS: dict[str, list[tuple[str, str, str, int]]] = {
    "Workflow": [
        ("Type", "string", ".spec.type", 0),
        ("State", "string", ".status.state", 0),
        ("Replicas", "string", ".status.replicas", 0),
        ("Version", "string", ".status.version", 0),
        ("Last action", "string", ".status.lastAction", 0),
        ("Age", "date", ".metadata.creationTimestamp", 0),
        ("Accepted", "string", '.status.conditions[?(@.type=="Accepted")].status', 1),
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 1),
    ],
    "Strategy": [
        ("Target", "string", ".spec.target", 0),
        ("State", "string", ".status.state", 0),
        ("Autonomy", "string", ".status.autonomy", 0),
        ("Version", "string", ".status.version", 0),
        ("Last action", "string", ".status.lastAction", 0),
        ("Age", "date", ".metadata.creationTimestamp", 0),
        ("Accepted", "string", '.status.conditions[?(@.type=="Accepted")].status', 1),
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 1),
    ],
}
_NAMES = {
    "Workflow": {"plural": "workflows", "singular": "workflow", "shortNames": ["awf"]},
    "Strategy": {"plural": "strategies", "singular": "strategy", "shortNames": ["ast"]},
}


def definition(kind: str) -> Schema:
    """The CustomResourceDefinition of a kind."""
    definitions: dict[str, Schema] = json_schema()["$defs"]
    spec = _workflow_spec(definitions) if kind == "Workflow" else _strategy_spec(definitions)
    names = {"kind": kind, "listKind": f"{kind}List", **_NAMES[kind], "categories": ["autonomic"]}
    schema: Schema = {
        "type": "object",
        "description": definitions[kind]["description"],
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": _name(definitions)}},
            "spec": spec,
            "status": _status(kind),
        },
    }
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(*column) for column in _COLUMNS[kind]],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{_NAMES[kind]['plural']}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "autonomic"}},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def files() -> dict[str, str]:
    """The definitions as they are kept in files, by name."""
    return {f"{_NAMES[kind]['plural']}.yaml": _text(definition(kind)) for kind in _NAMES}


def _text(value: Schema) -> str:
    head = "# Made by `autonomic crds --out deploy/crds` from the models of the documents; do not change it by hand.\n"
    return head + yaml.safe_dump(value, sort_keys=False, width=140)


def _workflow_spec(definitions: dict[str, Schema]) -> Schema:
    """The branches of the union in one mapping; which keys go with which type is a rule."""
    made = {word: structural(definitions, name) for word, name in _BRANCHES.items()}
    properties: Schema = {}
    checks: list[Rule] = []
    for word, branch in made.items():
        own = cast(Schema, branch["properties"])
        others = sorted({key for other in made.values() for key in other["properties"]} - own.keys())
        needed = [name for name in branch["required"] if name != "type"]
        wrong = " && ".join([*(f"has(self.{name})" for name in needed), *(f"!has(self.{name})" for name in others)])
        text = f"an {word}" if word[0] in "aeiou" else f"a {word}"
        told = f"{', '.join(needed)} and no {', '.join(others)}" if needed else f"no {', '.join(others)}"
        checks.append(Rule(f"self.type != '{word}' || {wrong}", f"{text} workflow has {told}"))
        for own_rule in branch.get("x-kubernetes-validations", ()):
            checks.append(Rule(f"self.type != '{word}' || ({own_rule['rule']})", own_rule["message"]))
        properties |= own
    properties["type"] = {"type": "string", "enum": list(_BRANCHES)}
    validations: list[Any] = [{"rule": check.rule, "message": check.message} for check in checks]
    return {"type": "object", "required": ["type"], "properties": dict(sorted(properties.items())), "x-kubernetes-validations": validations}


def _strategy_spec(definitions: dict[str, Schema]) -> Schema:
    made = structural(definitions, "StrategySpec")
    on: Schema = made["properties"]["on"]
    told = "`on:` as a client that reads YAML 1.1 sends it: there the word is a boolean."
    return {**made, "properties": {**made["properties"], ON: {**on, "description": told}}}


def _name(definitions: dict[str, Schema]) -> Schema:
    return {"type": "string", "pattern": definitions["Metadata"]["properties"]["name"]["pattern"], "maxLength": 53}


def _status(kind: str) -> Schema:
    told = {**_STATUS, **_OWN_STATUS[kind]}
    properties = {name: {**schema, "description": words} for name, (schema, words) in told.items()}
    conditions: Schema = {
        "type": "array",
        "description": "Accepted: the document is in force as it is written. Ready: what it speaks of is in service.",
        "maxItems": 8,
        "items": _CONDITION,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }
    return {"type": "object", "description": "Written by the planner.", "properties": {**properties, "conditions": conditions}}


def _column(name: str, kind: str, path: str, priority: int) -> Schema:
    column: Schema = {"name": name, "type": kind, "jsonPath": path}
    return column | {"priority": priority} if priority else column
