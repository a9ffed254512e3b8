"""Finding the user's functions in their source without importing it: imports may be slow, and they run code."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from autonomic.workflows.spec.faults import listed, nearest

MAX_SOURCE_BYTES = 4_194_304
CONTEXT = "context"
"""The parameter through which a step asks for its context; it is not given under `with:`."""


class FunctionNotFound(Exception):
    """There is no such module or no such function in it; the message says which and where it was looked for."""


@dataclass(frozen=True)
class Signature:
    """What a function takes by keyword, and what its return annotation (a TypedDict of its module) says it gives."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    takes_any: bool
    outputs: tuple[str, ...] | None


def find_function(entry: str, folder: Path | None) -> Signature | None:
    """The signature of `package.module:function`, looked for beside the YAML file (`folder`) and on sys.path.

    None where the name is there but is no plain function of that module (a class, an import, an assignment).

    Raises:
        FunctionNotFound: it cannot be imported.
    """
    module, _, name = entry.partition(":")
    tree = _parse(_find_source(module, folder), module)
    if tree is None:
        return None
    names = dict(_definitions(tree.body))
    if name not in names:
        if "*" in names or "__getattr__" in names:
            return None
        public = sorted(known for known in names if not known.startswith("_"))
        raise FunctionNotFound(f"module {module!r} has no {name!r}{nearest(name, public)} (it has {listed(public[:12])})")
    found = names[name]
    return _signature(found, names) if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef) else None


def _find_source(module: str, folder: Path | None) -> ModuleSpec:
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        if count == 1:
            spec = (PathFinder.find_spec(name, [str(folder)]) if folder else None) or _find(name, None)
        else:
            path = list(spec.submodule_search_locations or ()) if spec else []
            spec = _find(name, path) if path else None
        if spec is None:
            where = f"beside the file ({folder}) and on PYTHONPATH" if folder else "on PYTHONPATH"
            raise FunctionNotFound(f"module {module!r} cannot be imported: there is no {name!r} {where}")
    assert spec is not None
    return spec


def _find(name: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None


def _parse(spec: ModuleSpec, module: str) -> ast.Module | None:
    if spec.origin is None:
        raise FunctionNotFound(f"{module!r} is a folder without __init__.py, not a module")
    source = Path(spec.origin)
    if source.suffix != ".py":
        return None
    try:
        if source.stat().st_size > MAX_SOURCE_BYTES:
            return None
        return ast.parse(source.read_bytes(), str(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise FunctionNotFound(f"{source}{f':{line}' if line else ''} is not valid Python: {getattr(error, 'msg', error)}") from None
    except OSError as error:
        raise FunctionNotFound(f"{source} cannot be read: {error.strerror}") from None


def _definitions(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, statement
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from ((alias.asname or alias.name.split(".")[0], statement) for alias in names)
            case ast.Assign(targets=targets):
                yield from ((node.id, statement) for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, statement
            case ast.If(body=inner, orelse=other):
                yield from _definitions([*inner, *other])
            case ast.Try(body=inner, handlers=handlers, orelse=other, finalbody=final):
                yield from _definitions([*inner, *(child for handler in handlers for child in handler.body), *other, *final])
            case ast.With(body=inner):
                yield from _definitions(inner)
            case _:
                pass


def _signature(function: ast.FunctionDef | ast.AsyncFunctionDef, names: dict[str, ast.stmt]) -> Signature | None:
    if function.decorator_list:
        return None
    arguments = function.args
    positional = [argument.arg for argument in arguments.args]
    free = len(positional) - len(arguments.defaults) + len(arguments.posonlyargs)
    required = positional[: max(0, free - len(arguments.posonlyargs))]
    optional = positional[len(required) :]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        (required if default is None else optional).append(argument.arg)
    return Signature(
        tuple(name for name in required if name != CONTEXT),
        tuple(name for name in optional if name != CONTEXT),
        arguments.kwarg is not None,
        _outputs(function.returns, names),
    )


def _outputs(returns: ast.expr | None, names: dict[str, ast.stmt]) -> tuple[str, ...] | None:
    name = returns.id if isinstance(returns, ast.Name) else returns.value if isinstance(returns, ast.Constant) else None
    found = names.get(name) if isinstance(name, str) else None
    if not isinstance(found, ast.ClassDef) or [ast.unparse(base).split(".")[-1] for base in found.bases] != ["TypedDict"]:
        return None
    return tuple(
        statement.target.id for statement in found.body if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    )
