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
from rich.text import Text

from autonomic.agents.settings import Settings, home_from_environment
from autonomic.cli.addresses import Given
from autonomic.cli.options import HomeOption, Output, OutputOption
from autonomic.seams.errors import Permanent

_BULLET = "•"
_UP_SECONDS = 300.0


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
    front_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port at which services answer; kept from then on.")] = None,
    ray: Annotated[
        str | None, typer.Option(help="Use the Ray cluster at this address (this machine is one of its nodes).", metavar="ADDRESS")
    ] = None,
    mlflow: Annotated[str | None, typer.Option(help="Use the MLflow server at this URL.", metavar="URL")] = None,
    prometheus: Annotated[str | None, typer.Option(help="Use the Prometheus server at this URL.", metavar="URL")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Start everything on this machine and keep it running until Ctrl-C.

    Starts MLflow, Ray, Prometheus, the Ray host and the three agents on the loopback interface, at the ports of the last time. What
    was in force then runs again. On Kubernetes no Ray is started: workflows run on the cluster of KUBECONFIG, and go on there
    after the end. With --output json or yaml the addresses of all parts are printed when they are up.
    Ports and what is used instead of a part of ours stand in HOME/settings.json and are kept; `--ray embedded`, `--mlflow embedded`
    and `--prometheus embedded` start that part here again.
    Ends with 0 after Ctrl-C or `autonomic down`, 1 when a part does not come up, 4 when this home runs already.

    Examples:

        autonomic up

        autonomic up --detach --home /srv/autonomic

        autonomic up --front-port 8080 --mlflow https://mlflow.example.org

        autonomic up --platform kubernetes --cluster cluster.yaml
    """
    home = (home or home_from_environment()).absolute()
    if (platform is Platform.kubernetes) != (cluster is not None):
        raise typer.BadParameter("--platform kubernetes and --cluster FILE go together; the file says at least which image pods run")
    if platform is Platform.kubernetes and ray:
        raise typer.BadParameter("--ray and --platform kubernetes exclude each other: workflows run on one of both")
    given = Given(front_port=front_port, ray=ray, mlflow=mlflow, prometheus=prometheus)
    if detach:
        asked = {"--cpus": cpus, "--front-port": front_port, "--ray": ray, "--mlflow": mlflow, "--prometheus": prometheus}
        asked |= {"--platform": platform.value, "--cluster": cluster.absolute()} if cluster else {}
        _up_detached(home, [text for name, value in asked.items() if value is not None for text in (name, str(value))])
        _print_addresses(home, output)
    else:
        _up_in_foreground(home, cpus, cluster, given, output)


def _print_addresses(home: Path, output: Output) -> None:
    from autonomic.cli.output import show

    if output is not Output.TABLE:
        show(Settings.load(home).model_dump(mode="json"), output)


def _up_in_foreground(home: Path, cpus: int | None, cluster: Path | None, given: Given, output: Output) -> None:
    from autonomic.cli.home import AlreadyRunning
    from autonomic.cli.system import System
    from autonomic.platforms.kubernetes.settings import read_settings

    console = _console()
    try:
        kubernetes = read_settings(cluster, home) if cluster else None
    except Permanent as wrong:
        console.print(Text(str(wrong), style="red"), soft_wrap=True)
        raise typer.Exit(1) from None
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("Starting")

        def report(part: str, state: str) -> None:
            # what others say may look like markup
            console.print(Text.assemble((_BULLET, "green"), f" {part:<11} {state}"), soft_wrap=True)
            progress.update(task, description="Starting")

        system = System(home, cpus=cpus, report=report, kubernetes=kubernetes, given=given)
        try:
            system.start()
        except AlreadyRunning as running:
            console.print(Text(str(running), style="yellow"), soft_wrap=True)
            raise typer.Exit(4) from None
        except Permanent as failed:
            console.print(Text(str(failed), style="red"), soft_wrap=True)
            raise typer.Exit(1) from None
    console.print(Text(f"Running in {home}. Ctrl-C stops everything."), soft_wrap=True)
    _print_addresses(home, output)
    sys.stdout.flush()
    stop.wait()
    console.print("Stopping …")
    system.stop()


def _up_detached(home: Path, options: list[str]) -> None:
    from autonomic.cli.home import prepare, running_pid
    from autonomic.workflows.processes import start_process, wait_until

    console = _console()
    try:
        prepare(home)
    except Permanent as unusable:
        console.print(Text(str(unusable), style="red"), soft_wrap=True)
        raise typer.Exit(1) from None
    running = running_pid(home)
    if running is not None:
        console.print(Text(f"The system of {home} is running already (process {running}). Stop it with `autonomic down`."), soft_wrap=True)
        raise typer.Exit(4)
    log = home / "logs" / "up.log"
    begin = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "autonomic.cli.main", "up", "--home", str(home), *options]
    shown = 0

    def is_up() -> bool:
        nonlocal shown
        lines = log.read_bytes()[begin:].decode(errors="replace").splitlines(keepends=True) if log.exists() else []
        whole = [line.strip() for line in lines if line.endswith("\n") and line.startswith(_BULLET)]
        for line in whole[shown:]:
            console.print(Text(line), soft_wrap=True)
        shown = len(whole)
        return running_pid(home) == process.pid

    with console.status("Starting …"):
        process = start_process(command, log, env={**os.environ, "AUTONOMIC_HOME": str(home)})
        try:
            wait_until(is_up, "autonomic up", _UP_SECONDS, log, process, begin)
        except Permanent as failed:
            console.print(Text(str(failed)), soft_wrap=True)
            raise typer.Exit(1) from None
        is_up()
    console.print(Text(f"Running in {home} (process {process.pid}). Stop it with `autonomic down`."), soft_wrap=True)


def _console() -> Console:
    return Console(stderr=True, highlight=False)


def down(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Stop what `autonomic up` started in this home, also where that was killed.

    What is in force stays, and runs again after the next `autonomic up`.
    Ends with 0 when it has stopped, 1 when it would not stop, 3 when nothing runs.

    Examples:

        autonomic down
    """
    from autonomic.cli.home import stop_running
    from autonomic.cli.output import show

    console = _console()
    home = (home or home_from_environment()).absolute()
    with console.status("Stopping …"):
        try:
            stopped = stop_running(home)
        except Permanent as failed:
            console.print(Text(str(failed), style="red"), soft_wrap=True)
            raise typer.Exit(1) from None
    if not stopped:
        console.print(Text(f"Nothing runs in {home}."), soft_wrap=True)
        raise typer.Exit(3)
    console.print("Stopped.")
    if output is not Output.TABLE:
        show({"home": str(home), "stopped": True}, output)
