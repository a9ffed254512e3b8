"""Step and burst on the MNIST service: requests that miss the SLO, and replica-seconds from process start.

Ours against Ray Serve's autoscaler (its defaults, and tuned as its guide advises), the same open-loop arrivals, interleaved in
one run. Beside them the bound of the simulated platform: a queue with the start-up
time measured here, scaled by somebody who knows the trace in advance only at the moment it changes.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import psutil

from autonomic.cli.embedded.ray_cluster import RayCluster
from autonomic.cli.system import System
from autonomic.platforms.simulated.queueing import Line, QueueingService
from autonomic.platforms.simulated.queueing import Load as SimulatedLoad
from autonomic.seams.runner import ENDED
from autonomic.workflows.processes import free_port, start_process, stop_process, wait_until
from benchmarks.autoscaling.serve_app import APP, SETTINGS
from benchmarks.autoscaling.traces import TRACES, Trace, play
from benchmarks.claims import Claim
from benchmarks.demo.api import Api, wait_for
from benchmarks.harness import Interval, bootstrap, by_arm, run_interleaved
from benchmarks.load import Load, quantile
from benchmarks.report import Report
from benchmarks.services import save_random_classifier, service_document

SLO_SECONDS = 0.25
DEVICE_SECONDS = 0.05
MAX_REPLICAS = 5
PER_REPLICA = 14.0
TARGET = "autoscaling/digit"
_SERVED = "sum(rate(autonomic_request_duration_seconds_count{workflow='autoscaling'}[%s]))"
_WAITING = "sum(autonomic_queue_requests{workflow='autoscaling'})"


def strategies() -> list[dict[str, Any]]:
    """Out at once to what the rate and the queue need; in slowly, one replica at a time."""
    needed = f"({_SERVED % '3s'} + {_WAITING} / 3) / {PER_REPLICA:g}"
    out = {
        "target": TARGET,
        "on": {"every": "250ms"},
        "readings": {"needed": {"promql": needed}, "queued": {"platform": "queued"}, "wanted": {"platform": "wanted_replicas"}},
        "when": "queued > 2 && needed > wanted",
        "constraint": f"wanted < {MAX_REPLICAS}",
        "do": [{"rescale": {"require": {"reading": "needed", "per_replica": 1}}}],
        "guard": {"autonomy": "auto", "cooldown": "1s"},
    }
    back = {
        "target": TARGET,
        "on": {"every": "1s"},
        "readings": {"served": {"promql": _SERVED % "8s"}, "queued": {"platform": "queued"}, "wanted": {"platform": "wanted_replicas"}},
        "when": f"wanted > 1 && queued < 1 && served < {PER_REPLICA * 0.8:g} * (wanted - 1)",
        "for": "4s",
        "do": [{"rescale": {"by": -1}}],
        "guard": {"autonomy": "auto", "cooldown": "2s"},
    }
    return [
        {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Strategy", "metadata": {"name": name}, "spec": spec}
        for name, spec in (("scale-out", out), ("scale-in", back))
    ]


class ReplicaSeconds:
    """Counts the replica processes of one Serve application ten times a second, from process start."""

    def __init__(self, application: str) -> None:
        self.total = 0.0
        self._application = application
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "ReplicaSeconds":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(0.25):
            now = time.monotonic()
            self.total += count_replicas(self._application) * (now - before)
            before = now


def count_replicas(application: str) -> int:
    """The replica processes of a Serve application on this machine."""
    found = 0
    for process in psutil.process_iter(["cmdline"]):
        found += f"ServeReplica:{application}" in " ".join(process.info["cmdline"] or [])
    return found


def measure(url: str, application: str, trace: Trace, seed: int) -> dict[str, float]:
    """Sends one trace and gives SLO misses, requests, p99 and replica-seconds."""
    image = np.random.default_rng(seed).random((1, 28, 28), dtype=np.float32)
    load = Load(url, lambda _: (image, 0), trace[0][1], seed=seed, timeout_seconds=30)
    begin = time.monotonic()
    with ReplicaSeconds(application) as counted:
        load.start()
        while (elapsed := time.monotonic() - begin) < trace[-1][0]:
            load.rate = play(trace, elapsed)
            time.sleep(0.05)
        load.stop()
    answered = [request.latency_seconds for request in load.requests if request.ok]
    if not answered:
        raise RuntimeError(f"{application} at {url} answered none of {len(load.requests)} requests: it was not measured")
    late = sum(not request.ok or request.latency_seconds > SLO_SECONDS for request in load.requests)
    return {
        "requests": float(len(load.requests)),
        "missed": float(late),
        "lost": float(sum(not request.ok for request in load.requests)),
        "p99_seconds": quantile(answered, 0.99),
        "replica_seconds": counted.total,
        "lag_p99_seconds": quantile([request.lag_seconds for request in load.requests], 0.99),
    }


class Ours:
    """Our arm: the service with the two strategies."""

    def __init__(self, api: Api, front: str, model: str) -> None:
        self._api = api
        self._url = f"{front}/{TARGET}/v2/models/digit/infer"
        self._document = service_document(
            "autoscaling",
            "digit",
            model,
            device_time=f"{DEVICE_SECONDS * 1000:g}ms",
            timeout="30s",
            replicas={"min": 1, "max": MAX_REPLICAS},
        )

    def __call__(self, trace: Trace, seed: int) -> Mapping[str, float]:
        self._deploy(strategies())
        time.sleep(5)
        try:
            return measure(self._url, "autoscaling--digit--champion", trace, seed)
        finally:
            self._delete()

    def startup_seconds(self) -> float:
        """From the call to a second replica in service."""
        self._deploy([])
        begin = time.monotonic()
        self._act("rescale", TARGET, {"to": 2})
        wait_for(lambda: self._api.ready(TARGET) == 2, "two replicas", 60, 0.02)
        elapsed = time.monotonic() - begin
        self._delete()
        return elapsed

    def _deploy(self, strategies: list[dict[str, Any]]) -> None:
        self._api.post("planner", "/v1/apply", {"documents": [self._document, *strategies]})
        self._settle()
        if not self._api.service(TARGET).roles:
            # what was applied before and deleted by hand is not deployed by being applied again
            self._act("deploy", "autoscaling", {})
        wait_for(lambda: self._api.ready(TARGET) == 1, "the service", 120)
        self._settle()

    def _delete(self) -> None:
        self._settle()
        self._act("delete", "autoscaling", {})
        wait_for(lambda: count_replicas("autoscaling--digit--champion") == 0, "the end of the replicas", 60)
        self._settle()

    def _act(self, primitive: str, target: str, args: dict[str, Any]) -> None:
        record = self._api.post("planner", f"/v1/primitives/{primitive}", {"target": target, "args": args})
        if not record["plan"]:
            raise RuntimeError(f"{primitive} of {target} was not planned: {record}")

    def _settle(self) -> None:
        wait_for(lambda: all(plan["phase"] in ENDED for plan in self._api.plans()), "the end of every plan", 60)


class ServeAlone:
    """One arm of Ray Serve's autoscaler, on a cluster of its own."""

    def __init__(self, cluster: RayCluster, home: Path, settings: str) -> None:
        self._cluster = cluster
        self._log = home / f"serve-{settings}.log"
        self._settings = settings

    def __call__(self, trace: Trace, seed: int) -> Mapping[str, float]:
        port = free_port()
        self._log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.autoscaling.serve_app"]
        process: subprocess.Popen[bytes] = start_process(
            [*command, self._cluster.address, str(port), self._settings, str(DEVICE_SECONDS)], self._log, env=self._cluster.env
        )
        try:
            wait_until(lambda: b"ready" in self._log.read_bytes(), "Ray Serve", 120, self._log, process)
            time.sleep(4)
            return measure(f"http://127.0.0.1:{port}/digit", APP, trace, seed)
        finally:
            stop_process(process, grace_seconds=60)
            wait_for(lambda: count_replicas(APP) == 0, "the end of the replicas", 60)


def bound(trace: Trace, startup_seconds: float, standby: int, seed: int) -> tuple[float, float]:
    """(missed, replica-seconds) of a queue that is scaled at the very moment the rate changes, to what the rate needs."""
    simulated = SimulatedLoad(rate=trace, service_seconds=1 / PER_REPLICA, startup_seconds=startup_seconds, timeout_seconds=30, seed=seed)
    line = Line(wanted=1, standby=standby, slots=1)
    line.start(-startup_seconds, startup_seconds)
    service = QueueingService(simulated, 0.0, {"champion": line}, {"champion": 100})
    service.late_seconds = SLO_SECONDS
    for start, rate in trace:
        service.advance(start)
        service.rescale("champion", max(1, min(MAX_REPLICAS, -int(-rate // PER_REPLICA))))
    return float(service.late + service.lost), service.replica_seconds


def run(report: Report, results: Path, seeds: int) -> list[Claim]:
    """Measures all arms on all traces and returns the claims."""
    home = Path(tempfile.mkdtemp(prefix="autonomic-autoscaling-"))
    system = System(home / "ours", cpus=4, metrics_interval="500ms")
    settings = system.start()
    api = Api(settings)
    cluster: RayCluster | None = None
    try:
        cluster = RayCluster.start(home / "serve", cpus=4)
        model = save_random_classifier(home / "model")
        ours = Ours(api, settings.front_url, model)
        startup = bootstrap([ours.startup_seconds() for _ in range(3)])
        arms = {"ours": ours, **{f"Serve, {name}": ServeAlone(cluster, home, name) for name in SETTINGS}}
        rows = {
            name: run_interleaved(
                f"autoscaling/{name}",
                {arm: (lambda seed, measure_arm=function, trace=trace: measure_arm(trace, seed)) for arm, function in arms.items()},
                range(seeds),
                results,
            )
            for name, trace in TRACES.items()
        }
    finally:
        api.close()
        system.stop()
        if cluster is not None:
            cluster.stop()
    return _report(report, rows, startup, seeds)


def _report(report: Report, rows: Mapping[str, list[dict[str, Any]]], startup: Interval, seeds: int) -> list[Claim]:
    report.heading("Autoscaling")
    report.text(" ".join((__doc__ or "").split()))
    report.text(f"Start-up of a replica, from the call to its first request: {startup} s. SLO: {SLO_SECONDS * 1000:.0f} ms.")
    claims: list[Claim] = []
    figure, axes = plt.subplots(1, len(rows), figsize=(10, 3.2))
    for axis, (name, measured) in zip(np.atleast_1d(axes), rows.items(), strict=True):
        missed, seconds = by_arm(measured, "missed"), by_arm(measured, "replica_seconds")
        bounds = {f"bound, {count} standby": [bound(TRACES[name], startup.mean, count, seed) for seed in range(seeds)] for count in (0, 1)}
        for arm, found in bounds.items():
            missed[arm], seconds[arm] = bootstrap([late for late, _ in found]), bootstrap([used for _, used in found])
        for arm in missed:
            axis.errorbar(
                seconds[arm].mean,
                missed[arm].mean,
                xerr=[[seconds[arm].mean - seconds[arm].low], [seconds[arm].high - seconds[arm].mean]],
                yerr=[[missed[arm].mean - missed[arm].low], [missed[arm].high - missed[arm].mean]],
                fmt="o" if not arm.startswith("bound") else "x",
                label=arm,
            )
        axis.set(title=name, xlabel="replica-seconds", ylabel=f"requests over {SLO_SECONDS * 1000:.0f} ms")
        axis.legend(frameon=False, fontsize=7)
        requests = by_arm(measured, "requests")
        report.table(
            ["trace", "arm", "requests", "missed the SLO", "replica-seconds"],
            [[name, arm, requests[arm].mean if arm in requests else "", missed[arm], seconds[arm]] for arm in missed],
        )
        for theirs in ("Serve, default", "Serve, tuned"):
            claims.append(
                Claim(
                    "autoscaling",
                    f"{name}: ours misses the SLO less often than {theirs}",
                    f"{missed['ours']} against {missed[theirs]} requests, {seconds['ours']} against {seconds[theirs]} replica-seconds",
                    missed["ours"].high < missed[theirs].low,
                )
            )
    report.figure(figure, "Mean and bootstrap interval of 95 % over the seeds; down and to the left is better.")
    report.claims(claims)
    return claims
