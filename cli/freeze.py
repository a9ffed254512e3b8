"""`autonomic freeze` and `unfreeze`."""

import time
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from autonomic.cli.options import HomeOption, Output, OutputOption
from autonomic.cli.plans import WhyOption
from autonomic.seams.errors import Problem, SpecError

TargetArgument = Annotated[str | None, typer.Argument(help="WORKFLOW, or WORKFLOW/PART.", metavar="[TARGET]")]
_FORMS = "write a duration (2h, 90m), a time of day (18:00), or a date and time (2026-12-24T18:00)"


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command()(freeze)
    app.command()(unfreeze)


def freeze(
    target: TargetArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="Freeze everything.")] = False,
    why: Annotated[str, typer.Option("--why", help="The reason, for whoever meets the freeze.")] = "",
    until: Annotated[str | None, typer.Option("--until", help="When it ends by itself: 2h, 18:00, 2026-12-24T18:00.")] = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let nothing start on a workflow, a part of one, or everything, until it is lifted.

    Strategies and people are refused alike; plans that run stop before their next effect, and what they did stays. Runs and
    searches that run go on. It survives restarts. Shown by `autonomic status`, and by `autonomic explain` for whatever it refuses.

    Examples:

        autonomic freeze mnist-online --why "incident 4711" --until 2h

        autonomic freeze --all --why "the year's end" --until 2027-01-02T08:00
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import show

    problems = _problems(target, everything) + ([] if why.strip() else [Problem("a freeze needs a reason", "--why")])
    try:
        ends = parse_until(until, time.time()) if until is not None else None
    except ValueError as wrong:
        problems.append(Problem(str(wrong), "--until"))
    if problems:
        raise SpecError(problems)
    with Client(home) as client:
        answer = client.post("planner", "/v1/freezes", {"target": target or "", "why": why, "until": ends})
    show(answer, output, FREEZE_COLUMNS, [freeze_row(answer["freeze"])])
    if output is Output.TABLE and answer["stopped"]:
        typer.echo(f"Stopped before their next effect: {', '.join(answer['stopped'])}")


def unfreeze(
    target: TargetArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="Lift the freeze of everything; those of targets stay.")] = False,
    why: WhyOption = "",
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Lift a freeze. What was refused meanwhile is not made up for; what still holds is decided on again.

    Ends with 1 where there is no such freeze.

    Examples:

        autonomic unfreeze mnist-online

        autonomic unfreeze --all --why "the incident is over"
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import show

    if problems := _problems(target, everything):
        raise SpecError(problems)
    with Client(home) as client:
        lifted = client.post("planner", "/v1/freezes:lift", {"target": target or "", "why": why})
    show(lifted, output, ("LIFTED", "BY", "SINCE", "UNTIL", "WHY"), [freeze_row(lifted)])


FREEZE_COLUMNS = ("FROZEN", "BY", "SINCE", "UNTIL", "WHY")


def freeze_row(found: dict[str, Any]) -> tuple[str, ...]:
    """A freeze as a row of a table."""
    from autonomic.cli.output import clock

    until = clock(found["until"]) or "it is lifted"
    return found["target"] or "everything", found["by"], clock(found["since"]), until, found["why"]


def parse_until(text: str, now: float) -> float:
    """The seconds since the epoch that `text` means at the time `now`, in the zone of the reader where it names none.

    Raises:
        ValueError: it is of no known form, or over.
    """
    from autonomic.workflows.spec.units import parse_duration

    try:
        return now + parse_duration(text)
    except ValueError:
        pass
    here = datetime.fromtimestamp(now).astimezone()
    try:
        if ":" in text and "-" not in text:
            at = datetime.combine(here.date(), datetime.strptime(text, "%H:%M").time()).astimezone()
            ends = (at if at > here else at + timedelta(days=1)).timestamp()
        else:
            ends = datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise ValueError(f"found {text!r}; {_FORMS}") from None
    if ends <= now:
        raise ValueError(f"found {text!r}, which is over; {_FORMS}")
    return ends


def _problems(target: str | None, everything: bool) -> list[Problem]:
    if (target is not None) == everything:
        return [Problem("name exactly one of TARGET or --all", "TARGET")]
    return []
