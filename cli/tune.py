"""`autonomic tune`."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from autonomic.cli.options import HomeOption, Output, OutputOption
from autonomic.cli.runs import declared_by, parameters
from autonomic.seams.errors import Problem, SpecError

if TYPE_CHECKING:
    from autonomic.cli.client import Client

_ENDED = frozenset({"succeeded", "failed", "stopped"})


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(tune)


def tune(
    workflow: Annotated[str, typer.Argument(help="Name of a batch workflow that was applied.", metavar="WORKFLOW")],
    metric: Annotated[str, typer.Option(help="The metric of a run that is made best.")],
    space: Annotated[
        list[str], typer.Option(help="A parameter to search: NAME=choice:A,B,... or uniform:, loguniform:, integer: with LOW,HIGH.")
    ],
    mode: Annotated[Literal["max", "min"], typer.Option(help="Whether more or less is better.")] = "max",
    trials: Annotated[int, typer.Option(min=1, help="How many runs at most.")] = 10,
    parallel: Annotated[int, typer.Option(min=1, help="How many at a time.")] = 1,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="A parameter that stays the same, NAME=VALUE.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the search repeatable.")] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Show the trials until the search has ended.")] = False,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Search for the best parameters of a workflow; each trial is a run. Nothing is applied.

    With --wait the command ends with 1 when the search failed.

    Examples:

        autonomic tune training --metric accuracy --space learning_rate=loguniform:1e-4,1e-1 --space batch=choice:16,32 --wait
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import show, working

    body: dict[str, Any] = {"workflow": workflow, "metric": metric, "mode": mode, "space": parse_space(space)}
    parameters(param or [])
    body |= {"trials": trials, "parallel": parallel} | ({"seed": seed} if seed is not None else {})
    with Client(home) as client:
        body["parameters"] = parameters(param or [], declared_by(client, workflow), complete=False)
        with working("Starting"):
            search = client.post("tuner", "/v1/searches", body)
        if wait:
            search = _follow(client, search["id"], live=output is Output.TABLE)
    best = search["best"] or {}
    rows = [(search["id"], search["status"], best.get("value"), json.dumps(best.get("parameters", {})), search["detail"])]
    show(search, output, ("SEARCH", "STATUS", "BEST", "PARAMETERS", ""), rows)
    if wait and search["status"] != "succeeded":
        raise typer.Exit(1)


def parse_space(given: list[str]) -> dict[str, dict[str, list[Any]]]:
    """`NAME=KIND:VALUE,VALUE` texts as a search space.

    Raises:
        SpecError: with every one that is not of that form.
    """
    found: dict[str, dict[str, list[Any]]] = {}
    problems: list[Problem] = []
    for text in given:
        name, _, domain = text.partition("=")
        kind, _, values = domain.partition(":")
        if name and values and kind in ("choice", "uniform", "loguniform", "integer"):
            found[name] = {kind: list(map(_value, values.split(",")))}
        else:
            problems.append(Problem(f"found {text!r}; write NAME=choice:A,B or NAME=uniform|loguniform|integer:LOW,HIGH", "--space"))
    if problems:
        raise SpecError(problems)
    return found


def _value(text: str) -> Any:
    from autonomic.workflows.spec.parameters import from_text

    return from_text(text, None)


def _follow(client: "Client", search_id: str, *, live: bool) -> dict[str, Any]:
    told = 0
    try:
        while True:
            search = client.get("tuner", f"/v1/searches/{search_id}")
            if live and len(search["trials"]) != told:
                told = len(search["trials"])
                best = (search["best"] or {}).get("value")
                typer.echo(f"{search_id}: {told} trials, best {best}", err=True)
            if search["status"] in _ENDED:
                return search
            time.sleep(1.0)
    except KeyboardInterrupt:
        typer.echo(f"The search {search_id} goes on.", err=True)
        raise typer.Exit(130) from None
