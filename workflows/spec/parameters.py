"""The parameters of a batch workflow: a plain value, or a declaration with a type and bounds, which a run is held to before it starts.

parameters:
  words: 200
  epochs: {type: integer, default: 3, min: 1, max: 50, description: How often each image is seen.}
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

from pydantic import ValidationError

from autonomic.seams.word import Word
from autonomic.workflows.spec.faults import describe, listed, nearest

ParameterType = Literal["text", "integer", "number", "boolean", "list", "mapping"]
TYPES: tuple[str, ...] = get_args(ParameterType)
_WORDS = {
    "text": "text (in quotes)",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "list": "a list",
    "mapping": "a mapping",
}
# an exponent without sign and fraction is more likely a commit than a number: 6063e25
_COMMIT = re.compile(r"-?\d+[eE]\d+")


class Parameter(Word):
    """What a parameter takes. Without `type` anything; without `default` each run has to give it.

    `min` and `max` bound numbers, and the length of texts and lists; `choices` are all values that are allowed.
    """

    type: ParameterType | None = None
    default: Any = None
    min: float | None = None
    max: float | None = None
    choices: tuple[Any, ...] | None = None
    description: str = ""

    @property
    def required(self) -> bool:
        """Whether a run has to give a value."""
        return "default" not in self.model_fields_set

    @property
    def allowed(self) -> str:
        """In words, what it takes."""
        if self.choices is not None:
            return "one of " + ", ".join(json.dumps(choice, ensure_ascii=False) for choice in self.choices)
        words = _WORDS[self.type] if self.type else "any value"
        of = "" if self.type in ("integer", "number") else " of a length"
        if self.min is not None and self.max is not None:
            return f"{words}{of} from {self.min:g} to {self.max:g}"
        if self.min is not None:
            return f"{words}{of} of at least {self.min:g}"
        return words if self.max is None else f"{words}{of} of at most {self.max:g}"

    def fault(self, value: Any) -> str:
        """Why `value` is not allowed, "" where it is."""
        if (beyond := beyond_json(value)) is not None:
            return f"found {beyond}, which JSON cannot hold; allowed is {self.allowed}"
        fits = self.type is None or _is(value, self.type)
        size = len(value) if isinstance(value, str | list | tuple | dict) else value
        if fits and isinstance(size, int | float) and not isinstance(size, bool):
            fits = (self.min is None or size >= self.min) and (self.max is None or size <= self.max)
        if fits and self.choices is not None:
            fits = any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in self.choices)
        return "" if fits else f"found {describe(value)}; allowed is {self.allowed}"


def declarations(parameters: Mapping[str, Any]) -> dict[str, Parameter]:
    """What each parameter takes. A plain value stands for its kind, where it is a text, a number or a boolean.

    Raises:
        ValidationError: a declaration is none; `faults_of_declarations` says why.
    """
    return {name: Parameter.model_validate(value) if is_declaration(value) else _of_plain(value) for name, value in parameters.items()}


def defaults(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a run that gives none; what has no default is left out."""
    return {name: declared.default for name, declared in declarations(parameters).items() if not declared.required}


def is_declaration(value: Any) -> bool:
    """Whether a value under `parameters:` is a declaration: a mapping with a known `type`, or with `type` or bounds and a `default`."""
    if not isinstance(value, Mapping):
        return False
    type_ = value.get("type")
    return (isinstance(type_, str) and type_ in TYPES) or ("default" in value and bool({"type", "min", "max", "choices"} & set(value)))


def faults_of_declarations(parameters: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with the declarations, each with its place below `parameters:`."""
    for name, value in parameters.items():
        if not is_declaration(value):
            continue
        keys = tuple(Parameter.model_fields)
        unknown = [key for key in value if key not in keys]
        yield from (((name, key), f"unknown key {key!r}{nearest(key, keys)} (allowed here: {listed(keys)})") for key in unknown)
        if "type" in value and value["type"] not in TYPES:
            near = nearest(str(value["type"]), TYPES)
            yield (name, "type"), f"found {describe(value['type'])}; allowed are {listed(TYPES)}{near}"
            continue
        try:
            declared = Parameter.model_validate({key: value[key] for key in value if key in keys}, strict=False)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                yield (name, str(detail["loc"][0])), f"found {describe(detail['input'])}; {detail['msg'][:1].lower()}{detail['msg'][1:]}"
            continue
        for key in ("min", "max"):
            if isinstance(value.get(key), bool | str):
                yield (name, key), f"found {describe(value[key])}; allowed is a number"
        if declared.min is not None and declared.max is not None and declared.min > declared.max:
            yield (name, "min"), f"min {declared.min:g} is greater than max {declared.max:g}"
        elif not declared.required and (fault := declared.fault(declared.default)):
            yield (name, "default"), fault


def faults_of_values(
    parameters: Mapping[str, Any], given: Mapping[str, Any], *, complete: bool = True, open_value: Callable[[Any], bool] = lambda _: False
) -> Iterator[tuple[str, str]]:
    """What is wrong with the values `given` for declared parameters: (name, why).

    `complete`: what has no default has to be given. Values that are `open_value` are not judged: they are filled in later.
    """
    declared = declarations(parameters)
    for name, value in given.items():
        if name not in declared:
            yield name, f"unknown parameter{nearest(name, declared)} (parameters: {listed(declared)})"
        elif not open_value(value) and (fault := declared[name].fault(value)):
            yield name, fault
    if complete:
        for name, parameter in declared.items():
            if parameter.required and name not in given:
                yield name, f"has no default and is not given; allowed is {parameter.allowed}"


def from_text(text: str, declared: Parameter | None) -> Any:
    """The value that a text of the command line stands for, by what the parameter takes; the text itself where it is no such value.

    Where nothing is declared it is JSON or else text; `6063e25`, `NaN` and what is too large for a number are texts.
    """
    kind = declared.type if declared else None
    if kind == "text" or (kind in ("integer", "number") and not re.match(r"[-+]?[\d.]", text)):
        return text
    try:
        value = json.loads(text.removeprefix("+") if kind in ("integer", "number") else text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text
    if beyond_json(value) is not None or (kind is None and _COMMIT.fullmatch(text)):
        return text
    return int(value) if kind == "integer" and isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def beyond_json(value: Any) -> str | None:
    """The first thing in a value that JSON in UTF-8 cannot hold, in words; None where there is nothing."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"the number {value}"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"the text {value.encode(errors='backslashreplace').decode()!r}, which is not UTF-8"
        return None
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = (*value.keys(), *value.values())
    elif isinstance(value, list | tuple):
        parts = value
    return next((found for part in parts if (found := beyond_json(part)) is not None), None)


def _of_plain(value: Any) -> Parameter:
    kind: ParameterType | None = next((name for name in ("text", "boolean", "number") if _is(value, name)), None)
    return Parameter(type=kind, default=value)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    kinds: dict[str, type | tuple[type, ...]] = {
        "text": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "list": (list, tuple),
        "mapping": dict,
    }
    return isinstance(value, kinds[kind])


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
