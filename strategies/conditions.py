"""Conditions: CEL over named readings, with unknown where a reading is missing.

The engine (`cel-expr-python`) is hidden behind `Condition.compile` and `Condition.judge`. All readings are doubles,
so integer literals are read as doubles too (`replicas < 4`, `a + 1 > b`), and a division by zero makes the condition
unknown instead of an infinity or NaN that would compare as if it were a number.
"""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cel_expr_python import cel  # pyright: ignore[reportMissingTypeStubs]
from cel_expr_python.ext import ext_math  # pyright: ignore[reportMissingTypeStubs]

from autonomic.seams.errors import Problem, SpecError
from autonomic.seams.reading import Reading

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
  | (?P<string>(?:[rRbB]{1,2})?(?:\"{3}(?:\\.|(?!\"{3}).)*\"{3}|'{3}(?:\\.|(?!'{3}).)*'{3}|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'))
  | (?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
  | (?P<integer>(?:0[xX][0-9a-fA-F]+|\d+)[uU]?)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<other>&&|\|\||[<>=!]=|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_FAULT = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*?)(?: \[[A-Z_]+\])?$", re.MULTILINE)
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_EXPECTING = re.compile(r"expecting \{.*\}")
_NONZERO = "nonzero"
_MAX_LENGTH = 4000


class ConditionError(SpecError):
    """A condition that cannot be compiled; `line` and `column` count from 1 within its text."""

    def __init__(self, text: str, faults: Iterable[tuple[int, int, str]]) -> None:
        problems = [Problem(message, "<condition>", line, column) for line, column, message in faults]
        self.text = text
        self.line, self.column = problems[0].line, problems[0].column
        super().__init__(problems)


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition. `names` are the readings that it mentions."""

    text: str
    names: frozenset[str]
    _program: Any

    @classmethod
    def compile(cls, text: str, names: Iterable[str]) -> "Condition":
        """The condition `text` over readings called `names`.

        Raises:
            ConditionError: it does not parse, is not true or false, or mentions a name that is not declared.
        """
        return _compile(text, frozenset(names))

    def judge(self, readings: Mapping[str, Reading]) -> bool | None:
        """True or False, or None where it cannot be known.

        A reading that is missing, an error, not finite or not there at all is unknown: it decides nothing, so that
        `false && unknown` is False, `true || unknown` is True, and all else that needs it is None.
        """
        known = {
            name: reading.value
            for name in self.names
            if (reading := readings.get(name)) is not None
            and reading.status == "ok"
            and reading.value is not None
            and math.isfinite(reading.value)
        }
        value = self._program.eval(data=known)
        return bool(value.value()) if value.type() == cel.Type.BOOL else None


@lru_cache(maxsize=4096)
def _compile(text: str, names: frozenset[str]) -> Condition:
    if len(text) > _MAX_LENGTH:
        raise ConditionError(text[:80], [(1, 1, f"the condition has {len(text)} characters; at most {_MAX_LENGTH} are allowed")])
    tokens = list(_tokens(text))
    source, starts = _rewrite(tokens)
    try:
        program = _environment(names).compile(source)
    except RuntimeError as refused:
        raise ConditionError(text, _faults(text, source, starts, names, str(refused))) from None
    if program.return_type() != cel.Type.BOOL:
        raise ConditionError(
            text, [(1, 1, f"{text!r} gives a {program.return_type().name().lower()}; a condition must be true or false, such as `x > 1`")]
        )
    mentioned = frozenset(token for kind, token, _ in tokens if kind == "name") & names
    return Condition(text, mentioned, program)


@lru_cache(maxsize=1024)
def _environment(names: frozenset[str]) -> Any:
    nonzero = cel.FunctionDecl(_NONZERO, [cel.Overload("nonzero_double", cel.Type.DOUBLE, [cel.Type.DOUBLE], False, _nonzero)])
    variables = {name: cel.Type.DOUBLE for name in names if _NAME.fullmatch(name)}
    return cel.NewEnv(variables=variables, extensions=[ext_math.ExtMath()], functions=[nonzero])


def _nonzero(divisor: float) -> float:
    if divisor == 0.0:
        raise ZeroDivisionError("division by zero")
    return divisor


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    for match in _TOKEN.finditer(text):
        yield str(match.lastgroup), match[0], match.start()


def _rewrite(tokens: list[tuple[str, str, int]]) -> tuple[str, list[tuple[int, int]]]:
    """The source with doubles for integers and checked divisors, and where each token of it came from."""
    opens: dict[int, int] = {}
    closes: dict[int, int] = {}
    for index, (kind, token, _) in enumerate(tokens):
        if kind == "other" and token == "/":
            first = _skip(tokens, index + 1)
            last = _operand_end(tokens, first)
            if last is not None:
                opens[first] = opens.get(first, 0) + 1
                closes[last] = closes.get(last, 0) + 1
    parts: list[str] = []
    starts: list[tuple[int, int]] = []
    length = 0

    def put(part: str, origin: int) -> None:
        nonlocal length
        starts.append((length, origin))
        parts.append(part)
        length += len(part)

    for index, (kind, token, origin) in enumerate(tokens):
        put(f"{_NONZERO}(" * opens.get(index, 0), origin)
        put(_double(token) if kind == "integer" else token, origin)
        put(")" * closes.get(index, 0), origin + len(token))
    return "".join(parts), starts


def _double(integer: str) -> str:
    return repr(float(int(integer.rstrip("uU"), 0 if integer[:2].lower() == "0x" else 10)))


def _skip(tokens: list[tuple[str, str, int]], index: int) -> int:
    while index < len(tokens) and tokens[index][0] == "space":
        index += 1
    return index


def _operand_end(tokens: list[tuple[str, str, int]], index: int) -> int | None:
    """The index of the last token of the unary expression at `index`; None where there is none."""
    while index < len(tokens) and tokens[index][1] in ("-", "!"):
        index = _skip(tokens, index + 1)
    if index >= len(tokens):
        return None
    kind, token, _ = tokens[index]
    if token in "([{" and kind == "other":
        end = _closing(tokens, index)
    elif kind in ("integer", "float", "string", "name"):
        end = index
    else:
        return None
    while end is not None:
        following = _skip(tokens, end + 1)
        if following >= len(tokens) or tokens[following][1] not in (".", "(", "["):
            return end
        if tokens[following][1] == ".":
            member = _skip(tokens, following + 1)
            end = member if member < len(tokens) else None
        else:
            end = _closing(tokens, following)
    return None


def _closing(tokens: list[tuple[str, str, int]], index: int) -> int | None:
    depth = 0
    for position in range(index, len(tokens)):
        kind, token, _ = tokens[position]
        if kind == "other" and token in "([{":
            depth += 1
        elif kind == "other" and token in ")]}":
            depth -= 1
            if depth == 0:
                return position
    return None


def _faults(text: str, source: str, starts: list[tuple[int, int]], names: frozenset[str], message: str) -> list[tuple[int, int, str]]:
    faults: list[tuple[int, int, str]] = []
    for line, column, detail in _FAULT.findall(message):
        at = sum(len(part) + 1 for part in source.split("\n")[: int(line) - 1]) + int(column) - 1
        origin = 0
        for position, start in starts:
            if position > at:
                break
            origin = start
        # an operator of several characters is one token, so the start of the token is the place
        origin = min(origin, len(text))
        faults.append((text.count("\n", 0, origin) + 1, origin - text.rfind("\n", 0, origin), _explain(detail, names)))
    return faults or [(1, 1, f"{text[:80]!r} cannot be compiled: {message.splitlines()[0]}")]


def _explain(detail: str, names: frozenset[str]) -> str:
    unknown = _UNDECLARED.search(detail)
    if unknown is None:
        return _EXPECTING.sub("expecting a value", detail)
    known = ", ".join(sorted(names)) or "none are declared"
    near = difflib.get_close_matches(unknown[1], sorted(names), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown name {unknown[1]!r}{hint} (readings: {known})"
