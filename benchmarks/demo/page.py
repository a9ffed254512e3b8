"""The demo's report."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.demo.world import P99_BOUND_SECONDS, World
from benchmarks.load import quantile
from benchmarks.report import Report


def write(world: World, path: Path) -> Path:
    """Writes the page and returns its path."""
    report = Report("autonomic: a real MNIST service, kept fast and accurate")
    report.text(
        f"Real images, real {world.platform.name}, MLflow, Prometheus and HAProxy, one machine. The service has a declared time per "
        "request spent asleep, as on an accelerator, with the real inference inside and one request in flight a replica: the cores of a "
        "small machine cannot show the scaling of CPU work. Labels are answered from the data set itself."
    )
    report.claims(world.claims)
    report.heading("What happened")
    report.figure(_timeline(world), "Two looks a second; p99 and accuracy are over the answers of the last five seconds.")
    lags = [request.lag_seconds for request in world.load.requests]
    report.text(
        f"{len(world.load.requests)} requests by an open-loop generator; its own lag: "
        f"p50 {quantile(lags, 0.5) * 1000:.1f} ms, p99 {quantile(lags, 0.99) * 1000:.1f} ms. Lost: "
        f"{sum(not request.ok for request in world.load.requests)}."
    )
    report.heading("Explained decisions")
    for title, words in world.explained:
        report.text(title)
        report.quote(words)
    report.heading("News")
    report.table(["s", "what"], [[f"{when - world.started_at:.1f}", text] for when, text in world.news])
    return report.write(path)


def _timeline(world: World) -> Figure:
    times = [moment.time - world.started_at for moment in world.moments]
    figure, axes = plt.subplots(4, 1, figsize=(10, 8), sharex=True)
    rate, latency, replicas, quality = axes
    rate.step(times, [moment.rate for moment in world.moments], where="post", color="tab:cyan")
    rate.set_ylabel("requests/s")
    latency.plot(times, [moment.p99_seconds * 1000 for moment in world.moments], color="tab:green")
    latency.axhline(P99_BOUND_SECONDS * 1000, color="tab:red", linestyle="--", linewidth=1)
    latency.set_ylabel("p99, ms")
    latency.set_yscale("log")
    replicas.step(times, [moment.wanted for moment in world.moments], where="post", color="tab:gray", label="wanted")
    replicas.step(times, [moment.ready for moment in world.moments], where="post", color="tab:blue", label="ready")
    replicas.set_ylabel("replicas")
    replicas.legend(frameon=False)
    quality.plot(times, [moment.accuracy for moment in world.moments], color="tab:purple", label="accuracy")
    quality.step(times, [moment.backup_share for moment in world.moments], where="post", color="tab:gray", label="share of the backup")
    quality.fill_between(
        times, [float(moment.drifted) for moment in world.moments], step="post", alpha=0.15, color="tab:orange", label="drift"
    )
    quality.set_ylabel("share")
    quality.set_xlabel("s")
    quality.legend(frameon=False, loc="lower left")
    for axis in axes:
        _mark(axis, world)
    figure.align_ylabels()
    return figure


def _mark(axis: Axes, world: World) -> None:
    for number, (when, text) in enumerate(world.marks):
        axis.axvline(when - world.started_at, color="black", linewidth=0.6, alpha=0.4)
        if axis is axis.figure.axes[0]:
            axis.text(when - world.started_at, axis.get_ylim()[1] * (1.05 + 0.12 * (number % 3)), text.split(":")[0], fontsize=7)
