"""Runs the arms of an experiment interleaved over seeds, keeps each result as a JSON line, and gives intervals."""

import json
import os
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

Arm = Callable[[int], Mapping[str, float]]
"""Measures once with a seed and gives its figures by name."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its bootstrap interval of 95 %."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean of `values` and its percentile bootstrap interval (Efron 1979)."""
    data = np.asarray(values, dtype=float)
    means = np.random.default_rng(seed).choice(data, (resamples, len(data))).mean(axis=1)
    return Interval(float(data.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975)))


def run_interleaved(experiment: str, arms: Mapping[str, Arm], seeds: Sequence[int], results: Path) -> list[dict[str, Any]]:
    """Measures every arm with every seed, the arms in a new order for each seed, and appends each result to `results`.

    What stands in `results` already is not measured again, so that a run that was broken off goes on where it was.
    """
    results.parent.mkdir(parents=True, exist_ok=True)
    known = {(row["arm"], row["seed"]): row for row in read_rows(results) if row["experiment"] == experiment}
    rows: list[dict[str, Any]] = []
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    with Progress() as progress:
        task = progress.add_task(experiment, total=len(arms) * len(seeds))
        for seed in seeds:
            order = list(arms)
            random.Random(seed).shuffle(order)
            for name in order:
                progress.update(task, description=f"{experiment}: {name}, seed {seed}")
                row = known.get((name, seed))
                if row is None:
                    row = {"experiment": experiment, "arm": name, "seed": seed, "time": time.time(), **machine, **arms[name](seed)}
                    with results.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                rows.append(row)
                progress.advance(task)
    return rows


def read_rows(results: Path) -> list[dict[str, Any]]:
    """The results that were kept, the oldest first."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def by_arm(rows: Sequence[Mapping[str, Any]], figure: str) -> dict[str, Interval]:
    """The interval of one figure for each arm."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row["arm"], []).append(row[figure])
    return {arm: bootstrap(found) for arm, found in values.items()}
