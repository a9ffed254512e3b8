"""Start-up, memory and idle CPU of the three agents beside a running platform; events per second; ten thousand targets."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.progress import track

from autonomic.agents.auth import Tokens
from autonomic.agents.settings import Settings
from autonomic.cli.system import AGENTS, System
from benchmarks.claims import Claim
from benchmarks.overhead.exporter import Exporter
from benchmarks.report import Report

READY_SECONDS = 1.5
MEMORY_MIB = 400
IDLE_SECONDS = 30.0
EVENTS_PER_SECOND = 5000
EVENT_BATCHES = 40
BATCH = 1000
TARGETS = 10_000
CYCLES = 20
CYCLE_SECONDS = 15.0
MANY_TARGETS_MIB = 500
_MIB = 2**20


def run(report: Report, results: Path, seeds: int) -> list[Claim]:
    """Measures on a system of its own and returns the claims."""
    home = Path(tempfile.mkdtemp(prefix="autonomic-overhead-"))
    system = System(home, cpus=4)
    settings = system.start()
    try:
        claims = [*_start_up(system, settings, seeds), *_idle(system), _events(system, settings), *_many_targets(system, settings)]
    finally:
        system.stop()
    report.heading("Overhead")
    report.text(" ".join((__doc__ or "").split()))
    report.claims(claims)
    return claims


def _start_up(system: System, settings: Settings, repetitions: int) -> list[Claim]:
    times = [_restart(system, settings) for _ in track(range(repetitions), "start of the agents")]
    measured = f"median {sorted(times)[len(times) // 2]:.2f} s, worst {max(times):.2f} s of {len(times)} starts, all three at once"
    return [Claim("overhead", f"three agents ready <= {READY_SECONDS} s after start", measured, max(times) <= READY_SECONDS)]


def _restart(system: System, settings: Settings) -> float:
    processes = [psutil.Process(system.agent_pid(agent)) for agent in AGENTS]
    for process in processes:
        process.terminate()
    psutil.wait_procs(processes, timeout=30)
    deadline = time.monotonic() + 60
    with ThreadPoolExecutor(len(AGENTS)) as pool:
        ready = list(pool.map(lambda agent: _ready_at(getattr(settings, f"{agent}_url"), deadline), AGENTS))
    started = [psutil.Process(system.agent_pid(agent)).create_time() for agent in AGENTS]
    return max(at - begun for at, begun in zip(ready, started, strict=True))


def _ready_at(url: str, deadline: float) -> float:
    with httpx.Client(timeout=2) as client:
        while time.monotonic() < deadline:
            try:
                if client.get(f"{url}/readyz").status_code == 200:
                    return time.time()
            except httpx.HTTPError:
                pass
            time.sleep(0.02)
    raise TimeoutError(f"{url}/readyz did not answer 200")


def _idle(system: System) -> list[Claim]:
    time.sleep(10)
    processes = {agent: psutil.Process(system.agent_pid(agent)) for agent in AGENTS}
    before = {agent: sum(process.cpu_times()[:2]) for agent, process in processes.items()}
    time.sleep(IDLE_SECONDS)
    shares = {agent: (sum(process.cpu_times()[:2]) - before[agent]) / IDLE_SECONDS for agent, process in processes.items()}
    memory = {agent: process.memory_info().rss / _MIB for agent, process in processes.items()}
    together = sum(memory.values())
    host = _host_memory(system)
    sizes = ", ".join(f"{agent} {size:.0f}" for agent, size in memory.items())
    loads = ", ".join(f"{agent} {share:.2%}" for agent, share in shares.items())
    return [
        Claim(
            "overhead",
            f"three agents use <= {MEMORY_MIB} MiB together",
            f"{together:.0f} MiB ({sizes}); the Ray host beside them {host:.0f} MiB",
            together <= MEMORY_MIB,
        ),
        Claim("overhead", "idle: each < 1 % of a core", loads, max(shares.values()) < 0.01),
    ]


def _host_memory(system: System) -> float:
    for process in psutil.process_iter(["cmdline", "memory_info"]):
        if "RayHost" in " ".join(process.info["cmdline"] or []):
            return process.info["memory_info"].rss / _MIB
    return float("nan")


def _client(settings: Settings) -> httpx.Client:
    token = Tokens.load(settings.tokens_path)["admin"]
    return httpx.Client(base_url=settings.monitor_url, headers={"Authorization": f"Bearer {token}"}, timeout=60)


def _events(system: System, settings: Settings) -> Claim:
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    batches = [
        [
            {"specversion": "1.0", "id": f"{batch}-{n}", "source": "benchmark", "type": "example.tick", "data": {"value": n}}
            for n in range(BATCH)
        ]
        for batch in range(EVENT_BATCHES)
    ]
    with _client(settings) as client:
        begin = time.monotonic()
        for batch in batches:
            client.post("/v1/events", json=batch, headers=headers).raise_for_status()
        elapsed = time.monotonic() - begin
    rate = EVENT_BATCHES * BATCH / elapsed
    measured = f"{rate:.0f} events/s in batches of {BATCH}, each batch committed before it was answered"
    return Claim("overhead", f"events >= {EVENTS_PER_SECOND}/s in batches", measured, rate >= EVENTS_PER_SECOND)


def _many_targets(system: System, settings: Settings) -> list[Claim]:
    with Exporter(settings, TARGETS) as exporter:
        documents = [_watched(number) for number in range(TARGETS)]
        event = {"specversion": "1.0", "id": "many-targets", "source": "benchmark", "type": "dev.autonomic.specs.applied"}
        with _client(settings) as client:
            client.post("/v1/events", json={**event, "data": {"strategies": documents, "workflows": []}}).raise_for_status()
            time.sleep(2 * CYCLE_SECONDS)
            first = _evaluations(client)
            begin = time.monotonic()
            for _ in track(range(CYCLES), f"{TARGETS} targets, {CYCLES} cycles of {CYCLE_SECONDS:.0f} s"):
                time.sleep(CYCLE_SECONDS)
            elapsed = time.monotonic() - begin
            last = _evaluations(client)
        memory = psutil.Process(system.agent_pid("monitor")).memory_info().rss / _MIB
        expected = TARGETS * CYCLES
        done = round((last["evaluations"] - first["evaluations"]) * CYCLES * CYCLE_SECONDS / elapsed)
        missed = round(last["missed_cycles"] - first["missed_cycles"])
        claimed = f"{TARGETS} targets evaluated every {CYCLE_SECONDS:.0f} s, 0 missed in {CYCLES} cycles"
        measured = f"{done} of {expected} evaluations, {missed} missed; {exporter.scrapes} scrapes answered"
        return [
            Claim("overhead", claimed, measured, missed == 0 and done >= expected - TARGETS),
            Claim("overhead", f"with them the monitor uses <= {MANY_TARGETS_MIB} MiB", f"{memory:.0f} MiB", memory <= MANY_TARGETS_MIB),
        ]


def _evaluations(client: httpx.Client) -> dict[str, float]:
    found = {"evaluations": 0.0, "missed_cycles": 0.0}
    for line in client.get("/metrics").raise_for_status().text.splitlines():
        for name in found:
            if line.startswith(f"autonomic_{name}_total"):
                found[name] += float(line.rsplit(" ", 1)[1])
    return found


def _watched(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "autonomic.dev/v1alpha1",
        "kind": "Strategy",
        "metadata": {"name": f"watch-{number}"},
        "spec": {
            "target": f"target-{number}/api",
            "on": {"every": f"{CYCLE_SECONDS:.0f}s"},
            "readings": {"load": {"promql": f"max(benchmark_load{{target='{number}'}})"}},
            "when": "load > 2",
            "do": [{"rescale": {"by": 1}}],
        },
    }
