"""Pages of long lists."""

from collections.abc import Callable, Iterable
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


def number_of(cursor: str) -> int | None:
    """A cursor that is a number, None for the first page.

    Raises:
        ProblemError: 422, it is something else.
    """
    if not cursor:
        return None
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 18:
        raise ProblemError(422, f"cursor {cursor!r} is not one that this list gave out; leave it empty for the first page")
    return int(cursor)
