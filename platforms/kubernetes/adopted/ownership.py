"""Whose a field of an object is, as `metadata.managedFields` says, and how it is given back. Pure."""

import copy
import json
from collections.abc import Iterable, Sequence
from typing import Any

from autonomic.platforms.kubernetes.objects.api import FIELD_MANAGER

Object = dict[str, Any]
Path = tuple[str, ...]
"""The keys of a field, such as `("spec", "replicas")`; an item of a list whose items have names is `in_list` of its own."""
_IDENTITY = ("manager", "operation", "apiVersion", "subresource")


def in_list(name: str) -> str:
    """The key of the item of this name, in a list whose items are told apart by their names."""
    return "k:" + json.dumps({"name": name}, separators=(",", ":"))


def words(path: Path) -> str:
    """A field as people write it, such as `spec.containers[web].image`."""
    named = "".join(f"[{json.loads(key.removeprefix('k:'))['name']}]" if key.startswith("k:") else f".{key}" for key in path)
    return named.removeprefix(".")


def value_of(item: Object, path: Path) -> Any:
    """A field's value, None where it is not set."""
    found: Any = item
    for key in path:
        if isinstance(found, list):
            found = next((each for each in found if in_list(each["name"]) == key), None)
        else:
            found = found.get(key) if isinstance(found, dict) else None
    return found


def owners(item: Object, path: Path) -> list[Object]:
    """Who else than we owns a field: the entries of managedFields without their fields."""
    return [_identity(entry) for entry in _entries(item) if not _is_ours(entry) and _holds(entry, path)]


def is_ours(item: Object, path: Path) -> bool:
    """Whether we own a field."""
    return any(_is_ours(entry) and _holds(entry, path) for entry in _entries(item))


def applied(fields: Iterable[tuple[Path, Any]]) -> Object:
    """What is applied so that these fields are ours and have these values."""
    made: Object = {}
    for path, value in fields:
        _put(made, path, value)
    return _with_lists(made)


def given_back(item: Object, fields: Iterable[tuple[Path, Sequence[Object]]]) -> list[Object]:
    """The managedFields without us; each of these fields that is still ours is its former owners' again."""
    entries = [copy.deepcopy(entry) for entry in _entries(item) if not _is_ours(entry)]
    for path, former in fields:
        if not is_ours(item, path):
            continue
        for owner in former:
            entry = next((one for one in entries if _identity(one) == owner), None)
            if entry is None:
                entry = {**owner, "fieldsType": "FieldsV1", "fieldsV1": {}}
                entries.append(entry)
            _put(entry["fieldsV1"], _managed(path), {})
    return entries


def _entries(item: Object) -> list[Object]:
    return item["metadata"].get("managedFields", [])


def _is_ours(entry: Object) -> bool:
    return entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource")


def _identity(entry: Object) -> Object:
    return {key: entry[key] for key in _IDENTITY if key in entry}


def _holds(entry: Object, path: Path) -> bool:
    return value_of(entry.get("fieldsV1", {}), _managed(path)) is not None


def _managed(path: Path) -> Path:
    return tuple(key if key.startswith("k:") else f"f:{key}" for key in path)


def _with_lists(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    within: Object = {key: _with_lists(value) for key, value in tree.items()}
    if not any(key.startswith("k:") for key in within):
        return within
    return [{**json.loads(key.removeprefix("k:")), **value} for key, value in within.items()]


def _put(tree: Object, path: Path, value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value
