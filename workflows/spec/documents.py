"""Reading YAML files into plain data that remembers where everything stands.

YAML 1.2's core schema (so that `on:` is a key), without tags, without duplicate keys, with a bound on everything that a
file could make large. Anchors, aliases and merge keys (`<<`) are allowed.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from autonomic.seams.errors import Problem, SpecError
from autonomic.workflows.spec.places import Keys, Place

MAX_FILE_BYTES = 1_048_576
MAX_NODES = 100_000
"""Values of one file after its aliases were expanded."""
MAX_DEPTH = 40
MAX_NUMBER_CHARACTERS = 400

_SUFFIXES = (".yaml", ".yml")
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules"})
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Document:
    """One document of one file as plain data (str, int, float, bool, None, list, dict with text keys)."""

    file: str
    data: Any
    line: int = 1
    values: Mapping[Keys, Place] = field(default_factory=dict[Keys, Place])
    keys: Mapping[Keys, Place] = field(default_factory=dict[Keys, Place])

    @property
    def kind(self) -> str:
        """The text under `kind:`, empty where there is none."""
        kind = self.data.get("kind") if isinstance(self.data, dict) else None
        return kind if isinstance(kind, str) else ""

    def problem(self, path: Keys, message: str, *, at_key: bool = False) -> Problem:
        """A problem at `path`, or at the nearest thing around it that is there; `at_key` points at the key itself."""
        place = self.keys.get(path) if at_key else None
        for length in range(len(path), -1, -1):
            place = place or self.values.get(path[:length])
        line, column = place or (self.line, 1)
        return Problem(message, self.file, line, column, format_path(path))


def format_path(path: Keys) -> str:
    """`spec.steps[0].run` of ("spec", "steps", 0, "run")."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def load_documents(paths: Iterable[str | Path]) -> list[Document]:
    """All documents of the files given, and of the *.yaml and *.yml files in the folders given (hidden ones left out).

    Raises:
        SpecError: with every problem of every file.
    """
    documents: list[Document] = []
    problems: list[Problem] = []
    for path in _files(paths, problems):
        text = _read(path, problems)
        if text is not None:
            documents += parse_documents(text, str(path), problems)
    if problems:
        raise SpecError(problems)
    return documents


def parse_documents(text: str, file: str, problems: list[Problem]) -> list[Document]:
    """The documents of one text; what is wrong with it is added to `problems`. Empty ones beside others are left out."""
    documents: list[Document] = []
    try:
        for node in _compose(text):
            if node is not None and not (node.kind == "scalar" and node.value is None):
                expansion = _Expansion(file)
                data = expansion.build(node, (), 0)
                documents.append(Document(file, data, node.line, expansion.values, expansion.keys))
        if not documents:
            message = "there is no document in it; one is a mapping with apiVersion, kind, metadata and spec"
            problems.append(Problem(message, file))
    except _Fault as fault:
        problems.append(Problem(fault.message, file, fault.line, fault.column))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        context = f" {error.context}" if error.context else ""
        message = f"not valid YAML: {error.problem or 'cannot be read'}{context}"
        problems.append(Problem(message, file, (mark.line if mark else 0) + 1, (mark.column if mark else 0) + 1))
    except yaml.YAMLError as error:
        problems.append(Problem(f"not valid YAML: {' '.join(str(error).split())}", file))
    return documents


def _files(paths: Iterable[str | Path], problems: list[Problem]) -> Iterator[Path]:
    seen: set[Path] = set()
    for given in paths:
        path = Path(given)
        try:
            found = sorted(_walk(path)) if path.is_dir() else [path]
        except OSError as error:
            problems.append(Problem(f"cannot be read: {error.strerror}", str(path)))
            continue
        if not found:
            problems.append(Problem("the folder holds no *.yaml or *.yml file", str(path)))
        for file in found:
            if (real := file.resolve()) not in seen:
                seen.add(real)
                yield file


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED_FOLDERS]
        yield from (Path(root, name) for name in files if name.endswith(_SUFFIXES) and not name.startswith("."))


def _read(path: Path, problems: list[Problem]) -> str | None:
    def refuse(message: str) -> None:
        problems.append(Problem(message, str(path)))

    try:
        if not path.exists():
            return refuse("no such file or folder")
        if not path.is_file():
            return refuse("is not a regular file")
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        return refuse(f"cannot be read: {error}")
    if len(data) > MAX_FILE_BYTES:
        return refuse(f"is larger than {MAX_FILE_BYTES // 1024} KiB; a specification is text of a few pages")
    if b"\0" in data:
        return refuse("is a binary file; a specification is YAML in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.append(Problem(f"is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}", str(path), line))
        return None


class _Fault(Exception):
    def __init__(self, message: str, line: int, column: int) -> None:
        self.message, self.line, self.column = message, line, column
        super().__init__(message)


@dataclass(slots=True)
class _Node:
    """`value` is a scalar's parsed value, a list of nodes, or a list of (key text, key node, node)."""

    kind: str
    line: int
    column: int
    value: Any = None
    text: str = ""
    plain: bool = False
    anchor: str | None = None
    key: "_Node | None" = None
    names: set[str] = field(default_factory=set[str])


def _compose(text: str) -> Iterator[_Node | None]:
    """The root node of each document. Built from events on an explicit stack: no file can exhaust Python's own."""
    anchors: dict[str, _Node] = {}
    stack: list[_Node] = []
    root: _Node | None = None

    def add(node: _Node) -> None:
        nonlocal root
        if not stack:
            root = node
            return
        parent = stack[-1]
        if parent.kind == "list":
            parent.value.append(node)
        elif parent.key is None:
            if node.kind != "scalar":
                raise _Fault("a key must be plain text", node.line, node.column)
            parent.key = node
        else:
            key, parent.key = parent.key, None
            if key.text in parent.names:
                raise _Fault(f"the key {key.text!r} stands twice in one mapping", key.line, key.column)
            parent.names.add(key.text)
            parent.value.append((key.text, key, node))

    events: Iterator[Any] = yaml.parse(text, Loader=_Loader)
    for event in events:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if getattr(event, "tag", None) is not None:
            raise _Fault(f"the tag {event.tag!r} is not allowed; write plain values", line, column)
        if isinstance(event, yaml.DocumentStartEvent):
            anchors.clear()
            root = None
        elif isinstance(event, yaml.DocumentEndEvent):
            yield root
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise _Fault(f"the alias *{event.anchor} names no anchor that ends before it", line, column)
            add(anchors[event.anchor])
        elif isinstance(event, yaml.ScalarEvent):
            node = _Node("scalar", line, column, _scalar(event, line, column), event.value, event.implicit[0])
            if event.anchor:
                anchors[event.anchor] = node
            add(node)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(stack) >= MAX_DEPTH:
                raise _Fault(f"nested deeper than {MAX_DEPTH} levels", line, column)
            kind = "list" if isinstance(event, yaml.SequenceStartEvent) else "mapping"
            stack.append(_Node(kind, line, column, [], anchor=event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            node = stack.pop()
            if node.anchor:
                anchors[node.anchor] = node
            add(node)


def _scalar(event: yaml.ScalarEvent, line: int, column: int) -> str | int | float | bool | None:
    text = event.value
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Fault("the text holds half a surrogate pair, which is no character", line, column) from None
    if not event.implicit[0]:
        return text
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return text.lower() == "true"
    if _NOT_FINITE.fullmatch(text):
        raise _Fault(f"{text} is not a number that can be used", line, column)
    integer = _INTEGER.fullmatch(text)
    if not integer and not _FLOAT.fullmatch(text):
        return text
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise _Fault(f"a number of {len(text)} digits; at most {MAX_NUMBER_CHARACTERS} are allowed", line, column)
    if integer:
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Fault(f"{text} is too large for a number", line, column)
    return value


class _Expansion:
    """Builds plain data of nodes and notes where each value and key stands. Aliases are copied, so it counts."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.values: dict[Keys, Place] = {}
        self.keys: dict[Keys, Place] = {}
        self._count = 0

    def build(self, node: _Node, path: Keys, depth: int) -> Any:
        self._visit(node, depth)
        self.values[path] = (node.line, node.column)
        if node.kind == "scalar":
            return node.value
        if node.kind == "list":
            return [self.build(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        data: dict[str, Any] = {}
        for text, (key, value) in self._pairs(node, depth).items():
            self.keys[(*path, text)] = (key.line, key.column)
            data[text] = self.build(value, (*path, text), depth + 1)
        return data

    def _pairs(self, node: _Node, depth: int) -> dict[str, tuple[_Node, _Node]]:
        """A mapping's keys and values with its merge keys followed: what stands in it wins, then the earlier source."""
        self._visit(node, depth, 1 + len(node.value))
        pairs = {text: (key, value) for text, key, value in node.value if not _is_merge(key)}
        for _, key, value in node.value:
            if _is_merge(key):
                for source in value.value if value.kind == "list" else [value]:
                    if source.kind != "mapping":
                        raise _Fault("<<: takes a mapping or a list of mappings", source.line, source.column)
                    pairs = self._pairs(source, depth + 1) | pairs
        return pairs

    def _visit(self, node: _Node, depth: int, count: int = 1) -> None:
        self._count += count
        if self._count > MAX_NODES:
            raise _Fault(f"more than {MAX_NODES} values (aliases counted as often as they are used)", node.line, node.column)
        if depth > MAX_DEPTH:
            raise _Fault(f"nested deeper than {MAX_DEPTH} levels", node.line, node.column)


def _is_merge(key: _Node) -> bool:
    return key.plain and key.text == "<<"
