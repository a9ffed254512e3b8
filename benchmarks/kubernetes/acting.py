"""From a call, and from a sample that meets a condition, to the API server; and a rescale to Ready against `kubectl scale`.

When the API server got a request and when it had answered is read from its audit log. A rescale is called at the planner's
REST interface, so that gate, journal and plan lie between; the clock of `kubectl scale` starts with its process. The pairs
scale two Deployments with the same pods from 1 to 2 replicas, one after the other, in an order that changes by chance. The
samples of the breaches stand in a pod's /metrics, which the strategy scrapes ten times a second; the clock starts when the pod
exposes the sample, so that the wait for the next scrape is included.
"""

import json
import random
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import matplotlib.pyplot as plt
import numpy as np

from autonomic.cli.embedded.kubernetes.supervisor import Options
from autonomic.platforms.kubernetes.objects.api import DEPLOYMENTS, PODS
from autonomic.platforms.kubernetes.objects.api import Api as KubernetesApi
from autonomic.platforms.kubernetes.objects.watch import Object, Watch
from autonomic.seams.runner import ENDED
from benchmarks.claims import Claim
from benchmarks.demo.api import wait_for
from benchmarks.harness import read_rows, run_interleaved
from benchmarks.kubernetes.audit import Asked
from benchmarks.kubernetes.world import NAMESPACE, World
from benchmarks.load import quantile
from benchmarks.report import Report
from benchmarks.services import service_document

PAIRS = 55
BREACHES = 110
CALL_SECONDS = 0.05
REACTION_SECONDS = 0.25
RATIO = 1.05
TARGET = "acting/api"
TWIN = "twin"
PART = "kubernetes"


class Ready:
    """Hears from the cluster when Deployments have how many ready replicas."""

    def __init__(self, world: World) -> None:
        settings = world.settings.model_copy(update={"kubeconfig": str(world.cluster.kubeconfig)})
        self._api = KubernetesApi(settings)
        self._counts: dict[str, tuple[int, int]] = {}
        self._ending: set[str] = set()
        self._changed = threading.Condition()
        self._watches = (Watch(self._api, DEPLOYMENTS, "", self._heard), Watch(self._api, PODS, "", self._heard_pod))
        for watch in self._watches:
            watch.start()

    def wait(self, name: str, replicas: int, within_seconds: float = 60) -> float:
        """When a Deployment had no more and no less pods than so many, and all of them were ready."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._counts.get(name) == (replicas, replicas), within_seconds):
                raise TimeoutError(f"{name} had {self._counts.get(name)} (pods, ready ones) and not {replicas} within {within_seconds:g} s")
            return time.time()

    def wait_calm(self, within_seconds: float = 60) -> None:
        """Returns when the last pod that was told to end is gone."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._ending, within_seconds):
                raise TimeoutError(f"{', '.join(self._ending)} did not end within {within_seconds:g} s")

    def close(self) -> None:
        """Ends the watches."""
        for watch in self._watches:
            watch.close()
        self._api.close()

    def _heard_pod(self, before: Object | None, now: Object | None) -> None:
        with self._changed:
            if now is not None and now["metadata"].get("deletionTimestamp"):
                self._ending.add(now["metadata"]["name"])
            elif now is None and before is not None:
                self._ending.discard(before["metadata"]["name"])
            self._changed.notify_all()

    def _heard(self, before: Object | None, now: Object | None) -> None:
        if now is not None:
            status = now.get("status", {})
            with self._changed:
                self._counts[now["metadata"]["name"]] = (status.get("replicas", 0), status.get("readyReplicas", 0))
                self._changed.notify_all()


class Acting:
    """The service, its twin, and how each is scaled."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ready = Ready(world)
        document = service_document("acting", "api", world.model, replicas={"min": 1, "max": 2})
        world.apply(document)
        wait_for(lambda: world.api.ready(TARGET) == 1, "the service", 120)
        (found,) = json.loads(world.kubectl("get", "deployments", f"--namespace={NAMESPACE}", "-o", "json"))["items"]
        self.name: str = found["metadata"]["name"]
        world.kubectl("create", "-f", "-", text=json.dumps(twin(found)))
        self._ready.wait(TWIN, 1)

    def close(self) -> None:
        """Ends the watch."""
        self._ready.close()

    def ours(self, _: int) -> Mapping[str, float]:
        """Seconds from the call to the API server's answer and to Ready."""
        self._world.audit.read()
        began = time.time()
        self._world.rescale(TARGET, 2)
        ready = self._ready.wait(self.name, 2)
        accepted = self._world.audit.wait(self._is_write(self.name))
        started = wait_for(lambda: self._started(began), "the outcome", 20)
        self._world.rescale(TARGET, 1)
        self._settle(self.name)
        return {
            "ready_seconds": ready - began,
            "accepted_seconds": accepted.answered_at - began,
            "host_seconds": accepted.answered_at - started,
        }

    def theirs(self, _: int) -> Mapping[str, float]:
        """Seconds from the start of `kubectl scale` to the API server's answer and to Ready."""
        scale = ("scale", f"deployment/{TWIN}", f"--namespace={NAMESPACE}")
        self._world.audit.read()
        began = time.time()
        self._world.kubectl(*scale, "--replicas=2")
        ready = self._ready.wait(TWIN, 2)
        accepted = self._world.audit.wait(self._is_write(f"{TWIN}/scale"))
        self._world.kubectl(*scale, "--replicas=1")
        self._settle(TWIN)
        return {"ready_seconds": ready - began, "accepted_seconds": accepted.answered_at - began}

    def breach(self, seed: int) -> Mapping[str, float]:
        """Seconds from a sample that meets the condition to the API server being asked; every other breach scales in."""
        pod = min(self._world.api.host.scrape_targets(), key=lambda each: self._age(each))["targets"][0]
        time.sleep(random.Random(seed).uniform(0.3, 0.8))
        self._world.audit.read()
        answer = httpx.post(f"http://{pod}/pressure", content="0" if seed % 2 else "10", trust_env=False)
        exposed = answer.raise_for_status().json()["exposed_at"]
        asked = self._world.audit.wait(self._is_write(self.name))
        self._settle(self.name, 1 if seed % 2 else 2)
        return {"reaction_seconds": asked.received_at - exposed}

    def _age(self, group: dict[str, Any]) -> float:
        found = json.loads(self._world.kubectl("get", "pod", group["labels"]["replica"], f"--namespace={NAMESPACE}", "-o", "json"))
        return found["metadata"]["creationTimestamp"]

    def _started(self, since: float) -> float | None:
        for plan in self._world.api.plans():
            if plan["plan"]["created_at"] >= since and plan["outcomes"]:
                return plan["outcomes"][0]["started_at"]
        return None

    def _settle(self, name: str, replicas: int = 1) -> None:
        # a repetition begins when nothing is under way of the one before
        self._ready.wait(name, replicas)
        self._ready.wait_calm()
        wait_for(lambda: all(plan["phase"] in ENDED for plan in self._world.api.plans()[:5]), "the end of every plan", 60)

    def _is_write(self, name: str) -> Callable[[Asked], bool]:
        return lambda asked: (asked.verb, asked.resource, asked.name) == ("patch", "deployments", name) and asked.code == 200


def twin(deployment: dict[str, Any]) -> dict[str, Any]:
    """A Deployment with the same pods that nobody but kubectl scales."""
    spec = deployment["spec"]
    own = {"app": TWIN}
    pod = {**spec["template"]["spec"]}
    spread = [{**each, "labelSelector": {"matchLabels": own}} for each in pod["topologySpreadConstraints"]]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": TWIN, "namespace": NAMESPACE, "labels": own},
        "spec": {
            **{key: spec[key] for key in ("replicas", "revisionHistoryLimit", "strategy")},
            "selector": {"matchLabels": own},
            "template": {"metadata": {"labels": own}, "spec": {**pod, "topologySpreadConstraints": spread}},
        },
    }


def strategies() -> list[dict[str, Any]]:
    """Out where the pressure is high, in where it is low; looked at ten times a second."""
    readings = {"pressure": {"scrape": {"metric": "benchmark_pressure", "aggregate": "max"}}, "wanted": {"platform": "wanted_replicas"}}
    return [
        {
            "apiVersion": "autonomic.dev/v1alpha1",
            "kind": "Strategy",
            "metadata": {"name": name},
            "spec": {
                "target": TARGET,
                "on": {"every": "100ms"},
                "readings": readings,
                "when": when,
                "do": [{"rescale": {"to": to}}],
                "guard": {"autonomy": "auto"},
            },
        }
        for name, when, to in (("out", "pressure > 5 && wanted < 2", 2), ("in", "pressure < 1 && wanted > 1", 1))
    ]


def run(report: Report, results: Path, seeds: int) -> list[Claim]:
    """Measures on a cluster and a system of its own and returns the claims."""
    return measure(report, results, PAIRS, BREACHES)


def measure(report: Report, results: Path, pairs: int, breaches: int) -> list[Claim]:
    """`run` with other numbers of repetitions."""
    known = len(read_rows(results))
    if known < 2 * pairs + breaches:
        home = Path(tempfile.mkdtemp(prefix="autonomic-kubernetes-"))
        with World(home, Options()) as world:
            acting = Acting(world)
            try:
                called, reacted = _rows(results, pairs, breaches, acting, lambda: world.apply(*strategies()))
            finally:
                acting.close()
    else:
        called, reacted = _rows(results, pairs, breaches, None, lambda: None)
    return _report(report, called, reacted)


def _rows(
    results: Path, pairs: int, breaches: int, acting: Acting | None, before_breaches: Callable[[], None]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    def arm(name: str) -> Callable[[int], Mapping[str, float]]:
        return lambda seed: getattr(acting, name)(seed)

    called = run_interleaved(f"{PART}/rescale", {"ours": arm("ours"), "kubectl scale": arm("theirs")}, range(pairs), results)
    before_breaches()
    return called, run_interleaved(f"{PART}/reaction", {"ours": arm("breach")}, range(breaches), results)


def ratio(ours: list[float], theirs: list[float], resamples: int = 2000) -> tuple[float, float, float]:
    """The ratio of the means of pairs and its bootstrap interval of 95 %, the pairs drawn together (Efron 1979)."""
    mine, other = np.asarray(ours), np.asarray(theirs)
    drawn = np.random.default_rng(0).integers(0, len(mine), (resamples, len(mine)))
    ratios = mine[drawn].mean(axis=1) / other[drawn].mean(axis=1)
    return float(mine.mean() / other.mean()), float(np.quantile(ratios, 0.025)), float(np.quantile(ratios, 0.975))


def _report(report: Report, called: list[dict[str, Any]], reacted: list[dict[str, Any]]) -> list[Claim]:
    report.heading("Kubernetes: acting")
    report.text(" ".join((__doc__ or "").split()))

    def of(arm: str, figure: str) -> list[float]:
        return [row[figure] for row in called if row["arm"] == arm]

    reactions = [row["reaction_seconds"] for row in reacted]
    series = {
        "ours: call to accepted": of("ours", "accepted_seconds"),
        "ours: host's start to accepted": of("ours", "host_seconds"),
        "kubectl scale: start to accepted": of("kubectl scale", "accepted_seconds"),
        "ours: call to Ready": of("ours", "ready_seconds"),
        "kubectl scale: start to Ready": of("kubectl scale", "ready_seconds"),
        "sample to API call": reactions,
    }
    report.table(
        ["what", "repetitions", "p50 (ms)", "p99 (ms)", "mean (ms)"],
        [
            [
                name,
                len(values),
                *(f"{1000 * value:.0f}" for value in (quantile(values, 0.5), quantile(values, 0.99), float(np.mean(values)))),
            ]
            for name, values in series.items()
        ],
    )
    figure, axes = plt.subplots(1, 3, figsize=(11, 2.8))
    for axis, names in zip(axes, (list(series)[:3], list(series)[3:5], list(series)[5:]), strict=True):
        for name in names:
            axis.plot(np.sort(np.asarray(series[name])) * 1000, np.linspace(0, 1, len(series[name])), drawstyle="steps-post", label=name)
        axis.set(xlabel="ms", ylabel="share")
        axis.legend(frameon=False, fontsize=7)
    report.figure(figure, "Distribution over the repetitions.")
    mine, other = series["ours: call to Ready"], series["kubectl scale: start to Ready"]
    mean, low, high = ratio(mine, other)
    accepted, reaction = quantile(series["ours: call to accepted"], 0.99), quantile(reactions, 0.99)
    claims = [
        Claim(
            PART,
            f"rescale called to API accepted: p99 <= {CALL_SECONDS * 1000:.0f} ms",
            f"p50 {quantile(series['ours: call to accepted'], 0.5) * 1000:.0f} ms, p99 {accepted * 1000:.0f} ms over {len(mine)}",
            accepted <= CALL_SECONDS,
        ),
        Claim(
            PART,
            f"rescale to Ready: <= {RATIO:g} x `kubectl scale` over at least 50 pairs",
            f"{mean:.3f} [{low:.3f}, {high:.3f}] over {len(mine)} pairs; {np.mean(mine):.2f} s against {np.mean(other):.2f} s",
            mean <= RATIO and len(mine) >= 50,
        ),
        Claim(
            PART,
            f"sample exposed to API call: p99 <= {REACTION_SECONDS * 1000:.0f} ms over at least 100 breaches",
            f"p50 {quantile(reactions, 0.5) * 1000:.0f} ms, p99 {reaction * 1000:.0f} ms over {len(reactions)}",
            reaction <= REACTION_SECONDS and len(reactions) >= 100,
        ),
    ]
    report.claims(claims)
    return claims
