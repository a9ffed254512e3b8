"""`make benchmarks`: runs the experiments one after the other and writes one report."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from autonomic.cli.embedded.kubernetes.supervisor import check_machine
from autonomic.seams.errors import Permanent
from benchmarks.autoscaling import experiment as autoscaling
from benchmarks.claims import Claim
from benchmarks.kubernetes import acting, growth
from benchmarks.kubernetes import autoscaling as kubernetes_autoscaling
from benchmarks.overhead import experiment as overhead
from benchmarks.reaction import experiment as reaction
from benchmarks.report import Report
from benchmarks.steps import experiment as steps

ROOT = Path(__file__).parents[1]
EXPERIMENTS: dict[str, Callable[[Report, Path, int], list[Claim]]] = {
    "overhead": overhead.run,
    "reaction": reaction.run,
    "autoscaling": autoscaling.run,
    "steps": steps.run,
    "kubernetes": acting.run,
    "kubernetes-growth": growth.run,
    "kubernetes-autoscaling": kubernetes_autoscaling.run,
}


def main(
    experiments: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(EXPERIMENTS)}; default: all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions of each arm, where arms are compared.")] = 5,
    resume: Annotated[bool, typer.Option(help="Keep the results of an earlier run and measure only what they lack.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the report and of the results as JSON lines.")] = ROOT / "reports",
) -> None:
    """Measure, and end with 1 when a claim did not hold."""
    console = Console()
    chosen = experiments or _all_here(console)
    unknown = [name for name in chosen if name not in EXPERIMENTS]
    if unknown:
        raise typer.BadParameter(f"unknown experiments {', '.join(unknown)}; known are {', '.join(EXPERIMENTS)}")
    report = Report("autonomic: benchmarks")
    claims: list[Claim] = []
    for name in chosen:
        begin = time.time()
        console.rule(name)
        results = out / f"{name}.jsonl"
        if not resume:
            results.unlink(missing_ok=True)
        claims += EXPERIMENTS[name](report, results, seeds)
        console.print(f"{name} took {time.time() - begin:.0f} s")
    table = Table("part", "claimed", "measured", "")
    for claim in claims:
        table.add_row(claim.part, claim.claimed, claim.measured, "[green]held[/]" if claim.held else "[red]did not hold[/]")
    console.print(table)
    console.print(f"Report: {report.write(out / 'benchmarks.html')}", highlight=False)
    raise typer.Exit(0 if all(claim.held for claim in claims) else 1)


def _all_here(console: Console) -> list[str]:
    try:
        check_machine()
    except Permanent as lacking:
        of_cluster = [name for name in EXPERIMENTS if name.startswith("kubernetes")]
        console.print(f"[red]Left out: {', '.join(of_cluster)}: {lacking}[/]")
        return [name for name in EXPERIMENTS if name not in of_cluster]
    return list(EXPERIMENTS)


if __name__ == "__main__":
    typer.run(main)
