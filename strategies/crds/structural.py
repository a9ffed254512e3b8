"""JSON Schema as pydantic writes it, turned into the structural schemas that Kubernetes takes. Pure.

A structural schema has no references, no unions of forms and no `additionalProperties: false`: references are put in place, a
union of mappings becomes one mapping with a rule, and unknown keys are refused by the API server itself, which knows them all.
"""

from typing import Any, cast, get_args

from pydantic import WithJsonSchema

from autonomic.strategies.crds import rules
from autonomic.strategies.crds.rules import Rule, exactly_one
from autonomic.workflows.spec import units

Schema = dict[str, Any]

_KEPT = ("pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
_RESERVED = frozenset({"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop"}) | {
    *("namespace", "null", "package", "return", "true", "var", "void", "while")
}
_PERCENT = r"^0*(100(\.0+)?|\d{1,2}(\.\d+)?)%$"
_DATE = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:?\d{2})$"


def structural(definitions: dict[str, Schema], name: str) -> Schema:
    """The structural schema of one definition."""
    return _Writer(definitions).model(name, ())


def property_name(name: str) -> str:
    """A property as CEL spells it."""
    return f"__{name}__" if name in _RESERVED else name


def _pattern_of(alias: Any) -> str:
    schema = next(part for part in get_args(alias) if isinstance(part, WithJsonSchema)).json_schema
    return str((schema or {})["pattern"])


_CORES, _BYTES, _SHARE = _pattern_of(units.Cpu), _pattern_of(units.Bytes), _pattern_of(units.Percent)


class _Writer:
    def __init__(self, definitions: dict[str, Schema]) -> None:
        self._definitions = definitions

    def model(self, name: str, inside: tuple[str, ...]) -> Schema:
        """The definition `name`, of which `inside` are the definitions around it."""
        found = self._definitions[name]
        if "oneOf" in found:
            return self._spelled(found, name, inside)
        properties = {key: self.field(value, (name, key), (*inside, name)) for key, value in found.get("properties", {}).items()}
        properties = {key: value for key, value in properties.items() if value}
        checks = rules.RULES.get(f"{name}.{name}" if name in inside else name, ())
        return _object(properties, found.get("required", []), found.get("description", ""), list(checks))

    def _spelled(self, found: Schema, name: str, inside: tuple[str, ...]) -> Schema:
        """A mapping in which one of several keys says what it is, and the other keys follow from that."""
        options = [cast(Schema, option) for option in found["oneOf"]]
        heads = [str(option["required"][0]) for option in options]
        properties: Schema = {}
        owners: dict[str, list[str]] = {}
        for head, option in zip(heads, options, strict=True):
            model = self._of_option(head, option)
            for key, value in option["properties"].items():
                owners.setdefault(key, []).append(head)
                if key not in properties:
                    properties[key] = self.field(value, (model if key != "target" else name, key), (*inside, name))
        empty = any(properties[head].get("nullable") for head in heads)
        # CEL takes what is null for absent, where a key alone may be meant
        counted = Rule(exactly_one([property_name(head) for head in heads]), f"exactly one of {', '.join(heads)} is given")
        checks = [] if empty else [counted]
        for key, several in owners.items():
            if key not in heads and len(several) < len(heads):
                given = " || ".join(f"has(self.{property_name(head)})" for head in several)
                checks.append(Rule(f"!has(self.{property_name(key)}) || {given}", f"{key}: belongs to {', '.join(several)}"))
        made = _object(properties, [], found.get("description", ""), checks)
        return made | {"oneOf": [{"required": [head]} for head in heads]} if empty else made

    def _of_option(self, head: str, option: Schema) -> str:
        """The model whose fields an option of a spelled mapping has; where they stand beside the key, the query's."""
        return f"{head.capitalize()}Query" if "$ref" not in str(option["properties"][head]) else head

    def field(self, schema: Schema, at: tuple[str, str], inside: tuple[str, ...]) -> Schema:
        """What stands under one key; empty where it would go on for ever."""
        made = self._value(schema, at, inside)
        if not made:
            return {}
        if "description" in schema:
            made = {"description": _words(schema["description"]), **{key: value for key, value in made.items() if key != "description"}}
        if at in rules.UNIQUE:
            made |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        if at in rules.FIELD_RULES:
            made["x-kubernetes-validations"] = _validations(list(rules.FIELD_RULES[at]))
        return made

    def _value(self, schema: Schema, at: tuple[str, str], inside: tuple[str, ...]) -> Schema:
        if "$ref" in schema:
            name = str(schema["$ref"]).rpartition("/")[2]
            # a trigger holds triggers; what these could hold says nothing new, and a schema has to end somewhere
            return {} if inside.count(name) > 1 else self.model(name, inside)
        if "anyOf" in schema:
            return self._union(schema["anyOf"], at, inside)
        if schema.get("pattern") and isinstance(schema.get("type"), list):
            return _quantity(str(schema["pattern"]))
        if schema.get("format") == "date-time":
            return {"type": "string", "pattern": _DATE, "maxLength": 40}
        match schema.get("type"):
            case "string":
                return self._text(schema, at)
            case "array":
                items = self._value(schema.get("items", {}), at, inside)
                bound = {"maxItems": rules.LIMITS.get(at, rules.ITEMS)}
                return {"type": "array", "items": items, **bound, **_kept(schema)} if items else {}
            case "object":
                return self._mapping(schema, at, inside)
            case None:
                return {"x-kubernetes-preserve-unknown-fields": True}
            case kind:
                return {"type": kind, **_kept(schema)}

    def _union(self, options: list[Schema], at: tuple[str, str], inside: tuple[str, ...]) -> Schema:
        given = [option for option in options if option.get("type") != "null"]
        # a field that may be left out may also be null, which Kubernetes drops; an action without arguments is written as null
        nullable = {"nullable": True} if len(given) < len(options) and at[0] == at[1] else {}
        if len(given) == 1:
            return {**self._value(given[0], at, inside), **nullable}
        if any(option.get("type") == "array" for option in given):
            # one or a list of them: a structural schema has one type, so that only the agents judge it
            return {"x-kubernetes-preserve-unknown-fields": True}
        word = next(str(option["const"]) for option in given if "const" in option)
        mapping = self._value(next(option for option in given if "$ref" in option), at, inside)
        # without a type, each of these speaks only of the values that it fits: the pattern of texts, the others of mappings
        keys = list(mapping["properties"])
        return {
            "description": mapping.get("description", ""),
            "x-kubernetes-preserve-unknown-fields": True,
            "pattern": f"^{word}$",
            "properties": mapping["properties"],
            "anyOf": [{"required": [key]} for key in keys],
            "maxProperties": 1,
        }

    def _text(self, schema: Schema, at: tuple[str, str]) -> Schema:
        allowed: Any = schema.get("enum") or ([schema["const"]] if "const" in schema else None)
        if allowed:
            return {"type": "string", "enum": allowed}
        bound = {} if at in rules.UNBOUNDED_TEXT else {"maxLength": _length(schema, at)}
        return {"type": "string", **bound, **_kept(schema)}

    def _mapping(self, schema: Schema, at: tuple[str, str], inside: tuple[str, ...]) -> Schema:
        inner = schema.get("additionalProperties", True)
        if inner is True or inner == {}:
            return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        bound = rules.LIMITS.get(at, rules.PROPERTIES)
        return {"type": "object", "maxProperties": bound, "additionalProperties": self._value(inner, at, inside)}


def _quantity(pattern: str) -> Schema:
    if pattern == _CORES:
        # a number or a text: Kubernetes has a word for whole numbers and texts only. Each bound speaks of the values that it fits
        return {"x-kubernetes-preserve-unknown-fields": True, "pattern": pattern, "minimum": 0}
    if pattern == _BYTES:
        return {"x-kubernetes-int-or-string": True, "pattern": pattern, "maxLength": 32, "minimum": 0}
    return {"type": "string", "pattern": _PERCENT if pattern == _SHARE else pattern, "maxLength": 32}


def _kept(schema: Schema) -> Schema:
    kept = {key: schema[key] for key in _KEPT if key in schema}
    for exclusive, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in schema:
            kept |= {plain: schema[exclusive], exclusive: True}
    return kept


def _length(schema: Schema, at: tuple[str, str]) -> int:
    # the pattern of names bounds them, but the estimate of costs does not read patterns
    if str(schema.get("pattern", "")).endswith("{0,51}[a-z0-9])?$"):
        return 53
    return rules.LIMITS.get(at, rules.TEXT_LENGTH)


def _object(properties: Schema, required: list[str], description: str, checks: list[Rule]) -> Schema:
    made: Schema = {"type": "object"}
    if description:
        made["description"] = _words(description)
    if required:
        made["required"] = list(required)
    made["properties"] = dict(sorted(properties.items()))
    if checks:
        made["x-kubernetes-validations"] = _validations(checks)
    return made


def _validations(checks: list[Rule]) -> list[Schema]:
    return [{"rule": check.rule, "message": check.message} for check in checks]


def _words(text: str) -> str:
    return " ".join(str(text).split())
