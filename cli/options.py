"""What several commands share: their common options, their exit codes, and how errors are told."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from autonomic.seams.errors import AutonomicError, SpecError

EXIT_CODES = """
Exit codes: 0 done; 1 failed, or a claim did not hold; 2 wrong usage or invalid documents; 3 nothing runs or it cannot be
reached; 4 refused or denied; 130 the waiting was ended by Ctrl-C, and what was waited for goes on.
"""


class Output(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder that keeps the state; default: AUTONOMIC_HOME, else .autonomic in the current folder."),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of the answer.")]


FAILED_PLANS = frozenset({"failed", "refused", "cancelled", "reverted", "escalated"})
"""The phases in which a plan has ended without its effect."""


class NothingRuns(AutonomicError):
    """There is no system in this home, or a part of it cannot be reached."""


class Denied(AutonomicError):
    """The agents refuse it: the token, the gate or the state of things does not allow it."""


def exit_code(error: AutonomicError) -> int:
    """The code with which the command ends for an error."""
    if isinstance(error, SpecError):
        return 2
    if isinstance(error, NothingRuns):
        return 3
    return 4 if isinstance(error, Denied) else 1


class Commands(TyperGroup):
    """A group of commands that tells expected errors in one line, and a SpecError with all its problems."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AutonomicError as error:
            tell(error)
            raise typer.Exit(exit_code(error)) from None


def tell(error: AutonomicError) -> None:
    """Prints an error for its reader on stderr."""
    if isinstance(error, SpecError):
        for problem in error.problems:
            typer.echo(str(problem), err=True)
        count = len(error.problems)
        typer.secho(f"{count} problem{'s' if count != 1 else ''}; nothing was changed.", fg="red", err=True)
    else:
        typer.secho(f"Error: {error}", fg="red", err=True)
