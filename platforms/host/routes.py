"""The front as the host drives it: records in, HAProxy's services out."""

from typing import Any, Protocol

from autonomic.platforms.host.records import ReplicaRecord, ServiceRecord
from autonomic.seams.errors import Retryable
from autonomic.seams.word import Word
from autonomic.workflows.serving.front import Front, ServiceStats
from autonomic.workflows.serving.placement import FrontReplica, FrontService


class Load(Word):
    """A service at this moment: requests that wait, requests being served, and the replicas that fail the front's checks.

    `requests` counts those that came, whatever became of them; it begins anew where the front loads its configuration.
    """

    queued: int = 0
    in_flight: int = 0
    requests: int = 0
    down: frozenset[str] = frozenset()


class Routes(Protocol):
    """What sends the traffic to replicas."""

    def update(self, workflow: str, record: ServiceRecord, replicas: dict[str, list[ReplicaRecord]]) -> None:
        """Makes a service's weights and its replicas by role what they are here; others get nothing new."""
        ...

    def remove(self, workflow: str, service: str) -> None: ...

    def loads(self) -> dict[tuple[str, str], Load]:
        """The load by (workflow, service).

        Raises:
            Retryable: the front does not answer now.
        """
        ...

    def load(self, workflow: str, service: str) -> Load:
        """The load of one service, for which the others are not looked at.

        Raises:
            Retryable: the front does not know it yet, or does not answer.
        """
        ...

    def url(self, workflow: str, service: str) -> str:
        """Where requests for a service are sent."""
        ...


class FrontRoutes:
    """Routes through one front."""

    def __init__(self, front: Front) -> None:
        self.front = front

    def update(self, workflow: str, record: ServiceRecord, replicas: dict[str, list[ReplicaRecord]]) -> None:
        spec = record.spec
        service = FrontService.model_validate(
            {
                **self.manner(workflow, record),
                "workflow": workflow,
                "service": spec.name,
                "weights": record.weights,
                "max_in_flight": spec.max_in_flight,
                "timeout_seconds": spec.timeout,
                # two models at once while one takes over from the other
                "slots": 2 * (spec.replicas.max + spec.replicas.standby),
            }
        )
        self.front.set_service(
            service,
            [
                FrontReplica.model_validate({"id": replica.id, "role": role, "address": replica.host, "port": replica.port})
                for role, members in replicas.items()
                for replica in members
            ],
        )

    def manner(self, workflow: str, record: ServiceRecord) -> dict[str, Any]:
        """What the front is told of a service beside what follows from its record everywhere."""
        return {}

    def remove(self, workflow: str, service: str) -> None:
        self.front.remove_service(workflow, service)

    def loads(self) -> dict[tuple[str, str], Load]:
        return {key: _load(stats) for key, stats in self.front.stats().items()}

    def load(self, workflow: str, service: str) -> Load:
        stats = self.front.stats_of(workflow, service)
        if stats is None:
            raise Retryable(f"The front does not know {workflow}/{service} yet")
        return _load(stats)

    def url(self, workflow: str, service: str) -> str:
        return self.front.url(workflow, service)


def _load(stats: ServiceStats) -> Load:
    down = frozenset(server.id for server in stats.servers if server.state == "down")
    return Load(queued=stats.queued, in_flight=stats.in_flight, requests=stats.requests, down=down)
