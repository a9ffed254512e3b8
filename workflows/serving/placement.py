"""Which replica stands in which slot of the front, and how much traffic each gets. Pure."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal

from pydantic import Field

from autonomic.seams.state import Role
from autonomic.seams.word import Word

MAX_WEIGHT = 256


class FrontReplica(Word):
    """A replica as the front sees it. `state` "drain" finishes what it has and gets nothing new."""

    id: str
    role: Role
    address: str
    port: int = Field(ge=1, le=65535)
    state: Literal["ready", "drain"] = "ready"


class FrontService(Word):
    """How the front treats a service.

    `weights` are the shares of traffic by role, in percent; a backup replica without a share stands by until no other
    replica is left. `max_in_flight` bounds each replica, `max_queue` those who wait (more get 503 at once), and
    `timeout_seconds` how long one waits, and then how long its answer may take. `slots` are how many replicas can come
    without a reload of the front; where there are more, it grows by itself. With `alone` the service also answers at a port of
    its own, without a path before `/v2`; with a `certificate` (a PEM file with the chain and the key) only there, by TLS.
    """

    workflow: str
    service: str
    weights: dict[Role, int] = {"champion": 100}
    max_in_flight: int = Field(default=1, ge=1)
    timeout_seconds: float = Field(default=10.0, gt=0)
    max_queue: int = Field(default=1000, ge=1)
    slots: int = Field(default=16, ge=1)
    alone: bool = False
    certificate: str = ""

    @property
    def name(self) -> str:
        """The name of its backend."""
        return backend_name(self.workflow, self.service)


class Placement(Word):
    """A service with its replicas by slot; slots `a1`… share the traffic, `b1`… stand by."""

    service: FrontService
    active: int
    backup: int
    replicas: dict[str, FrontReplica]
    # its own port, 0 where it has none
    port: int = 0

    def slots(self) -> list[str]:
        return [f"a{n}" for n in range(1, self.active + 1)] + [f"b{n}" for n in range(1, self.backup + 1)]


def backend_name(workflow: str, service: str) -> str:
    """The name of a service's backend in the front."""
    return f"{workflow}--{service}"


def stands_by(service: FrontService, replica: FrontReplica) -> bool:
    """Whether a replica is one that serves only when no other is left."""
    return replica.role == "backup" and service.weights.get("backup", 0) == 0


def place(before: Placement | None, service: FrontService, replicas: Iterable[FrontReplica]) -> Placement:
    """Gives each replica a slot; one that has a fitting slot keeps it. There are never fewer slots than before."""
    wanted = {replica.id: replica for replica in replicas}
    taken: dict[str, FrontReplica] = {}
    for slot, old in before.replicas.items() if before else ():
        replica = wanted.get(old.id)
        if replica is not None and slot.startswith("b") == stands_by(service, replica):
            taken[slot] = wanted.pop(old.id)
    active = max(service.slots, before.active if before else 0)
    backup = max(service.slots, before.backup if before else 0)
    # a slot just left is used last, since what it still has in flight counts against its new owner
    left = set(before.replicas) - set(taken) if before else set[str]()
    for replica in wanted.values():
        group = "b" if stands_by(service, replica) else "a"
        size = backup if group == "b" else active
        names = [f"{group}{n}" for n in range(1, size + 1)]
        free = sorted((name for name in names if name not in taken), key=lambda name: name in left)
        if free:
            taken[free[0]] = replica
            continue
        taken[f"{group}{size + 1}"] = replica
        if group == "b":
            backup = 2 * size
        else:
            active = 2 * size
    port = before.port if before and service.alone else 0
    return Placement(service=service, active=active, backup=backup, replicas=taken, port=port)


def server_weights(shares: Mapping[Role, int], ready: Mapping[Role, int]) -> dict[Role, int]:
    """The weight of one server of each role, so that the roles get their `shares` of the traffic.

    A role's weight is its share divided by its `ready` replicas, in whole numbers up to 256. The scale is the one with the
    least error; a role with a share never gets 0. The share of a role without ready replicas goes to the others.
    """
    return dict(_server_weights(tuple(sorted(shares.items())), tuple(sorted(ready.items()))))


# the whole configuration is written with each new service, and most services have the same shares
@lru_cache(maxsize=1024)
def _server_weights(of_roles: tuple[tuple[Role, int], ...], by_role: tuple[tuple[Role, int], ...]) -> Mapping[Role, int]:
    shares, ready = dict(of_roles), dict(by_role)
    exact: dict[Role, float] = {role: shares.get(role, 0) / count for role, count in ready.items() if count > 0}
    largest = max(exact.values(), default=0.0)
    if largest <= 0:
        return dict.fromkeys(ready, 0)
    total = sum(exact[role] * ready[role] for role in exact)

    def scaled(top: int) -> dict[Role, int]:
        return {role: max(1, round(value * top / largest)) if value > 0 else 0 for role, value in exact.items()}

    def error(weights: dict[Role, int]) -> float:
        got = sum(weight * ready[role] for role, weight in weights.items())
        return sum(abs(weight * ready[role] / got - exact[role] * ready[role] / total) for role, weight in weights.items())

    candidates: list[dict[Role, int]] = [scaled(top) for top in range(1, MAX_WEIGHT + 1)]
    best = min(candidates, key=error)
    return {role: best.get(role, 0) for role in ready}


def slot_weights(placement: Placement) -> dict[str, int]:
    """The weight of each taken slot. Those that stand by weigh the same among themselves."""
    service = placement.service
    ready: dict[Role, int] = {}
    for slot, replica in placement.replicas.items():
        if slot.startswith("a") and replica.state == "ready":
            ready[replica.role] = ready.get(replica.role, 0) + 1
    weights = server_weights(service.weights, ready)
    return {slot: 1 if slot.startswith("b") else weights.get(replica.role, 0) for slot, replica in placement.replicas.items()}
