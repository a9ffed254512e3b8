"""A service as a queue: seeded arrivals, one central first-come-first-served line per role, replicas that start late."""

import math
import random
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

KEPT_SECONDS = 120.0
"""How long finished requests are remembered."""

Rate = Callable[[float], float] | Sequence[tuple[float, float]] | float
"""Requests per second: constant, a function of the seconds since the start, or steps (from second, rate), sorted."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a service is asked for and how long it takes.

    `service_seconds` is what one request occupies a slot of a replica; it varies evenly by ± `jitter` (a fraction).
    `startup_seconds` pass before a new replica serves. A request that waits longer than `timeout_seconds` is lost.
    """

    rate: Rate = 0.0
    service_seconds: float = 0.05
    jitter: float = 0.1
    startup_seconds: float = 3.0
    timeout_seconds: float = 10.0
    seed: int = 0

    def rate_at(self, seconds: float) -> float:
        """Requests per second at `seconds` since the start."""
        if callable(self.rate):
            return max(0.0, self.rate(seconds))
        if isinstance(self.rate, int | float):
            return float(self.rate)
        return next((rate for start, rate in reversed(self.rate) if start <= seconds), 0.0)


@dataclass(slots=True)
class Replica:
    """One replica; `free_at` has an entry for each request that it may hold."""

    ready_at: float
    free_at: list[float]


@dataclass(slots=True)
class Line:
    """The replicas of one role, the oldest first, and the arrival times of those who wait for them."""

    wanted: int
    standby: int
    slots: int
    replicas: list[Replica] = field(default_factory=list[Replica])
    waiting: deque[float] = field(default_factory=deque[float])

    def serving(self, now: float) -> list[Replica]:
        """The replicas in service: of those that are ready the oldest, as many as are wanted."""
        return sorted((replica for replica in self.replicas if replica.ready_at <= now), key=lambda replica: replica.ready_at)[
            : self.wanted
        ]

    def start(self, now: float, startup_seconds: float) -> None:
        """Starts or stops replicas until there are as many as are wanted, with the standby ones."""
        self.replicas.sort(key=lambda replica: replica.ready_at)
        while len(self.replicas) < self.wanted + self.standby:
            ready_at = now + startup_seconds
            self.replicas.append(Replica(ready_at, [ready_at] * self.slots))
        del self.replicas[self.wanted + self.standby :]


class QueueingService:
    """The requests of one service; `advance` computes what happened up to a time."""

    def __init__(self, load: Load, start: float, lines: dict[str, Line], weights: dict[str, int]) -> None:
        self.load = load
        self.lines = lines
        self.weights = weights
        self._start = start
        self._now = start
        # one for each, so that it does not matter how often the queue is looked at
        self._arrivals = random.Random(f"{load.seed} arrivals")
        self._services = random.Random(f"{load.seed} services")
        self._next_arrival = self._draw(start)
        # (end, latency, role), sorted
        self._finished: list[tuple[float, float, str]] = []
        self._arrived: deque[float] = deque()
        self.served = 0
        self.lost = 0
        self.late = 0
        self.late_seconds = math.inf
        self.replica_seconds = 0.0

    def advance(self, now: float) -> None:
        """Computes all requests up to the time `now`."""
        while self._now < now:
            changes = [replica.ready_at for line in self.lines.values() for replica in line.replicas if self._now < replica.ready_at < now]
            self._segment(min(changes, default=now))
        if self._finished and self._finished[0][0] < now - 2 * KEPT_SECONDS:
            del self._finished[: bisect_left(self._finished, (now - KEPT_SECONDS,))]
        while self._arrived and self._arrived[0] < now - KEPT_SECONDS:
            self._arrived.popleft()

    def rescale(self, role: str, replicas: int) -> None:
        """Another number of replicas from now on."""
        line = self.lines[role]
        line.wanted = replicas
        line.start(self._now, self.load.startup_seconds)

    def kill(self, role: str) -> None:
        """All replicas of a role die, with what they were doing, and start anew."""
        line = self.lines[role]
        self.lost += sum(free > self._now for replica in line.replicas if replica.ready_at <= self._now for free in replica.free_at)
        line.replicas.clear()
        line.start(self._now, self.load.startup_seconds)

    def latencies(self, seconds: float, role: str | None = None) -> list[float]:
        """The seconds from arrival to answer of requests that ended in the last `seconds`, sorted; the lost ones not."""
        first = bisect_right(self._finished, (self._now - seconds, math.inf))
        last = bisect_right(self._finished, (self._now, math.inf))
        return sorted(latency for _, latency, by in self._finished[first:last] if role in (None, by))

    def quantile(self, q: float, seconds: float) -> float:
        """The quantile of `latencies`, NaN where nothing ended."""
        found = self.latencies(seconds)
        return found[min(len(found) - 1, math.ceil(q * len(found)) - 1)] if found else math.nan

    def throughput(self, seconds: float, role: str | None = None) -> float:
        """Requests per second that ended in the last `seconds`."""
        return len(self.latencies(seconds, role)) / seconds

    def arrivals(self, seconds: float) -> float:
        """Requests per second that came in the last `seconds`, whatever became of them."""
        return sum(arrived > self._now - seconds for arrived in self._arrived) / seconds

    def queued(self) -> int:
        """How many wait."""
        return sum(len(line.waiting) for line in self.lines.values())

    def in_flight(self) -> int:
        """How many are being worked on."""
        serving = [replica for line in self.lines.values() for replica in line.serving(self._now)]
        return sum(free > self._now for replica in serving for free in replica.free_at)

    def ready(self, role: str) -> int:
        """How many replicas of a role are in service."""
        return len(self.lines[role].serving(self._now)) if role in self.lines else 0

    def _segment(self, end: float) -> None:
        begin = self._now
        self.replica_seconds += (end - begin) * sum(len(line.replicas) for line in self.lines.values())
        serving = {role: line.serving(begin) for role, line in self.lines.items()}
        while self._next_arrival < end:
            self.lines[self._route(serving)].waiting.append(self._next_arrival)
            self._arrived.append(self._next_arrival)
            self._next_arrival = self._draw(self._next_arrival)
        for role, line in self.lines.items():
            target = serving[role]
            if not target and role == "champion":
                # the front gives those who wait to the backup the moment that no champion is left
                target, role = serving.get("backup", []), "backup"
            self._serve(line, target, role, begin, end)
        self._now = end

    def _serve(self, line: Line, replicas: list[Replica], role: str, begin: float, end: float) -> None:
        load = self.load
        while line.waiting:
            arrival = line.waiting[0]
            replica, slot, free = None, 0, math.inf
            for candidate in replicas:
                for index, free_at in enumerate(candidate.free_at):
                    if free_at < free:
                        replica, slot, free = candidate, index, free_at
            start = max(free, arrival, begin)
            if min(start, end) - arrival > load.timeout_seconds:
                line.waiting.popleft()
                self.lost += 1
                continue
            if replica is None or start >= end:
                return
            line.waiting.popleft()
            finish = start + load.service_seconds * (1 + load.jitter * (2 * self._services.random() - 1))
            replica.free_at[slot] = finish
            insort(self._finished, (finish, finish - arrival, role))
            self.served += 1
            self.late += finish - arrival > self.late_seconds

    def _route(self, serving: dict[str, list[Replica]]) -> str:
        shares = [(role, weight) for role, weight in self.weights.items() if weight > 0 and role != "backup" and serving.get(role)]
        total = sum(weight for _, weight in shares)
        if len(shares) < 2:
            return shares[0][0] if shares else "champion"
        drawn = self._arrivals.random() * total
        for role, weight in shares:
            drawn -= weight
            if drawn < 0:
                return role
        return shares[-1][0]

    def _draw(self, after: float) -> float:
        # arrivals are a Poisson process whose rate is looked at again each second at the latest
        need = self._arrivals.expovariate(1.0)
        at = after
        for _ in range(100_000):
            rate = self.load.rate_at(at - self._start)
            step = math.floor(at - self._start) + 1 - (at - self._start)
            if rate * step >= need:
                return at + need / rate
            need -= rate * step
            at += step
        return math.inf
