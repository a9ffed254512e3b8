"""A real planner and a real tuner over HTTP, with a world (host and monitor) that the test moves."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from autonomic.agents.auth import Tokens
from autonomic.agents.settings import Settings
from autonomic.workflows.processes import free_port

WORLD = Path(__file__).parents[2] / "support" / "planner_world.py"
API_VERSION = "autonomic.dev/v1alpha1"


class System:
    """Processes of one home, and clients with the admin's token."""

    def __init__(self, home: Path) -> None:
        self.home = home
        urls = [f"http://127.0.0.1:{free_port()}" for _ in range(3)]
        self.settings = Settings(home=home, monitor_url=urls[0], planner_url=urls[1], tuner_url=urls[2], host_url=urls[0])
        self.settings.save()
        self.tokens = Tokens.load(home / "tokens.json")
        self.world = httpx.Client(base_url=urls[0], timeout=60, trust_env=False)
        self.planner = self.client(urls[1], "admin")
        self.tuner = self.client(urls[2], "admin")
        self.processes: dict[str, subprocess.Popen[bytes]] = {
            "world": subprocess.Popen([sys.executable, str(WORLD), urls[0].rpartition(":")[2], "x"])
        }

    def client(self, url: str, scope: str) -> httpx.Client:
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {self.tokens[scope]}"}, timeout=60, trust_env=False)

    def start(self, agent: str, probe: str = "/readyz") -> None:
        log = (self.home / f"{agent}.log").open("ab")
        environment = {**os.environ, "AUTONOMIC_HOME": str(self.home)}
        self.processes[agent] = subprocess.Popen([sys.executable, "-m", f"autonomic.agents.{agent}"], env=environment, stderr=log)
        log.close()
        client = self.planner if agent == "planner" else self.tuner
        self.until(lambda: _answers(client, probe))

    def end(self, agent: str, *, kill: bool = False) -> int:
        process = self.processes.pop(agent)
        process.kill() if kill else process.terminate()
        return process.wait(60)

    def until(self, true: Callable[[], Any], seconds: float = 120) -> Any:
        end = time.monotonic() + seconds
        while not (value := true()):
            assert time.monotonic() < end, f"not true within {seconds} s"
            time.sleep(0.05)
        return value

    def put(self, **values: Any) -> None:
        self.world.post("/world", json=values)

    def see(self) -> dict[str, Any]:
        return self.world.get("/world").json()

    def get(self, path: str, **params: Any) -> Any:
        answer = self.planner.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def apply(self, *documents: dict[str, Any], **options: Any) -> dict[str, Any]:
        answer = self.planner.post("/v1/apply", json={"documents": documents, **options})
        assert answer.status_code == 200, answer.text
        for record in answer.json()["decisions"]:
            self.ended(record["plan"])
        return answer.json()

    def ended(self, plan: str) -> dict[str, Any]:
        def look() -> Any:
            status = self.get(f"/v1/plans/{plan}")
            return status if status["phase"] not in ("waiting", "applying", "verifying", "reverting") else None

        return self.until(look)

    def fire(self, strategy: str, target: str, identifier: str, **more: Any) -> httpx.Response:
        now = time.time()
        data = {"id": identifier, "source": "monitor", "strategy": strategy, "trigger": "when", "target": target}
        event = {"specversion": "1.0", "id": identifier, "source": "monitor", "type": "dev.autonomic.trigger.fired"}
        return self.planner.post("/v1/events", json={**event, "data": {**data, "observed_at": now, "expires_at": now + 300, **more}})

    def decided(self, identifier: str) -> dict[str, Any]:
        """The decision on an event."""

        def look() -> Any:
            found = [one for one in self.get("/v1/decisions", limit=1000)["items"] if one["event"]["id"] == identifier]
            return found[0] if found else None

        return self.until(look)


def _answers(client: httpx.Client, probe: str) -> bool:
    try:
        return client.get(probe).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    made = System(tmp_path_factory.mktemp("home"))
    made.until(lambda: _world_answers(made))
    made.start("planner")
    made.start("tuner")
    yield made
    for process in made.processes.values():
        process.kill()
        process.wait()
    for client in (made.world, made.planner, made.tuner):
        client.close()


def _world_answers(system: System) -> bool:
    try:
        return system.world.get("/world").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def online() -> Callable[..., dict[str, Any]]:
    def make(name: str, services: int = 1, maximum: int = 9) -> dict[str, Any]:
        made = [{"name": f"s{number}", "model": "models:/m/1", "replicas": {"min": 1, "max": maximum}} for number in range(services)]
        spec = {"type": "online", "services": made}
        return {"apiVersion": API_VERSION, "kind": "Workflow", "metadata": {"name": name}, "spec": spec}

    return make


@pytest.fixture
def batch() -> Callable[..., dict[str, Any]]:
    def make(name: str, **parameters: Any) -> dict[str, Any]:
        spec = {"type": "batch", "parameters": parameters, "steps": [{"name": "train", "command": ["true"]}]}
        return {"apiVersion": API_VERSION, "kind": "Workflow", "metadata": {"name": name}, "spec": spec}

    return make


@pytest.fixture
def grow() -> Callable[..., dict[str, Any]]:
    def make(name: str, target: str, **more: Any) -> dict[str, Any]:
        spec = {
            "target": target,
            "on": {"call": True},
            "readings": {"load": {"promql": "load"}},
            "when": "load > 0.5",
            "do": [{"rescale": {"by": 1}}],
            "guard": {"autonomy": "auto"},
            **more,
        }
        return {"apiVersion": API_VERSION, "kind": "Strategy", "metadata": {"name": name}, "spec": spec}

    return make
