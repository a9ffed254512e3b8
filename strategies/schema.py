"""The JSON Schema of what a user writes, for editors: readings by signal and actions by primitive, as they are spelled."""

import json
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.json_schema import models_json_schema

from autonomic.primitives.table import ARGUMENTS
from autonomic.signals.queries import NESTED, QUERIES
from autonomic.strategies.spec.strategy import ReadingSpec, Strategy
from autonomic.workflows.spec.workflow import API_VERSION, Workflow

Schema = dict[str, Any]


def json_schema() -> Schema:
    """The schema (draft 2020-12) of one document of any kind."""
    root: TypeAdapter[Workflow | Strategy] = TypeAdapter(Annotated[Workflow | Strategy, Field(discriminator="kind")])
    schema = root.json_schema(by_alias=True)
    definitions: dict[str, Schema] = schema.pop("$defs")
    _, parts = models_json_schema([(model, "validation") for model in (*ARGUMENTS.values(), *QUERIES.values())], by_alias=True)
    definitions |= parts["$defs"]
    definitions["ReadingSpec"] = _readings(definitions)
    definitions["ActionSpec"] = _actions()
    # inlined: an editor that completes after `signal:` must not offer the queries' own models as readings
    for name in [model.__name__ for signal, model in QUERIES.items() if signal not in NESTED]:
        del definitions[name]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://{API_VERSION}/autonomic.schema.json",
        "title": "autonomic",
        "description": "A workflow (what runs) or a strategy (what keeps it healthy).",
        "oneOf": schema["oneOf"],
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    """The schema as it is printed and kept in a file."""
    return json.dumps(json_schema(), indent=2) + "\n"


def _readings(definitions: dict[str, Schema]) -> Schema:
    own = definitions["ReadingSpec"]["properties"]
    beside = {name: own[name] for name in ReadingSpec.model_fields if name not in ("signal", "query")}
    options: list[Schema] = []
    for signal, model in QUERIES.items():
        about = {"description": _first_line(model.__doc__)}
        if signal in NESTED:
            properties = {signal: {"$ref": f"#/$defs/{model.__name__}"} | about}
        else:
            fields = definitions[model.__name__]["properties"]
            properties = {**fields, signal: fields[signal] | about}
        options.append(_mapping({**properties, **beside}, [signal]))
    return {"description": _first_line(ReadingSpec.__doc__), "oneOf": options}


def _actions() -> Schema:
    target = {"type": "string", "description": "What is acted on, where it is not the strategy's own target."}
    options: list[Schema] = []
    for primitive, model in ARGUMENTS.items():
        value: Schema = {"$ref": f"#/$defs/{model.__name__}", "description": _first_line(model.__doc__)}
        if not any(field.is_required() for field in model.model_fields.values()):
            value = {"description": value["description"], "anyOf": [{"$ref": value["$ref"]}, {"type": "null"}]}
        options.append(_mapping({primitive: value, "target": target}, [primitive]))
    return {"description": "One primitive with its arguments.", "oneOf": options}


def _mapping(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]
