"""Saying what is wrong with a document in the words in which it was written."""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from autonomic.seams.errors import Problem
from autonomic.workflows.spec import workflow
from autonomic.workflows.spec.documents import Document
from autonomic.workflows.spec.places import Keys

Model = TypeVar("Model", bound=BaseModel)
Shorthand = Callable[[Mapping[str, Any]], tuple[str | None, type[BaseModel] | None, frozenset[str]]]
"""How a model is written where its fields are not its keys, as `{rescale: {by: 1}}`: of the mapping written, the key whose
value holds the inner model's fields (None: they stand in the mapping itself), that inner model (None: it cannot be told), and
the keys that may stand beside."""

_KINDS = {
    "string_type": "text (put it in quotes)",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "tuple_type": "a list",
    "list_type": "a list",
    "datetime_type": "a date and time such as 2026-01-31T18:00:00+01:00",
    "datetime_parsing": "a date and time such as 2026-01-31T18:00:00+01:00",
    "datetime_from_date_parsing": "a date and time such as 2026-01-31T18:00:00+01:00",
}
_PATTERNS = {
    workflow.Name: "lower-case letters, digits and '-', beginning and ending with a letter or digit, at most 53 characters",
    workflow.Function: "package.module:function",
    workflow.ModelUri: "models:/name@alias, models:/name/version, or a folder as s3://… or file://…",
}


def validate(
    document: Document, model: type[Model], problems: list[Problem], shorthands: Mapping[type[BaseModel], Shorthand] | None = None
) -> Model | None:
    """The document as `model`, or None after its faults were added to `problems`."""
    if not isinstance(document.data, dict):
        problems.append(
            document.problem((), f"found {describe(document.data)}; a document is a mapping with apiVersion, kind, metadata and spec")
        )
        return None
    try:
        # strict: `min: true` is no number, and neither is `max: "3"`; JSON, so that a list may be a tuple
        return model.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        problems += _translate(error, document, model, shorthands or {})
        return None


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'needs'?` where one of `known` is close, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def listed(names: Iterable[str]) -> str:
    """`a, b, c`, or `none`."""
    return ", ".join(names) or "none"


def describe(value: Any) -> str:
    """A value that was found, short, with its kind where that is not plain."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{str(value).lower()} (a boolean)"
    if isinstance(value, int | float):
        return f"{value!r:.40} (a number)"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    return "a mapping" if isinstance(value, Mapping) else "a list"


def _translate(
    error: ValidationError, document: Document, model: type[BaseModel], shorthands: Mapping[type[BaseModel], Shorthand]
) -> list[Problem]:
    found: dict[tuple[Keys, str], Problem] = {}
    located = [(*_locate(detail["loc"], document.data, model, shorthands), detail) for detail in error.errors(include_url=False)]
    branches = [(path, detail) for path, _, branch, detail in located if branch]
    for path, allowed, branch, detail in located:
        if _follows(detail) or (branch and _is_worse_branch(path, detail, branches)):
            continue
        at = (*path, detail.get("ctx", {})["discriminator"].strip("'")) if detail["type"] == "union_tag_invalid" else path
        message, at_key = _message(detail, at, allowed)
        found.setdefault((at, message), document.problem(at, message, at_key=at_key))
    return list(found.values())


def _follows(detail: ErrorDetails) -> bool:
    """Whether a fault is nothing but the consequence of another.

    pydantic counts only the entries that were right, so that a list with faulty ones is also "too short"; and it computes no default from
    fields of which one is wrong.
    """
    value = detail["input"]
    if detail["type"] == "default_factory_not_called":
        return True
    return detail["type"] == "too_short" and isinstance(value, list) and len(value) >= detail.get("ctx", {})["min_length"]


def _is_worse_branch(path: Keys, detail: ErrorDetails, branches: list[tuple[Keys, ErrorDetails]]) -> bool:
    """Of a union (a word, or a mapping) only the branch that the writer meant is spoken of."""
    if detail["type"] == "literal_error" and isinstance(detail["input"], Mapping):
        return any(other[: len(path)] == path and entry is not detail for other, entry in branches)
    if detail["type"] in ("model_type", "dict_type"):
        return any(other == path and entry["type"] == "literal_error" for other, entry in branches)
    return False


def _locate(
    loc: tuple[int | str, ...], data: Any, model: Any, shorthands: Mapping[type[BaseModel], Shorthand]
) -> tuple[Keys, tuple[str, ...], bool]:
    """The path in the document of a pydantic location, the keys allowed there, and whether it lies in a branch of a union."""
    path: Keys = ()
    at: Any = model
    allowed: tuple[str, ...] = ()
    beside: frozenset[str] = frozenset()
    branch = False
    for key in loc:
        at, tagged = _choose(at, data, key)
        branch = branch or tagged
        if tagged:
            continue
        if isinstance(at, type) and issubclass(at, BaseModel):
            if at in shorthands and isinstance(data, Mapping):
                holder, inner, beside = shorthands[at](data)
                if key not in data and key in at.model_fields and key not in beside and inner is not None:
                    at = inner
                    if holder is not None:
                        path, data, beside = (*path, holder), data[holder], frozenset()
                    continue
                allowed = tuple(sorted(beside))
            else:
                allowed = (*_keys(at), *sorted(beside))
        path = (*path, key)
        at, data, beside = _below(at, key), _item(data, key), frozenset()
    return path, allowed, branch


def _item(data: Any, key: str | int) -> Any:
    if isinstance(data, Mapping):
        return data.get(key)
    return data[key] if isinstance(data, list) and isinstance(key, int) and key < len(data) else None


def _keys(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(info.alias or name for name, info in model.model_fields.items())


def _field(model: type[BaseModel], key: str | int) -> FieldInfo | None:
    return next((info for name, info in model.model_fields.items() if key in (name, info.alias)), None)


def _choose(at: Any, data: Any, key: str | int) -> tuple[Any, bool]:
    """Steps into a union: pydantic puts the chosen branch's tag, class name or literal into the location."""
    options = _options(at)
    if len(options) == 1:
        return options[0], False
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            tag = _field(option, "type")
            # a model with validators after it is named function-after[…, Model]
            named = isinstance(key, str) and (key == option.__name__ or key.endswith(f", {option.__name__}]"))
            if named or (tag and key in get_args(tag.annotation) and isinstance(data, Mapping) and data.get("type") == key):
                return option, True
        elif isinstance(key, str) and key.startswith("literal[") and get_origin(option) is Literal:
            return option, True
    return at, False


def _options(at: Any) -> list[Any]:
    """The members of a union without None; annotations are unwrapped."""
    if get_origin(at) is Annotated:
        return _options(get_args(at)[0])
    if get_origin(at) in (Union, UnionType):
        return [option for member in get_args(at) if member is not type(None) for option in _options(member)]
    return [at]


def _below(at: Any, key: str | int) -> Any:
    if isinstance(at, type) and issubclass(at, BaseModel):
        info = _field(at, key)
        return info.annotation if info else None
    arguments = get_args(at)
    if get_origin(at) is dict and len(arguments) == 2:
        return arguments[1]
    if get_origin(at) in (tuple, list) and arguments:
        return arguments[0]
    return None


def _message(detail: ErrorDetails, path: Keys, allowed: tuple[str, ...]) -> tuple[str, bool]:
    """The words for one error, and whether they speak of the key rather than of its value."""
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    key = str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        return f"unknown key {key!r}{nearest(key, allowed)} (allowed here: {listed(allowed)})", True
    if kind == "missing":
        return f"the key {key!r} is missing; it is required here", False
    if kind == "union_tag_not_found":
        return f"the key {str(context['discriminator']).strip(chr(39))!r} is missing; it is required here", False
    if kind == "union_tag_invalid":
        near = nearest(str(context["tag"]), _quoted(context["expected_tags"]))
        return f"found {context['tag']!r}; allowed are {context['expected_tags']}{near}", False
    if kind == "literal_error":
        near = nearest(value, _quoted(context["expected"])) if isinstance(value, str) else ""
        return f"found {describe(value)}; allowed is {context['expected']}{near}", False
    if kind == "string_pattern_mismatch":
        return f"found {describe(value)}; allowed is {_pattern(context['pattern'])}", False
    if kind in _KINDS:
        return f"found {describe(value)}; allowed is {_KINDS[kind]}", False
    if kind == "too_short":
        return f"found {describe(value)} with {context['actual_length']} entries; at least {context['min_length']} are needed", False
    if kind == "value_error":
        return str(context["error"]), False
    bounds = {"greater_than": ">", "greater_than_equal": ">=", "less_than": "<", "less_than_equal": "<="}
    if kind in bounds:
        return f"found {describe(value)}; allowed is a number {bounds[kind]} {next(iter(context.values()))}", False
    return f"found {describe(value)}; {detail['msg'][:1].lower()}{detail['msg'][1:]}", False


def _quoted(text: Any) -> list[str]:
    return [part for index, part in enumerate(str(text).split("'")) if index % 2]


def _pattern(pattern: str) -> str:
    for alias, words in _PATTERNS.items():
        if any(getattr(constraint, "pattern", None) == pattern for constraint in get_args(alias)):
            return words
    return f"text of the form {pattern}"
