"""kill -9 of the planner at random moments, while plans run against a platform that outlives it."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest

from autonomic.agents.auth import Tokens
from autonomic.agents.journal import SqlJournal
from autonomic.agents.settings import Settings
from autonomic.seams.runner import ENDED
from autonomic.workflows.processes import free_port

MOST_KILLS = 25
EVENTS_PER_KILL = 4
PATIENCE_SECONDS = 150.0
"""For a planner to come back on a machine that is overloaded."""
API_VERSION = "autonomic.dev/v1alpha1"
WORLD = Path(__file__).parent.parent / "support" / "planner_world.py"


class Planner:
    """A planner process that can be killed and started again, and its world."""

    def __init__(self, home: Path) -> None:
        world, planner, tuner = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
        Settings(home=home, monitor_url=world, planner_url=planner, tuner_url=tuner, host_url=world).save()
        self.home, self.world_url = home, world
        token = Tokens.load(home / "tokens.json")["admin"]
        self.client = httpx.Client(base_url=planner, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False)
        self.world = httpx.Client(base_url=world, timeout=60, trust_env=False)
        self.processes = [subprocess.Popen([sys.executable, str(WORLD), world.rpartition(":")[2], "x"])]
        self.start()

    def start(self) -> None:
        with (self.home / "planner.log").open("ab") as log:
            environment = {**os.environ, "AUTONOMIC_HOME": str(self.home)}
            self.process = subprocess.Popen([sys.executable, "-m", "autonomic.agents.planner"], env=environment, stderr=log)
        self.processes.append(self.process)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """An answer, asked for again while the planner is away."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = self.client.request(method, path, **options)
                if answer.status_code != 503:
                    return answer
            except httpx.HTTPError:
                pass
            assert time.monotonic() < end, (self.home / "planner.log").read_text()[-3000:]
            time.sleep(0.02)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.client.close()
        self.world.close()


def documents(count: int) -> list[dict[str, Any]]:
    services = [{"name": f"s{number}", "model": "models:/m/1", "replicas": {"min": 1, "max": 9}} for number in range(count)]
    workflow = {
        "apiVersion": API_VERSION,
        "kind": "Workflow",
        "metadata": {"name": "web"},
        "spec": {"type": "online", "services": services},
    }
    strategies = [
        {
            "apiVersion": API_VERSION,
            "kind": "Strategy",
            "metadata": {"name": f"grow-{number}"},
            "spec": {
                "target": f"web/s{number}",
                "on": {"call": True},
                "readings": {"load": {"promql": "load"}},
                "when": "load > 0.5",
                "do": [{"rescale": {"by": 1}}, {"reroute": {"canary": "10%"}}, {"notify": {"message": f"s{number} has grown"}}],
                "verify": {"that": "load < 2", "within": "60s"},
                "guard": {"autonomy": "auto"},
                "expires": "5m",
            },
        }
        for number in range(count)
    ]
    return [workflow, *strategies]


def fired(number: int) -> dict[str, Any]:
    now = time.time()
    data = {"id": f"e{number}", "source": "monitor", "strategy": f"grow-{number}", "trigger": "when", "target": f"web/s{number}"}
    event = {"specversion": "1.0", "id": f"e{number}", "source": "monitor", "type": "dev.autonomic.trigger.fired"}
    return {**event, "data": {**data, "observed_at": now, "expires_at": now + 300}}


@pytest.mark.timeout(1800)
def test_kills_of_the_planner_lose_no_plan_and_double_no_effect(chaos: Any, tmp_path: Path) -> None:
    started_at = time.monotonic()
    draw, kill = chaos.draws(), 0
    planner = Planner(tmp_path)
    try:
        assert planner.ask("POST", "/v1/apply", json={"documents": documents(MOST_KILLS * EVENTS_PER_KILL)}).status_code == 200
        while planner.ask("GET", "/v1/plans").json()["items"][0]["phase"] not in ENDED:
            time.sleep(0.05)
        planner.world.post("/world", json={"delay_seconds": 0.03, "readings": {"load": 1.0}})
        open_at_kill, recoveries = [], []
        while chaos.goes_on(kill, MOST_KILLS, hits=any(open_at_kill)):
            for number in range(kill * EVENTS_PER_KILL, (kill + 1) * EVENTS_PER_KILL):
                # an event that is sent until it is accepted comes twice where only the answer was lost
                answer = planner.ask("POST", "/v1/events", json=fired(number))
                assert answer.status_code == 202, answer.text
            time.sleep(draw.uniform(0, 0.3))
            planner.kill()
            journal = SqlJournal(f"sqlite:///{tmp_path}/planner.db")
            open_at_kill.append(len(journal.states("plan-open/")) + len(journal.states("inbox/")))
            journal.close()
            killed_at = time.monotonic()
            planner.start()
            while open_at_kill[-1]:
                waiting = planner.ask("GET", "/readyz")
                plans = planner.ask("GET", "/v1/plans", params={"limit": 1000}).json()["items"]
                if (
                    waiting.status_code == 200
                    and len(plans) > (kill + 1) * EVENTS_PER_KILL
                    and all(plan["phase"] in ENDED for plan in plans)
                ):
                    recoveries.append(time.monotonic() - killed_at)
                    break
                assert time.monotonic() - killed_at < PATIENCE_SECONDS, [plan for plan in plans if plan["phase"] not in ENDED]
                time.sleep(0.05)
            kill += 1
        count = kill * EVENTS_PER_KILL
        plans = planner.ask("GET", "/v1/plans", params={"limit": 1000}).json()["items"]
        events = planner.ask("GET", "/v1/events", params={"limit": 1000}).json()["items"]
        world = planner.world.get("/world").json()
    finally:
        planner.stop()
    grown = [state["service"]["roles"]["champion"]["wanted"] for target, state in world["states"].items() if "/" in target]
    messages = Counter(event["data"]["message"] for event in events if event["kind"] == "notification")
    doubled = sum(effects - 1 for effects in world["effects"].values())
    print(
        f"\n{kill} kills, {sum(map(bool, open_at_kill))} with work open ({sum(open_at_kill)} plans and events in all);"
        f" {len(plans) - 1} plans of {count} events, {sum(plan['phase'] == 'verified' for plan in plans)} verified;"
        f" {sum(world['effects'].values()) - 1} effects, {doubled} doubled; {len(world['refused'])} refused;"
        f" kill to all plans ended: median {median(recoveries):.2f} s, max {max(recoveries):.2f} s;"
        f" {time.monotonic() - started_at:.0f} s in all"
    )
    assert any(open_at_kill), "no kill came while something was under way"
    assert len(plans) == count + 1
    assert Counter(plan["phase"] for plan in plans) == {"verified": count, "kept": 1}
    assert [wanted for wanted in grown if wanted != 1] == [2] * count
    assert doubled == 0
    assert sum(world["effects"].values()) == 2 * count + 1
    assert messages == {f"s{number} has grown": 1 for number in range(count)}
    assert world["refused"] == []
