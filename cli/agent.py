"""`autonomic agent`."""

import os
from typing import Annotated, Literal

import typer

from autonomic.cli.options import HomeOption


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(agent)


def agent(
    name: Annotated[Literal["monitor", "planner", "tuner"], typer.Argument(help="Which agent.")],
    home: HomeOption = None,
) -> None:
    """Run one agent alone in the foreground, by the settings of a home, until SIGTERM or Ctrl-C.

    `autonomic up` starts all three; this is for agents that are supervised by something else.

    Examples:

        autonomic agent planner --home /srv/autonomic
    """
    import importlib

    from autonomic.cli.options import NothingRuns
    from autonomic.seams.errors import Permanent

    if home is not None:
        os.environ["AUTONOMIC_HOME"] = str(home.absolute())
    module = importlib.import_module(f"autonomic.agents.{name}.__main__")
    try:
        module.main()
    except Permanent as refused:
        raise NothingRuns(str(refused)) from None
