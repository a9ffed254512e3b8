"""Printing: tables for people, JSON and YAML for programs, and what goes on meanwhile on stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autonomic.cli.options import Output

_WIDTH_OF_FILES = 200
_COLOURS = {
    "succeeded": "green",
    "ready": "green",
    "verified": "green",
    "kept": "green",
    "go": "green",
    "running": "cyan",
    "applying": "cyan",
    "verifying": "cyan",
    "failed": "red",
    "unreachable": "red",
    "refuse": "red",
    "refused": "red",
    "escalated": "red",
    "reverted": "yellow",
    "ask": "yellow",
    "not ready": "yellow",
    "stopped": "yellow",
}


def console(*, err: bool = False) -> Console:
    """The console of stdout or stderr; what is no terminal gets lines that are long enough for programs."""
    stream = sys.stderr if err else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _WIDTH_OF_FILES, highlight=False)


def working(what: str) -> AbstractContextManager[Any]:
    """Shows `what` on stderr while it goes on, where that is a terminal."""
    return console(err=True).status(f"{what} …")


def show(
    data: Any, output: Output, columns: Sequence[str] = (), rows: Iterable[Sequence[Any]] | None = None, empty: str = "Nothing."
) -> None:
    """Prints `data` as JSON or YAML, or `rows` under `columns` as a table (`empty` where there are none)."""
    if output is Output.JSON:
        print(json.dumps(data, indent=2, ensure_ascii=False))
    elif output is Output.YAML:
        import yaml

        print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), end="")
    else:
        lines = [list(map(cell, row)) for row in rows or ()]
        if lines:
            console().print(table(columns, lines))
        else:
            console().print(empty)


def table(columns: Sequence[str], rows: Iterable[Sequence[Text]]) -> Table:
    """A plain table."""
    made = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        made.add_row(*row)
    return made


def cell(value: Any) -> Text:
    """A value in a table: never read as markup, coloured where it is a status."""
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Text(text, style=_COLOURS.get(text, ""))


def clock(seconds: float | None) -> str:
    """A time (seconds since the epoch) in the zone of the reader."""
    return "" if seconds is None else datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def took(started_at: float | None, finished_at: float | None, now: float) -> str:
    """How long something took, or has taken until now."""
    return "" if started_at is None else f"{(finished_at if finished_at is not None else now) - started_at:.1f}s"


def brief(values: Any, length: int = 80) -> str:
    """A mapping as `a=1 b=x`, cut to `length`."""
    if isinstance(values, dict):
        values = " ".join(f"{key}={cell(value)}" for key, value in values.items())
    text = " ".join(str(values).split())
    return text if len(text) <= length else text[: length - 1] + "…"
