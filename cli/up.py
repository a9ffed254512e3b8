"""`autonomic up` and `autonomic down`."""

import os
import signal
import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from autonomic.agents.settings import Settings, home_from_environment
from autonomic.cli.options import HomeOption, Output, OutputOption
from autonomic.seams.errors import Permanent


class Platform(StrEnum):
    """What `up` can run workflows on."""

    ray = "ray"
    kubernetes = "kubernetes"


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command()(up)
    app.command()(down)


def up(
    home: HomeOption = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is up, and leave it running.")] = False,
    cpus: Annotated[int | None, typer.Option(help="Cores that Ray may hand out; default: all of this machine.")] = None,
    platform: Annotated[Platform, typer.Option(help="Where workflows run.")] = Platform.ray,
    cluster: Annotated[
        Path | None,
        typer.Option(help="With --platform kubernetes: a YAML file with image, namespace, volumes… (docs/kubernetes.md).", metavar="FILE"),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Start everything on this machine and keep it running until Ctrl-C.

    Starts MLflow, Ray, Prometheus, the Ray host and the three agents on free ports of the loopback interface. On Kubernetes
    no Ray is started: workflows run on the cluster of KUBECONFIG, and go on there after the end. With --output json or
    yaml the addresses of all parts are printed when they are up.
    Ends with 0 after Ctrl-C or `autonomic down`, 1 when a part does not come up, 4 when this home runs already.

    Examples:

        autonomic up

        autonomic up --detach --home /srv/autonomic

        autonomic up --platform kubernetes --cluster cluster.yaml
    """
    home = (home or home_from_environment()).absolute()
    if (platform is Platform.kubernetes) != (cluster is not None):
        raise typer.BadParameter("--platform kubernetes and --cluster FILE go together; the file says at least which image pods run")
    if detach:
        more = ["--platform", platform.value, "--cluster", str(cluster.absolute())] if cluster else []
        _up_detached(home, [*(["--cpus", str(cpus)] if cpus else []), *more])
        _tell(home, output)
    else:
        _up_in_foreground(home, cpus, cluster, output)


def _tell(home: Path, output: Output) -> None:
    from autonomic.cli.output import show

    if output is not Output.TABLE:
        show(Settings.load(home).model_dump(mode="json"), output)


def _up_in_foreground(home: Path, cpus: int | None, cluster: Path | None, output: Output) -> None:
    from autonomic.cli.system import AlreadyRunning, System
    from autonomic.workflows.platforms.kubernetes.host import read_settings

    console = Console(stderr=True)
    try:
        kubernetes = read_settings(cluster, home) if cluster else None
    except Permanent as wrong:
        console.print(f"[red]{wrong}[/]", highlight=False)
        raise typer.Exit(1) from None
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("Starting")

        def report(part: str, state: str) -> None:
            console.print(f"[green]•[/] {part:<11} {state}")
            progress.update(task, description="Starting")

        system = System(home, cpus=cpus, report=report, kubernetes=kubernetes)
        try:
            system.start()
        except AlreadyRunning as running:
            console.print(f"[yellow]{running}[/]", highlight=False)
            raise typer.Exit(4) from None
        except Permanent as failed:
            console.print(f"[red]{failed}[/]", highlight=False, markup=False)
            raise typer.Exit(1) from None
    console.print(f"Running in {home}. Ctrl-C stops everything.", highlight=False)
    _tell(home, output)
    sys.stdout.flush()
    stop.wait()
    console.print("Stopping …")
    system.stop()


def _up_detached(home: Path, options: list[str]) -> None:
    from autonomic.cli.system import running_pid
    from autonomic.workflows.embedded.processes import start_process, wait_until

    console = Console(stderr=True)
    running = running_pid(home)
    if running is not None:
        console.print(f"The system of {home} is running already (process {running}). Stop it with `autonomic down`.", highlight=False)
        raise typer.Exit(4)
    log = home / "logs" / "up.log"
    command = [sys.executable, "-m", "autonomic.cli.main", "up", "--home", str(home), *options]
    with console.status("Starting …"):
        process = start_process(command, log, env={**os.environ, "AUTONOMIC_HOME": str(home)})
        try:
            wait_until(lambda: running_pid(home) is not None, "autonomic up", 180, log, process)
        except Permanent as failed:
            console.print(str(failed), highlight=False, markup=False)
            raise typer.Exit(1) from None
    console.print(f"Running in {home} (process {process.pid}). Stop it with `autonomic down`.", highlight=False)


def down(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Stop what `autonomic up` started in this home.

    Ends with 0 when it has stopped, 1 when it would not stop, 3 when nothing runs.

    Examples:

        autonomic down
    """
    from autonomic.cli.output import show
    from autonomic.cli.system import stop_running

    console = Console(stderr=True)
    home = (home or home_from_environment()).absolute()
    with console.status("Stopping …"):
        try:
            stopped = stop_running(home)
        except Permanent as failed:
            console.print(f"[red]{failed}[/]", highlight=False)
            raise typer.Exit(1) from None
    if not stopped:
        console.print(f"Nothing runs in {home}.", highlight=False)
        raise typer.Exit(3)
    console.print("Stopped.")
    if output is not Output.TABLE:
        show({"home": str(home), "stopped": True}, output)
