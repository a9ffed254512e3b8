"""The `autonomic` command."""

from typing import Annotated

import typer

from autonomic import __version__
from autonomic.cli import (
    act,
    adopt,
    agent,
    build,
    cluster,
    doctor,
    documents,
    freeze,
    hand,
    lists,
    observe,
    plans,
    readings,
    runs,
    tune,
    up,
)
from autonomic.cli.options import EXIT_CODES, Commands

app = typer.Typer(
    cls=Commands,
    name="autonomic",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
for group in (up, documents, runs, lists, observe, readings, plans, hand, adopt, freeze, act, tune, agent, doctor, cluster, build):
    group.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"autonomic {__version__}")
        raise typer.Exit


@app.callback()
def autonomic(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Supervise machine-learning workflows: declare them and what keeps them healthy in YAML, and let agents act.

    A first look: autonomic doctor; autonomic up --detach; autonomic apply examples/hello; autonomic run hello --wait.
    """


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
