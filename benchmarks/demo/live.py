"""What one sees while the demo runs."""

import math
import threading
import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from benchmarks.demo.world import P99_BOUND_SECONDS, World

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 60
_NEWS = 14


def sparkline(values: Sequence[float], top: float) -> str:
    """The newest values as bars between 0 and `top`; what is not known is blank."""
    cells = [_BARS[min(8, max(0, math.ceil(value / top * 8)))] if math.isfinite(value) else " " for value in values[-_WIDTH:]]
    return "".join(cells)


class View:
    """Draws the world four times a second while it is entered; where there is no terminal, it prints the news."""

    def __init__(self, world: World, console: Console) -> None:
        self._world = world
        self._console = console
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=4, transient=False)
        self._left = threading.Event()
        self._printer = threading.Thread(target=self._print_news, name="news", daemon=True)

    def __enter__(self) -> "View":
        if self._console.is_terminal:
            self._live.start()
        else:
            self._printer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()
        else:
            self._left.set()
            self._printer.join()

    def _print_news(self) -> None:
        printed = 0
        last = False
        while not last:
            last = self._left.wait(0.5)
            news = self._world.news[printed:]
            printed += len(news)
            for line in self._lines(news):
                self._console.print(line, highlight=False, soft_wrap=True)

    def _lines(self, news: Sequence[tuple[float, str]]) -> list[str]:
        return [f"{when - self._world.started_at:6.1f} s  {text}" for when, text in news]

    def _draw(self) -> RenderableType:
        world = self._world
        moments = world.moments[-_WIDTH:]
        table = Table.grid(padding=(0, 2))
        if moments:
            now = moments[-1]
            bound = P99_BOUND_SECONDS
            rows = [
                ("requests/s", f"{now.rate:.0f}", [m.rate for m in moments], max(m.rate for m in moments), "cyan"),
                (
                    "p99 (5 s)",
                    _seconds(now.p99_seconds),
                    [m.p99_seconds for m in moments],
                    4 * bound,
                    "red" if now.p99_seconds > bound else "green",
                ),
                ("replicas", f"{now.ready}/{now.wanted}", [m.ready for m in moments], 4, "blue"),
                (
                    "accuracy (5 s)",
                    f"{now.accuracy:.0%}" if math.isfinite(now.accuracy) else "–",
                    [m.accuracy for m in moments],
                    1,
                    "magenta",
                ),
                ("drift", "yes" if now.drifted else "no", [float(m.drifted) for m in moments], 1, "yellow"),
                ("by the backup", f"{now.backup_share:.0%}", [m.backup_share for m in moments], 1, "bright_black"),
            ]
            for name, value, series, top, colour in rows:
                table.add_row(name, Text(value, style=f"bold {colour}"), Text(sparkline(series, top), style=colour))
        news = "\n".join(self._lines(world.news[-_NEWS:]))
        elapsed = time.time() - world.started_at
        return Group(Panel(table, title=f"mnist-online/predictor, {elapsed:.0f} s", border_style="bright_black"), Text(news))


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if math.isfinite(value) else "–"
