"""The agents' REST endpoints, as any user may call them."""

import time
from collections.abc import Callable
from typing import Any

import httpx

from autonomic.agents.auth import Tokens
from autonomic.agents.settings import Settings
from autonomic.platforms.host.client import HostPlatform
from autonomic.seams.errors import Retryable
from autonomic.seams.state import ServiceState


class Api:
    """Calls the agents with the admin token."""

    def __init__(self, settings: Settings) -> None:
        tokens = Tokens.load(settings.tokens_path)
        headers = {"Authorization": f"Bearer {tokens['admin']}"}
        self.monitor = httpx.Client(base_url=settings.monitor_url, headers=headers, timeout=30)
        self.planner = httpx.Client(base_url=settings.planner_url, headers=headers, timeout=60)
        self.tuner = httpx.Client(base_url=settings.tuner_url, headers=headers, timeout=30)
        self.host = HostPlatform(settings.host_url, tokens["host"])
        self._host = httpx.Client(base_url=settings.host_url, headers={"Authorization": f"Bearer {tokens['host']}"}, timeout=10)

    def get(self, agent: str, path: str, **params: Any) -> Any:
        """The JSON of a GET."""
        answer = getattr(self, agent).get(path, params=params)
        answer.raise_for_status()
        return answer.json()

    def post(self, agent: str, path: str, body: Any = None) -> Any:
        """The JSON of a POST."""
        answer = getattr(self, agent).post(path, json=body if body is not None else {})
        if answer.is_error:
            raise RuntimeError(f"POST {path} was answered {answer.status_code}: {answer.text}")
        return answer.json()

    def plans(self) -> list[dict[str, Any]]:
        """The status of all plans, the newest first."""
        return self.get("planner", "/v1/plans", limit=200)["items"]

    def decisions(self) -> list[dict[str, Any]]:
        """All decisions, the newest first."""
        return self.get("planner", "/v1/decisions", limit=200)["items"]

    def service(self, target: str) -> ServiceState:
        """A service as the platform sees it; without roles where there is none."""
        found = self.host.observe(target).service
        return found or ServiceState(roles={}, weights={}, min_replicas=0, max_replicas=0)

    def ready(self, target: str) -> int:
        """Replicas of the champion that answer."""
        champion = self.service(target).roles.get("champion")
        return champion.ready if champion else 0

    def replica_ports(self, target: str, role: str) -> set[int]:
        """The ports on which the replicas of a service's role answer."""
        workflow, _, service = target.partition("/")
        wanted = {"workflow": workflow, "service": service, "role": role}
        groups = self._host.get("/v1/sd").raise_for_status().json()
        found = [group["targets"] for group in groups if wanted.items() <= group["labels"].items()]
        return {int(address.rsplit(":", 1)[1]) for targets in found for address in targets}

    def close(self) -> None:
        """Closes the connections."""
        for client in (self.monitor, self.planner, self.tuner, self._host, self.host):
            client.close()


def wait_for(condition: Callable[[], Any], what: str, within_seconds: float, every_seconds: float = 0.25) -> Any:
    """Waits until `condition()` gives something true and returns it; what cannot be asked yet is asked again.

    Raises:
        TimeoutError: it did not within the time.
    """
    deadline = time.monotonic() + within_seconds
    while True:
        why = ""
        try:
            found = condition()
        except Retryable as later:
            found, why = None, f" ({later})"
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within_seconds:g} s{why}")
        time.sleep(every_seconds)
