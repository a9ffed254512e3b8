"""`autonomic readings`, and which readings leave a strategy blind."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from autonomic.cli.observe import LimitOption
from autonomic.cli.options import HomeOption, Output, OutputOption

COLUMNS = ("READING", "TARGET", "SIGNAL", "STATUS", "VALUE", "WHY")


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(readings)


def readings(
    strategy: Annotated[str | None, typer.Argument(help="Only those of this strategy.", metavar="[STRATEGY]")] = None,
    limit: LimitOption = 100,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what strategies read last: the value, or why it is missing or an error.

    Examples:

        autonomic readings

        autonomic readings keep-latency --output json
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import show

    with Client(home) as client:
        items = client.pages("monitor", "/v1/readings", limit, strategy=strategy or "")
    empty = "No readings; a strategy in force that declares some is looked at first."
    show(items, output, COLUMNS, rows(items), empty=empty)


def rows(items: Iterable[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A row for each value of each reading, and one for a reading that was not looked at yet."""
    from autonomic.cli.output import brief

    found: list[tuple[str, ...]] = []
    for item in items:
        start = f"{item['strategy']}/{item['name']}", item["target"], item["signal"]
        by = item["query"].get("by")
        for one in item["readings"]:
            value = "" if one["value"] is None else f"{one['value']:g}"
            label = f"{by}={one['labels'][by]} " if by and by in one["labels"] else ""
            found.append((*start, one["status"], f"{label}{value}".strip(), brief(one["detail"])))
        if not item["readings"]:
            found.append((*start, "none", "", "it gave no value" if by else "it was not looked at yet"))
    return found


def blind(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The readings of which the last answer holds one that is missing or an error."""
    return [item for item in items if any(one["status"] != "ok" for one in item["readings"])]
