"""Pages of long lists."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

from autonomic.agents.problems import ProblemError

Item = TypeVar("Item")
Limit = Annotated[int, Query(ge=1, le=1000, description="How many items at most.")]
Cursor = Annotated[str, Query(max_length=512, description="`next` of the page before; empty for the first page.")]


class Page(BaseModel, Generic[Item]):
    """Some items, and the cursor that gives those after them (empty on the last page)."""

    items: list[Item]
    next: str = ""


def page_of(items: Iterable[Item], key: Callable[[Item], str], cursor: str, limit: int) -> "Page[Item]":
    """A page of `items` sorted by `key`: those whose key comes after `cursor`."""
    after = sorted((item for item in items if key(item) > cursor), key=key)
    return Page(items=after[:limit], next=key(after[limit - 1]) if len(after) > limit else "")


def page_after(
    items: Sequence[Item], key: Callable[[Item], str], cursor: str, limit: int, wanted: Callable[[Item], bool] = lambda _: True
) -> "Page[Item]":
    """A page of those `items` that are `wanted`, in the order that they have: those after the one whose key is `cursor`.

    Raises:
        ProblemError: 422, no item has that key.
    """
    # looked for among all: what was wanted when the cursor was given out may have changed since
    first = next((place + 1 for place, item in enumerate(items) if key(item) == cursor), 0) if cursor else 0
    if cursor and not first:
        raise _strange(cursor)
    found = list(islice(filter(wanted, items[first:]), limit + 1))
    return Page(items=found[:limit], next=key(found[limit - 1]) if len(found) > limit else "")


def number_of(cursor: str) -> int | None:
    """A cursor that is a number, None for the first page.

    Raises:
        ProblemError: 422, it is something else.
    """
    if not cursor:
        return None
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 18:
        raise _strange(cursor)
    return int(cursor)


def _strange(cursor: str) -> ProblemError:
    return ProblemError(422, f"cursor {cursor!r} is not one that this list gave out; leave it empty for the first page")
