"""References in values: `${parameters.x}`, `${steps.load.outputs.y}`, `${run.id}`.

They are looked up in a closed set of names; nothing is evaluated. A text that is one reference as a whole takes over the
value with its type; a reference inside a longer text becomes text. `$${` stands for a plain `${`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from autonomic.seams.errors import Permanent

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_][\w-]*(\.[A-Za-z0-9_][\w-]*)*")

Reference = tuple[str, ...]
"""The parts of a reference: ("steps", "load", "outputs", "y")."""


class UnknownReference(Permanent):
    """A reference names nothing that is there."""


def references(value: Any) -> list[Reference]:
    """Every reference in a value (text, lists and mappings, however deep), in order; () for one that is malformed."""
    return [reference for _, reference in located_references(value)]


def located_references(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Reference]]:
    """Like `references`, each with the way to the text that holds it."""
    if isinstance(value, str):
        for match in _REFERENCE.finditer(value):
            if match[1] is not None:
                yield path, _parse(match[1])
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from located_references(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from located_references(item, (*path, index))


def resolve(value: Any, names: Mapping[str, Any]) -> Any:
    """A copy of `value` with every reference replaced by what stands in `names`, a nested mapping.

    What is put in is not looked at again: a value that holds `${...}` stays as it is.

    Raises:
        UnknownReference: a reference names nothing; the message lists the names next to it.
    """
    if isinstance(value, str):
        whole = _REFERENCE.fullmatch(value)
        if whole and whole[1] is not None:
            return _look_up(whole[1], names)
        return _REFERENCE.sub(lambda match: "${" if match[1] is None else _text(_look_up(match[1], names)), value)
    if isinstance(value, Mapping):
        return {key: resolve(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolve(item, names) for item in value]
    return value


def _parse(text: str) -> Reference:
    return tuple(text.split(".")) if _NAME.fullmatch(text) else ()


def _look_up(text: str, names: Mapping[str, Any]) -> Any:
    found: Any = names
    for part in _parse(text) or (text,):
        if not isinstance(found, Mapping) or part not in found:
            near = ", ".join(map(str, found)) if isinstance(found, Mapping) else "nothing below it"
            raise UnknownReference(f"${{{text}}} names nothing: no {part!r}; there is {near or 'nothing'} (write $${{ for a plain ${{)")
        found = found[part]
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
