"""`autonomic runs` and `searches`."""

import json
import time
from typing import Annotated, Literal

import typer

from autonomic.cli.observe import LimitOption
from autonomic.cli.options import HomeOption, Output, OutputOption


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command()(runs)
    app.command()(searches)


def runs(
    workflow: Annotated[str | None, typer.Argument(help="Only those of this workflow.", metavar="[WORKFLOW]")] = None,
    status: Annotated[
        Literal["pending", "running", "succeeded", "failed", "stopped"] | None, typer.Option(help="Only those with this status.")
    ] = None,
    limit: LimitOption = 20,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show runs of batch workflows, the newest first; `autonomic logs RUN` shows what one printed, `autonomic stop RUN` ends one.

    Examples:

        autonomic runs

        autonomic runs training --status failed --limit 5
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import brief, clock, show, took

    with Client(home) as client:
        if workflow is not None:
            client.get("planner", f"/v1/workflows/{workflow}", observe=False)
        items = client.pages("planner", "/v1/runs", limit, workflow=workflow, status=status)
    now = time.time()
    rows = [
        (
            item["id"],
            item["workflow"],
            item["status"],
            clock(item["started_at"]),
            took(item["started_at"], item["finished_at"], now),
            brief(item["detail"]),
        )
        for item in items
    ]
    empty = "No such runs; `autonomic run WORKFLOW` starts one."
    show(items, output, ("RUN", "WORKFLOW", "STATUS", "STARTED", "TOOK", ""), rows, empty=empty)


def searches(limit: LimitOption = 20, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show searches for parameters, the newest first, with the best trial of each; `autonomic stop SEARCH` ends one.

    Examples:

        autonomic searches

        autonomic searches --limit 1 --output json
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import brief, show

    with Client(home) as client:
        items = client.pages("tuner", "/v1/searches", limit)
    rows = [
        (
            item["id"],
            item["workflow"],
            item["status"],
            len(item["trials"]),
            (item["best"] or {}).get("value"),
            brief(json.dumps((item["best"] or {}).get("parameters", {}))),
        )
        for item in items
    ]
    columns = ("SEARCH", "WORKFLOW", "STATUS", "TRIALS", "BEST", "PARAMETERS")
    show(items, output, columns, rows, empty="No searches; `autonomic tune WORKFLOW` starts one.")
