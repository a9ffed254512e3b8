"""A burst fills the front's queue; the strategy sees it by `scrape` and reroutes; then everything is put back, again and again.

The clock starts when the burst is sent, so that the wait for the next scrape is included; it stops when the platform's
host begins the change. The event's hop from monitor to planner, the second reading, gate, plan and journal lie between.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import matplotlib.pyplot as plt
import numpy as np
from rich.progress import track

from autonomic.cli.system import System
from benchmarks.claims import Claim
from benchmarks.demo.api import Api, wait_for
from benchmarks.harness import bootstrap
from benchmarks.load import encode, quantile
from benchmarks.report import Report
from benchmarks.services import save_random_classifier, service_document

BREACHES = 110
SCALE_OUTS = 10
BURST = 12
DEVICE_SECONDS = 0.1
BOUND_SECONDS = 0.25
TARGET = "reaction/burst"


def strategy(action: dict[str, Any], name: str) -> dict[str, Any]:
    """Acts when more than five requests wait; evaluated ten times a second."""
    return {
        "apiVersion": "autonomic.dev/v1alpha1",
        "kind": "Strategy",
        "metadata": {"name": name},
        "spec": {
            "target": TARGET,
            "on": {"every": "100ms"},
            "readings": {"queued": {"scrape": {"metric": "autonomic_queue_requests", "labels": {"workflow": "reaction"}}}},
            "when": "queued > 5",
            "clear": "queued < 1",
            "do": [action],
            "guard": {"autonomy": "auto"},
        },
    }


def run(report: Report, results: Path, seeds: int) -> list[Claim]:
    """Measures on a system of its own and returns the claims."""
    home = Path(tempfile.mkdtemp(prefix="autonomic-reaction-"))
    system = System(home, cpus=4)
    settings = system.start()
    api = Api(settings)
    try:
        model = save_random_classifier(home / "model")
        document = service_document(
            "reaction", "burst", model, backup=model, device_time=f"{DEVICE_SECONDS * 1000:g}ms", replicas={"min": 1, "max": 2}
        )
        api.post("planner", "/v1/apply", {"documents": [document, strategy({"reroute": {"backup": "1%"}}, "react")]})
        wait_for(lambda: _ready(api), "the service", 120)
        url = f"{settings.front_url}/{TARGET}/v2/models/burst/infer"
        reactions = [_breach(api, url) for _ in track(range(BREACHES), "breaches")]
        api.post("planner", "/v1/apply", {"documents": [strategy({"rescale": {"to": 2}}, "react")]})
        scale_outs = [_scale_out(api, url) for _ in track(range(SCALE_OUTS), "1 to 2 replicas")]
    finally:
        api.close()
        system.stop()
    return _report(report, reactions, scale_outs)


def _ready(api: Api) -> bool:
    roles = api.service(TARGET).roles
    return len(roles) == 2 and all(role.ready == role.wanted for role in roles.values())


def _breach(api: Api, url: str) -> float:
    begin = time.time()
    asyncio.run(_burst(url))
    plan = wait_for(lambda: _done(api, "react", begin), "a reaction", 20)
    _quiet(api)
    api.post("planner", "/v1/primitives/reroute", {"target": TARGET, "args": {"champion": "100%"}})
    wait_for(lambda: api.service(TARGET).weights.get("backup", 0) == 0, "the weights put back", 20)
    time.sleep(0.35)
    return plan["outcomes"][0]["started_at"] - begin


def _scale_out(api: Api, url: str) -> float:
    begin = time.time()
    asyncio.run(_burst(url))
    wait_for(lambda: api.ready(TARGET) == 2, "two replicas", 60, 0.02)
    elapsed = time.time() - begin
    _quiet(api)
    api.post("planner", "/v1/primitives/rescale", {"target": TARGET, "args": {"to": 1}})
    wait_for(lambda: api.ready(TARGET) == 1, "one replica", 60)
    time.sleep(1.0)
    return elapsed


def _done(api: Api, name: str, since: float) -> dict[str, Any] | None:
    for plan in api.get("planner", "/v1/plans", limit=5)["items"]:
        if plan["plan"]["strategy"] == name and plan["plan"]["created_at"] >= since and plan["outcomes"]:
            return plan
    return None


def _quiet(api: Api) -> None:
    wait_for(lambda: api.service(TARGET).queued == 0, "an empty queue", 30)
    time.sleep(0.3)


async def _burst(url: str) -> None:
    body, headers = encode(np.zeros((1, 28, 28), dtype=np.float32))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def send() -> None:
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()

        await asyncio.gather(*(send() for _ in range(BURST)))


def _report(report: Report, reactions: list[float], scale_outs: list[float]) -> list[Claim]:
    report.heading("Reaction")
    report.text(" ".join((__doc__ or "").split()))
    figure, axis = plt.subplots(figsize=(8, 2.5))
    axis.plot(np.sort(np.asarray(reactions)) * 1000, np.linspace(0, 1, len(reactions)), drawstyle="steps-post")
    axis.axvline(BOUND_SECONDS * 1000, color="tab:red", linestyle="--", linewidth=1)
    axis.set_xlabel("ms from the condition to the platform call")
    axis.set_ylabel("share of breaches")
    report.figure(figure, f"{len(reactions)} breaches")
    p99 = quantile(reactions, 0.99)
    started = bootstrap(scale_outs)
    claims = [
        Claim(
            "reaction",
            f"condition to platform call: p99 <= {BOUND_SECONDS * 1000:.0f} ms over at least 100 breaches",
            f"p50 {quantile(reactions, 0.5) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms over {len(reactions)}",
            p99 <= BOUND_SECONDS and len(reactions) >= 100,
        ),
        Claim("reaction", "1 to 2 replicas in service: measured", f"{started} s over {len(scale_outs)}", len(scale_outs) == SCALE_OUTS),
    ]
    report.claims(claims)
    return claims
