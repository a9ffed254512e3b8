"""How long an empty step takes on Ray and where the time goes, beside a bare task in a fresh worker of Ray and a bare process."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from autonomic.agents.settings import Settings
from autonomic.cli.embedded.ray_cluster import cluster_env
from autonomic.cli.system import System
from autonomic.seams.state import FINISHED, RunState
from autonomic.workflows.runs.packages import pack
from benchmarks.claims import Claim
from benchmarks.demo.api import Api, wait_for
from benchmarks.harness import by_arm, run_interleaved
from benchmarks.report import Report

STEPS = 5
LONGEST_STEP_SECONDS = 1.0
HANG_SECONDS = 600.0
_LOOK_SECONDS = 0.02
STAGES = {
    "accepted": "the planner has answered the call",
    "begun": "the run is driven",
    "taken": "a worker has the step",
    "called": "the step's function is called",
    "returned": "the run's state holds what it returned",
    "seen": "a caller who polls the host sees that the run has ended",
}
"""What follows one another in a run of one step; the first two may change places."""


def run(report: Report, results: Path, seeds: int) -> list[Claim]:
    """Measures on a system of its own and returns the claims."""
    system = System(Path(tempfile.mkdtemp(prefix="autonomic-steps-")), cpus=4)
    settings = system.start()
    try:
        with Bench(settings) as bench:
            arms: dict[str, Callable[[int], Mapping[str, float]]] = {
                "cold": bench.cold,
                "warm": bench.warm,
                "five": bench.five,
                "task": bench.task,
                "process": bench.process,
            }
            rows = run_interleaved("steps", arms, range(seeds), results)
    finally:
        system.stop()
    report.heading("Steps")
    report.text(" ".join((__doc__ or "").split()))
    claims = _claims(rows)
    report.claims(claims)
    _tables(report, rows)
    return claims


class Bench:
    """The arms. Each gives the `seconds` of one step, the `cpu_seconds` that all of Ray and the steps took for it, and the `load`."""

    def __init__(self, settings: Settings) -> None:
        self._api = Api(settings)
        self._address = settings.ray_address
        self._env = {**os.environ, **cluster_env(settings.home / "ray")}
        self._cluster = next(child for child in psutil.Process().children() if "--head" in child.cmdline())
        package = self._api.host.add_package(pack(Path(__file__).parent))
        workflows = [_workflow(count) for count in (1, STEPS)]
        packages = {workflow["metadata"]["name"]: package for workflow in workflows}
        self._api.post("planner", "/v1/apply", {"documents": workflows, "packages": packages})
        self._run(1)

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self._api.close()

    def cold(self, seed: int) -> dict[str, float]:
        """A run of one step where nothing of Ray was started ahead for it."""
        self._ask_ray("forget")
        return self._measured(lambda: self._run(1))

    def warm(self, seed: int) -> dict[str, float]:
        """A run of one step after another run."""
        return self._measured(lambda: self._run(1))

    def five(self, seed: int) -> dict[str, float]:
        """A run of five steps in sequence; the figures are those of one."""
        return self._measured(lambda: self._run(STEPS), STEPS)

    def task(self, seed: int) -> dict[str, float]:
        """A bare task of Ray in a worker that is started for it."""
        measured = self._measured(lambda: {"seconds": float(self._ask_ray("task"))})
        # the driver's own start is among it
        del measured["cpu_seconds"]
        return measured

    def process(self, seed: int) -> dict[str, float]:
        """A bare Python process that does nothing."""
        return self._measured(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True) and {})

    def _ask_ray(self, what: str) -> str:
        command = [sys.executable, "-m", "benchmarks.steps.in_cluster", self._address, what]
        return subprocess.run(command, env=self._env, check=True, capture_output=True, text=True).stdout

    def _measured(self, action: Callable[[], Mapping[str, float]], steps: int = 1) -> dict[str, float]:
        cpu, begin = self._cpu_seconds(), time.monotonic()
        stages = action()
        seconds = time.monotonic() - begin
        used = self._cpu_seconds() - cpu
        return {"seconds": seconds / steps, "cpu_seconds": used / steps, "load": os.getloadavg()[0], **stages}

    def _cpu_seconds(self) -> float:
        # of the processes that have ended, those count whose parents have waited for them
        own = psutil.Process().cpu_times()
        total = own.children_user + own.children_system
        for process in [self._cluster, *self._cluster.children(recursive=True)]:
            try:
                total += sum(process.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue
        return total

    def _run(self, steps: int) -> dict[str, float]:
        target, begin = f"empty-{steps}", time.time()
        key = self._api.post("planner", "/v1/primitives/run", {"target": target, "args": {}})
        accepted = time.time()
        run = wait_for(lambda: self._ended(target, begin), f"the run of {target} ({key})", HANG_SECONDS, _LOOK_SECONDS)
        seen = time.time()
        if run.status != "succeeded":
            raise RuntimeError(f"the run of {target} {run.status}: {run.detail}")
        if steps > 1:
            return {}
        step = run.steps["step-0"]
        times = {
            "accepted": accepted,
            "begun": run.started_at,
            "taken": step.started_at,
            "called": step.outputs["called_at"],
            "returned": step.finished_at,
            "seen": seen,
        }
        return {name: at - begin for name, at in times.items()}

    def _ended(self, target: str, since: float) -> RunState | None:
        newest = next(iter(self._api.host.runs(target)), None)
        return newest if newest and newest.status in FINISHED and (newest.started_at or 0) >= since else None


def _workflow(steps: int) -> dict[str, Any]:
    chain = [
        {
            "name": f"step-{number}",
            "run": "empty_step:nothing",
            "resources": {"cpu": 0.1},
            "needs": [f"step-{number - 1}"] if number else [],
        }
        for number in range(steps)
    ]
    return {
        "apiVersion": "autonomic.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": f"empty-{steps}"},
        "spec": {"type": "batch", "steps": chain},
    }


def _claims(rows: Sequence[Mapping[str, Any]]) -> list[Claim]:
    seconds = by_arm(rows, "seconds")
    of_task = ", ".join(f"{arm} {seconds[arm].mean / seconds['task'].mean:.2f}" for arm in ("cold", "warm", "five"))
    of_process = ", ".join(f"{arm} {seconds[arm].mean / seconds['process'].mean:.1f}" for arm in ("cold", "warm", "five"))
    return [
        Claim(
            "steps",
            f"an empty step of five in sequence <= {LONGEST_STEP_SECONDS:g} s",
            f"{seconds['five']} s; a run of one {seconds['warm']} s; nothing started ahead {seconds['cold']} s",
            seconds["five"].mean <= LONGEST_STEP_SECONDS,
        ),
        Claim(
            "steps",
            "a step in a warm worker takes less than a bare task in a fresh worker",
            f"of the task's time: {of_task}; of a bare process's: {of_process}",
            seconds["five"].mean < seconds["task"].mean,
        ),
    ]


def _tables(report: Report, rows: Sequence[Mapping[str, Any]]) -> None:
    seconds, load = (by_arm(rows, figure) for figure in ("seconds", "load"))
    cpu = by_arm([row for row in rows if "cpu_seconds" in row], "cpu_seconds")
    report.table(
        ["arm", "seconds of a step", "CPU seconds", "load average"],
        [[arm, seconds[arm], cpu.get(arm, "not measured"), f"{load[arm].mean:.1f}"] for arm in ("cold", "warm", "five", "task", "process")],
    )
    one = [row for row in rows if row["arm"] in ("cold", "warm")]
    by_stage = {stage: by_arm(one, stage) for stage in STAGES}
    report.table(
        ["stage of a run of one step", "cold: seconds since the call", "warm"],
        [[text, by_stage[stage]["cold"], by_stage[stage]["warm"]] for stage, text in STAGES.items()],
    )
