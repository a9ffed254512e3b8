"""What a file of a workflow's code names: the modules that it imports, and the texts in it that may be names of files."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAX_SOURCE_BYTES = 4_194_304
_LONGEST_NAME = 255
_WORD = re.compile(r"[^\s\"'`;|&<>()$={}\[\],]+")
_MODULE_WORD = re.compile(r"-m\s+([A-Za-z_][\w.]*)")

Named = tuple[str, int]
"""What is named, and the line in which."""


@dataclass
class Names:
    """What a file names. Of `files` and `folders` most are other texts: what they name has to be there to count."""

    modules: list[Named] = field(default_factory=list[Named])
    files: list[Named] = field(default_factory=list[Named])
    folders: list[Named] = field(default_factory=list[Named])


def names_in_python(source: Path | str) -> Names:
    """What a Python file, or a Python program, names; nothing where it cannot be read."""
    found = Names()
    text = source.encode(errors="replace") if isinstance(source, str) else _read(source)
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return found  # whoever runs it says what is wrong with it
    here = {"__file__"}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found.modules += [(alias.name, node.lineno) for alias in names]
            case ast.ImportFrom(module=str(module), level=0, names=names):
                found.modules.append((module, node.lineno))
                # what is imported may be a module of a folder without __init__.py
                found.modules += [(f"{module}.{alias.name}", node.lineno) for alias in names if alias.name != "*"]
            case ast.Constant(value=str(value)) if 0 < len(value) <= _LONGEST_NAME and "\n" not in value:
                found.files.append((value, node.lineno))
                if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+(:\w+)?|[A-Za-z_]\w*:\w+", value):
                    found.modules.append((value.partition(":")[0], node.lineno))
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if _mentions(value, here):
                here.add(name)
            case _:
                pass
    for path, from_here, line in _paths(tree, here):
        (found.folders if from_here else found.files).append((path, line))
    return found


def defines_torch_class(source: Path) -> bool:
    """Whether a Python file defines a class of a module of torch: one with a base named `…Module`, or of `nn` or `torch.nn`."""
    try:
        tree = ast.parse(_read(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True  # whoever imports it says what is wrong with it
    bases = [ast.unparse(base) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases]
    return any(base.endswith("Module") or base.startswith(("nn.", "torch.nn.")) for base in bases)


def names_in_script(source: Path | str) -> Names:
    """What a script in another language, or a line for a shell, may name: each of its words."""
    text = source if isinstance(source, str) else _read(source).decode(errors="replace")
    found = Names()
    if "\0" in text:
        return found  # a program, not a script
    for number, line in enumerate(text.splitlines(), 1):
        found.files += [(word.removeprefix("./"), number) for word in _WORD.findall(line) if len(word) <= _LONGEST_NAME]
        found.modules += [(module, number) for module in _MODULE_WORD.findall(line)]
    return found


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SOURCE_BYTES + 1)
    except OSError:
        return b""
    return data if len(data) <= MAX_SOURCE_BYTES else b""


def _mentions(value: ast.expr, names: set[str]) -> bool:
    return any(isinstance(node, ast.Name) and node.id in names for node in ast.walk(value))


def _paths(tree: ast.Module, here: set[str]) -> Iterator[tuple[str, bool, int]]:
    """Paths put together as `a / "b" / "c.csv"` or `os.path.join(a, "b", "c.csv")`, and whether they begin at the file's own place."""
    inner: set[ast.expr] = set()
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            inner.add(node.left)  # walked later than what it is a part of
            parts = _operands(node) if node not in inner else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("join", "joinpath"):
            parts = [node.func.value, *node.args]
        texts: list[str] = []
        for part in reversed(parts):
            if not isinstance(part, ast.Constant) or not isinstance(part.value, str):
                break
            texts.insert(0, part.value)
        if texts and isinstance(node, ast.expr):
            yield "/".join(texts), _mentions(node, here), node.lineno


def _operands(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return [*_operands(node.left), node.right]
    return [node]
