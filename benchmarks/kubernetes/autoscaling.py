"""Step and burst on a CPU-bound service of 200m CPU a pod: requests that miss the SLO, and replica-seconds from the pod's making.

Ours against the horizontal pod autoscaler on CPU (80 %), the same on a custom metric, and KEDA, each with its defaults (a look
every 15 s, 5 minutes before it scales in; KEDA makes such an autoscaler itself), the same open-loop arrivals, interleaved in one run.
All have pods of one kind, the same front with its one queue before them, and, but for the CPU, the same metric from a Prometheus
that scrapes twice a second: replicas needed = (requests served a second + requests that wait / 3) / what a pod serves. The custom
metric is given to the autoscaler as an external one, by KEDA's metrics server, for another object than the one it scales.
"""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from autonomic.cli.embedded.kubernetes.supervisor import Options
from autonomic.cli.embedded.prometheus_server import PrometheusServer
from autonomic.platforms.kubernetes.facts import quantity
from autonomic.platforms.kubernetes.objects import pods
from autonomic.platforms.kubernetes.objects.api import PODS
from autonomic.platforms.kubernetes.objects.api import Api as KubernetesApi
from autonomic.platforms.kubernetes.objects.manifests import PORT
from autonomic.platforms.kubernetes.objects.watch import Object, Watch
from autonomic.seams.runner import ENDED
from autonomic.workflows.processes import free_port
from autonomic.workflows.serving.front import Front
from autonomic.workflows.serving.placement import FrontReplica, FrontService
from benchmarks.autoscaling.traces import Trace, play
from benchmarks.claims import Claim
from benchmarks.demo.api import wait_for
from benchmarks.harness import by_arm, run_interleaved
from benchmarks.kubernetes.acting import TWIN, twin
from benchmarks.kubernetes.world import NAMESPACE, World
from benchmarks.load import Load, quantile
from benchmarks.report import Report
from benchmarks.services import service_document

TRACES: dict[str, Trace] = {
    "step": ((0.0, 5.0), (5.0, 30.0), (55.0, 5.0), (65.0, 0.0)),
    "burst": ((0.0, 5.0), (5.0, 30.0), (20.0, 5.0), (35.0, 30.0), (50.0, 5.0), (60.0, 0.0)),
}
SLO_SECONDS = 0.5
WORK_SECONDS = 0.015
PER_REPLICA = 9.0
MAX_REPLICAS = 5
IDLE_CORES = 0.05
WANTED_SEEDS = 5
TARGET = "autoscaling/api"
PART = "kubernetes-autoscaling"
THEIRS = ("HPA on CPU", "HPA on a custom metric", "KEDA")
_METER = "meter"
_FIGURES = ("requests", "missed", "lost", "p99_seconds", "replica_seconds", "most_replicas")


def served(workflow: str, window: str) -> str:
    """Requests served a second, as Prometheus is asked for it."""
    return f"sum(rate(benchmark_requests_total{{workflow='{workflow}'}}[{window}]))"


def needed(workflow: str, waiting: str) -> str:
    """How many replicas the load needs."""
    return f"({served(workflow, '3s')} + sum({waiting}) / 3) / {PER_REPLICA:g}"


def strategies() -> list[dict[str, Any]]:
    """Out at once to what the rate and the queue need; in when that was too much for 20 s, one replica at a time."""
    out = {
        "target": TARGET,
        "on": {"every": "250ms"},
        "readings": {
            "needed": {"promql": needed("autoscaling", "autonomic_queue_requests{workflow='autoscaling'}")},
            "queued": {"platform": "queued"},
            "wanted": {"platform": "wanted_replicas"},
        },
        "when": "queued > 2 && needed > wanted",
        "constraint": f"wanted < {MAX_REPLICAS}",
        "do": [{"rescale": {"require": {"reading": "needed", "per_replica": 1}}}],
        "guard": {"autonomy": "auto", "cooldown": "1s"},
    }
    back = {
        "target": TARGET,
        "on": {"every": "1s"},
        "readings": {
            "served": {"promql": served("autoscaling", "8s")},
            "queued": {"platform": "queued"},
            "wanted": {"platform": "wanted_replicas"},
        },
        "when": f"wanted > 1 && queued < 1 && served < {PER_REPLICA * 0.8:g} * (wanted - 1)",
        "for": "20s",
        "do": [{"rescale": {"by": -1}}],
        "guard": {"autonomy": "auto", "cooldown": "2s"},
    }
    return [
        {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Strategy", "metadata": {"name": name}, "spec": spec}
        for name, spec in (("scale-out", out), ("scale-in", back))
    ]


class Pods:
    """The pods with a label, as the cluster tells of them, and how long they were there together."""

    def __init__(self, api: KubernetesApi, selector: str, changed: Callable[[list[Object]], None] = lambda _: None) -> None:
        self._changed = changed
        self._watch = Watch(api, PODS, selector, lambda before, now: self._changed(list(self._watch.all().values())))
        self._watch.start()
        self.seconds = 0.0
        self.most = 0
        self._counted_at = time.monotonic()
        self._stop = threading.Event()
        self._counter = threading.Thread(target=self._count, daemon=True)
        self._counter.start()

    def settled(self, replicas: int) -> bool:
        """Whether there are so many, all ready, and none is still ending."""
        found = self._watch.all().values()
        return len(found) == replicas and all(pods.is_ready(pod) for pod in found)

    def close(self) -> None:
        """Ends the watch."""
        self._stop.set()
        self._watch.close()

    def _count(self) -> None:
        while not self._stop.wait(0.1):
            now = time.monotonic()
            count = len(self._watch.all())
            self.most = max(self.most, count)
            self.seconds += count * (now - self._counted_at)
            self._counted_at = now


class Beside:
    """What the others get that ours has of its own accord: a front that follows the pods, and a Prometheus that pods reach."""

    def __init__(self, world: World, home: Path, api: KubernetesApi) -> None:
        self._front = Front(home / "front")
        self._front.start()
        self._service = FrontService(workflow=TWIN, service="api", timeout_seconds=30, slots=2 * MAX_REPLICAS)
        self._targets: list[str] = []
        beside = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                return

            def do_GET(self) -> None:
                if self.path == "/sd":
                    kind, body = "application/json", json.dumps([{"targets": beside._targets, "labels": {"workflow": TWIN}}])
                else:
                    kind, body = "text/plain; version=0.0.4", f"benchmark_queue_requests {beside.queued()}\n"
                self.send_response(200)
                self.send_header("content-type", kind)
                self.end_headers()
                self.wfile.write(body.encode())

        port = free_port()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._prometheus = PrometheusServer.start(
            home / "prometheus",
            [
                {"job_name": "front", "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"workflow": TWIN}}]},
                {"job_name": "pods", "http_sd_configs": [{"url": f"http://127.0.0.1:{port}/sd", "refresh_interval": "1s"}]},
            ],
            interval="500ms",
            address=world.cluster.host_address,
        )
        self.prometheus_url = self._prometheus.url
        self.url = f"{self._front.url(TWIN, 'api')}/v2/models/api/infer"
        self.pods = Pods(api, f"app={TWIN}", self._heard)

    def queued(self) -> int:
        """Requests that wait in the front."""
        stats = self._front.stats_of(TWIN, "api")
        return 0 if stats is None else stats.queued

    def close(self) -> None:
        """Stops everything."""
        self.pods.close()
        self._prometheus.stop()
        self._server.shutdown()
        self._front.stop()

    def _heard(self, found: list[Object]) -> None:
        ready = [pod for pod in found if pods.is_ready(pod)]
        replicas = [
            FrontReplica.model_validate(
                {"id": pod["metadata"]["name"], "role": "champion", "address": pod["status"]["podIP"], "port": PORT}
            )
            for pod in sorted(ready, key=lambda pod: pod["metadata"]["creationTimestamp"])
        ]
        self._targets = [f"{replica.address}:{replica.port}" for replica in replicas]
        self._front.set_service(self._service, replicas)


class Arms:
    """The two services, and who scales them."""

    def __init__(self, world: World, home: Path) -> None:
        self._world = world
        self._made = 0
        self._api = KubernetesApi(world.settings.model_copy(update={"kubeconfig": str(world.cluster.kubeconfig)}))
        limits = {"default": {"cpu": "200m"}, "defaultRequest": {"cpu": "200m"}, "type": "Container"}
        self._create({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "cpu"}, "spec": {"limits": [limits]}})
        document = service_document("autoscaling", "api", world.model, timeout="30s", replicas={"min": 1, "max": MAX_REPLICAS})
        world.apply(document, *strategies())
        wait_for(lambda: world.api.ready(TARGET) == 1, "the service", 120)
        (found,) = json.loads(world.kubectl("get", "deployments", f"--namespace={NAMESPACE}", "-o", "json"))["items"]
        self._create(twin(found))
        self._create(_meter())
        self._ours = Pods(self._api, "autonomic.dev/workflow=autoscaling")
        self._beside = Beside(world, home, self._api)
        scaled = scaled_object(_METER, _METER, 1, self._beside.prometheus_url)
        self._create(scaled)
        wait_for(lambda: self._of("scaledobject", _METER, "Ready"), "KEDA's metrics", 120)

    def close(self) -> None:
        """Stops what was started here."""
        self._beside.close()
        self._ours.close()
        self._api.close()

    def ours(self, trace: Trace, seed: int) -> Mapping[str, float]:
        """The two strategies."""
        api = self._world.api
        wait_for(lambda: self._ours.settled(1), "one replica of ours", 120)
        try:
            return measure(f"{self._world.urls.front_url}/{TARGET}/v2/models/api/infer", self._ours, trace, seed)
        finally:
            wait_for(lambda: all(plan["phase"] in ENDED for plan in api.plans()[:5]), "the end of every plan", 60)
            if api.service(TARGET).roles["champion"].wanted > 1:
                self._world.rescale(TARGET, 1)
            wait_for(lambda: self._ours.settled(1), "one replica of ours", 120)

    def theirs(self, name: str, trace: Trace, seed: int) -> Mapping[str, float]:
        """Another autoscaler, made for this trace and deleted afterwards."""
        # an autoscaler that is made anew under its name goes by what its predecessor of that name found for five minutes
        self._made += 1
        own = f"{TWIN}-{self._made}"
        kind, document = {
            "HPA on CPU": ("hpa", autoscaler(own, _CPU)),
            "HPA on a custom metric": ("hpa", autoscaler(own, _CUSTOM)),
            "KEDA": ("scaledobject", scaled_object(own, TWIN, MAX_REPLICAS, self._beside.prometheus_url)),
        }[name]
        wait_for(lambda: self._beside.pods.settled(1) and self._at_rest(), "one replica of theirs at rest", 180, 1)
        self._create(document)
        try:
            hpa = f"keda-hpa-{own}" if kind == "scaledobject" else own
            wait_for(lambda: self._of("hpa", hpa, "ScalingActive"), f"{name} to know its metric", 180)
            return measure(self._beside.url, self._beside.pods, trace, seed)
        finally:
            inside = f"--namespace={NAMESPACE}"
            self._world.kubectl("delete", kind, own, inside, "--wait=true")
            self._world.kubectl("scale", f"deployment/{TWIN}", inside, "--replicas=1")
            wait_for(lambda: self._beside.pods.settled(1), "one replica of theirs", 120)

    def _create(self, document: dict[str, Any]) -> None:
        self._world.kubectl("create", f"--namespace={NAMESPACE}", "-f", "-", text=json.dumps(document))

    def _at_rest(self) -> bool:
        """Whether the metrics API has heard that the twin does nothing, so that no autoscaler begins with the load of the one before."""
        listed = self._world.kubectl("get", "--raw", f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D{TWIN}")
        found = json.loads(listed)["items"]
        used = [quantity(container["usage"]["cpu"]) for pod in found for container in pod["containers"]]
        return len(found) == 1 and sum(used) < IDLE_CORES

    def _of(self, kind: str, name: str, condition: str) -> bool:
        listed = self._world.kubectl("get", kind, f"--namespace={NAMESPACE}", "-o", "json")
        found = [each for each in json.loads(listed)["items"] if each["metadata"]["name"] == name]
        conditions = found[0].get("status", {}).get("conditions", []) if found else []
        return any(each["type"] == condition and each["status"] == "True" for each in conditions)


_CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
_CUSTOM = {
    "type": "External",
    "external": {
        "metric": {"name": "s0-prometheus", "selector": {"matchLabels": {"scaledobject.keda.sh/name": _METER}}},
        "target": {"type": "AverageValue", "averageValue": "1"},
    },
}


def autoscaler(name: str, metric: dict[str, Any]) -> dict[str, Any]:
    """A horizontal pod autoscaler of the twin, with nothing but its metric set."""
    of = {"apiVersion": "apps/v1", "kind": "Deployment", "name": TWIN}
    spec = {"scaleTargetRef": of, "minReplicas": 1, "maxReplicas": MAX_REPLICAS, "metrics": [metric]}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name}, "spec": spec}


def scaled_object(name: str, deployment: str, most: int, prometheus_url: str) -> dict[str, Any]:
    """An object that KEDA scales, with nothing but its metric set."""
    trigger = {"serverAddress": prometheus_url, "query": needed(TWIN, f"benchmark_queue_requests{{workflow='{TWIN}'}}"), "threshold": "1"}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"name": deployment},
            "minReplicaCount": 1,
            "maxReplicaCount": most,
            "triggers": [{"type": "prometheus", "metadata": trigger}],
        },
    }


def _meter() -> dict[str, Any]:
    # KEDA gives metrics of what it scales only: this is scaled from one to one
    container = {"name": "sleep", "image": "autonomic.local/busybox:1", "imagePullPolicy": "Never", "command": ["/bin/sleep", "86400"]}
    own = {"app": _METER}
    template = {"metadata": {"labels": own}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}
    spec = {"selector": {"matchLabels": own}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": _METER}, "spec": spec}


def measure(url: str, replicas: Pods, trace: Trace, seed: int) -> dict[str, float]:
    """Sends one trace and gives SLO misses, requests, p99 and replica-seconds.

    Raises:
        RuntimeError: nothing was answered.
    """
    image = np.zeros((1, 4), dtype=np.float32)
    load = Load(url, lambda _: (image, 0), trace[0][1], seed=seed, timeout_seconds=30)
    begin, before, replicas.most = time.monotonic(), replicas.seconds, 0
    load.start()
    while (elapsed := time.monotonic() - begin) < trace[-1][0]:
        load.rate = play(trace, elapsed)
        time.sleep(0.05)
    load.stop()
    answered = [request.latency_seconds for request in load.requests if request.ok]
    if not answered:
        raise RuntimeError(f"{url} answered none of {len(load.requests)} requests: it was not measured")
    return {
        "requests": float(len(load.requests)),
        "missed": float(sum(not request.ok or request.latency_seconds > SLO_SECONDS for request in load.requests)),
        "lost": float(sum(not request.ok for request in load.requests)),
        "p99_seconds": quantile(answered, 0.99),
        "replica_seconds": replicas.seconds - before,
        "most_replicas": float(replicas.most),
        "lag_p99_seconds": quantile([request.lag_seconds for request in load.requests], 0.99),
    }


def run(report: Report, results: Path, seeds: int) -> list[Claim]:
    """Measures all arms on all traces, on a cluster and a system of its own, and returns the claims."""
    home = Path(tempfile.mkdtemp(prefix="autonomic-kubernetes-autoscaling-"))
    options = Options(keda=True, usual_autoscaling=True)
    work = {"BENCHMARK_WORK_SECONDS": str(WORK_SECONDS)}
    with World(home, options, metrics_interval="500ms", env=work) as world:
        arms = Arms(world, home / "beside")
        try:
            rows = {
                name: run_interleaved(
                    f"{PART}/{name}",
                    {
                        "ours": lambda seed, trace=trace: arms.ours(trace, seed),
                        **{each: lambda seed, trace=trace, each=each: arms.theirs(each, trace, seed) for each in THEIRS},
                    },
                    range(seeds),
                    results,
                )
                for name, trace in TRACES.items()
            }
        finally:
            arms.close()
    return _report(report, rows, seeds)


def _report(report: Report, rows: Mapping[str, list[dict[str, Any]]], seeds: int) -> list[Claim]:
    report.heading("Kubernetes: autoscaling")
    report.text(" ".join((__doc__ or "").split()))
    few = (
        ""
        if seeds >= WANTED_SEEDS
        else f" These are fewer seeds than the {WANTED_SEEDS} that the intervals ask for: take them as a look only."
    )
    report.text(f"{seeds} seeds; SLO: {SLO_SECONDS * 1000:.0f} ms.{few}")
    claims: list[Claim] = []
    figure, axes = plt.subplots(1, len(rows), figsize=(10, 3.2))
    for axis, (name, measured) in zip(np.atleast_1d(axes), rows.items(), strict=True):
        figures = {each: by_arm(measured, each) for each in _FIGURES}
        missed, seconds = figures["missed"], figures["replica_seconds"]
        for arm in missed:
            axis.errorbar(
                seconds[arm].mean,
                missed[arm].mean,
                xerr=[[seconds[arm].mean - seconds[arm].low], [seconds[arm].high - seconds[arm].mean]],
                yerr=[[missed[arm].mean - missed[arm].low], [missed[arm].high - missed[arm].mean]],
                fmt="o",
                label=arm,
            )
        axis.set(title=name, xlabel="replica-seconds", ylabel=f"requests over {SLO_SECONDS * 1000:.0f} ms")
        axis.legend(frameon=False, fontsize=7)
        report.table(
            ["trace", "arm", "seeds", "requests", "missed the SLO", "lost", "p99 (s)", "replica-seconds", "most replicas"],
            [
                [name, arm, sum(row["arm"] == arm for row in measured), f"{figures['requests'][arm].mean:.0f}"]
                + [str(figures[each][arm]) for each in _FIGURES[1:]]
                for arm in missed
            ],
        )
        claims += [
            Claim(
                PART,
                f"{name}: ours misses the SLO less often than {theirs}",
                f"{missed['ours']} against {missed[theirs]} requests, {seconds['ours']} against {seconds[theirs]} replica-seconds, "
                f"{seeds} seeds",
                missed["ours"].high < missed[theirs].low,
            )
            for theirs in THEIRS
        ]
    report.figure(figure, "Mean and bootstrap interval of 95 % over the seeds; down and to the left is better.")
    report.claims(claims)
    return claims
