"""A strategy as the monitor holds it: its triggers, its queries and what is remembered of it."""

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autonomic.seams.signal import Query
from autonomic.strategies.evaluator import EvaluatorState
from autonomic.strategies.readings import Read, queries_of
from autonomic.strategies.spec.strategy import Strategy
from autonomic.strategies.triggers import Trigger, triggers_of


@dataclass(slots=True)
class Work:
    """One evaluation that is asked for. `key` is the durable mark of an event that has to be looked at.

    `since` is when what fires only once came (seconds since the epoch), 0 for what comes again or was asked for by a person.
    `waits`: nothing could be said of it yet, and it is looked at again.
    """

    trigger: str
    data: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    since: float = 0.0
    waits: bool = False
    done: Any = None


@dataclass(slots=True)
class Memory:
    """What survives a restart. `cursors`: what was counted by readings `since: fired`; `made`: dates that came."""

    state: EvaluatorState = field(default_factory=EvaluatorState)
    cursors: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: tuple[str, ...] = ()

    def to_json(self, fingerprint: str) -> dict[str, Any]:
        return {
            "fingerprint": fingerprint,
            "state": self.state.model_dump(mode="json", exclude_defaults=True),
            "cursors": self.cursors,
            "made": list(self.made),
        }


class Watched:
    """One strategy under watch. Only the one job that has `busy` set may change it."""

    __slots__ = (
        "busy",
        "evaluated_at",
        "fingerprint",
        "latest",
        "memory",
        "queries",
        "saved_at",
        "signals",
        "strategy",
        "triggers",
        "waiting",
    )

    def __init__(self, strategy: Strategy, saved: Mapping[str, Any] | None = None) -> None:
        self.strategy = strategy
        self.fingerprint = hashlib.sha256(strategy.model_dump_json(by_alias=True).encode()).hexdigest()[:16]
        self.triggers: list[Trigger] = triggers_of(strategy)
        self.queries = queries_of(strategy)
        self.signals = frozenset(query.signal for query in self.queries)
        self.memory = _memory(saved, self.fingerprint)
        self.latest: Read = {}
        self.evaluated_at = 0.0
        self.saved_at = 0.0
        self.busy = False
        self.waiting: deque[Work] = deque()

    @property
    def name(self) -> str:
        return self.strategy.name

    def asked(self, again: bool = False) -> tuple[Query, ...]:
        """The queries with their cursors; `again`: as they were asked before the last event, for whoever acts on it."""
        if not any(spec.since for spec in self.strategy.spec.readings.values()):
            return self.queries
        queries: list[Query] = []
        for query in self.queries:
            if self.strategy.spec.readings[query.name].since == "fired":
                kept = self.memory.cursors.get(query.name, {})
                after = kept.get("before" if again else "now") or {}
                # the signal keeps the cursor of a reading by its name: whoever reads again must not disturb it
                name = f"{query.strategy}#again" if again else query.strategy
                query = query.model_copy(update={"args": {**query.args, "after": after}, "strategy": name})
            queries.append(query)
        return tuple(queries)


def _memory(saved: Mapping[str, Any] | None, fingerprint: str) -> Memory:
    if not saved:
        return Memory()
    if saved.get("fingerprint") != fingerprint:
        # a changed strategy looks at the world afresh, but what was counted stays counted
        return Memory(cursors=saved.get("cursors", {}))
    return Memory(EvaluatorState.model_validate(saved["state"]), saved.get("cursors", {}), tuple(saved.get("made", ())))
