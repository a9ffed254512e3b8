"""`kubernetes`: numbers of what a cluster says of a target's pods, Jobs, Deployments and of the nodes; and its facts as events.

The host asks the cluster; whoever reads has no rights there. What the host cannot see is missing, and never counts as none.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autonomic.seams.errors import AutonomicError, Retryable
from autonomic.seams.event import Event
from autonomic.seams.reading import Reading, error, missing, number
from autonomic.seams.signal import Answer, Query
from autonomic.signals.queries import KubernetesQuery

Cluster = Callable[[str, Sequence[str]], Mapping[str, Any] | None]
"""(target, parts) -> {part: {"items": [...]} or {"missing": why}}, None without such a target; raises `AutonomicError`."""
News = Callable[[str], Mapping[str, Any]]
"""source -> {"facts": [...]} or {"missing": why}; raises `AutonomicError`."""

PREFIX = "dev.autonomic.kubernetes."
SOURCES: dict[str, tuple[str, ...]] = {
    "workloads": tuple(
        f"{PREFIX}{name}"
        for name in (
            "pod.oom_killed",
            "pod.unschedulable",
            "pod.crash_loop",
            "pod.evicted",
            "pod.node_lost",
            "pod.image_missing",
            "pod.config_error",
            "job.complete",
            "job.failed",
        )
    ),
    "nodes": tuple(f"{PREFIX}{name}" for name in ("node.ready", "node.not_ready", "node.pressure")),
    "events": (f"{PREFIX}event",),
}
"""The types of events, by where the host has them from."""
EVENT_EXPIRES_SECONDS = 300.0

_PARTS = {
    "pods": "pods",
    "restarts": "pods",
    "jobs": "jobs",
    "nodes": "nodes",
    "events": "events",
    "ready_replicas": "deployments",
    "wanted_replicas": "deployments",
    "cpu": "usage",
    "memory": "usage",
}


class KubernetesSignal:
    """Readings of the cluster; of each target all that is asked for is asked once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def read(self, queries: Sequence[Query], now: float) -> list[Answer]:
        parsed = [(KubernetesQuery.model_validate(query.args), query) for query in queries]
        wanted: dict[str, set[str]] = {}
        for asked, query in parsed:
            wanted.setdefault(asked.of or query.target, set()).add(_PARTS[asked.metric])
        told = {target: self._ask(target, sorted(parts)) for target, parts in wanted.items()}
        return [_answer(asked, asked.of or query.target, told[asked.of or query.target], now) for asked, query in parsed]

    def _ask(self, target: str, parts: Sequence[str]) -> Mapping[str, Any] | str | None:
        try:
            return self._cluster(target, parts)
        except AutonomicError as failure:
            return str(failure)


def _answer(asked: KubernetesQuery, target: str, told: Mapping[str, Any] | str | None, now: float) -> Answer:
    if isinstance(told, str):
        return error(now, "kubernetes", told)
    if told is None:
        return missing(now, "kubernetes", f"there is nothing called {target} on the cluster")
    part = told.get(_PARTS[asked.metric], {"missing": "the host did not say"})
    if "missing" in part:
        return missing(now, "kubernetes", str(part["missing"]))
    items = [item for item in part["items"] if _is_meant(asked, item)]
    if asked.by is None:
        return _number(asked, items, now, {})
    # of nodes all are listed, so that a node without any is told as 0 only where nodes are counted
    groups: dict[str, list[Mapping[str, Any]]] = {item["name"]: [] for item in part["items"]} if asked.metric == "nodes" else {}
    for item in items:
        node = str(item["name"] if asked.metric == "nodes" else item["node"])
        if node:
            groups.setdefault(node, []).append(item)
    return [_number(asked, group, now, {"node": node}) for node, group in groups.items()]


def _is_meant(asked: KubernetesQuery, item: Mapping[str, Any]) -> bool:
    if asked.phase is not None and item.get("phase") != asked.phase:
        return False
    if asked.reason is not None and asked.reason not in item.get("reasons", (item.get("reason"),)):
        return False
    if asked.role is not None and item.get("role") != asked.role:
        return False
    return asked.condition is None or asked.condition in item.get("conditions", ())


def _number(asked: KubernetesQuery, items: Sequence[Mapping[str, Any]], now: float, labels: Mapping[str, str]) -> Reading:
    match asked.metric:
        case "pods" | "jobs" | "nodes":
            return number(len(items), now, "kubernetes", labels)
        case "events":
            return number(sum(item["count"] for item in items), now, "kubernetes", labels)
        case "restarts":
            return number(sum(item["restarts"] for item in items), now, "kubernetes", labels)
        case "ready_replicas" | "wanted_replicas":
            if not items:
                return missing(now, "kubernetes", "the target has no Deployment", labels)
            return number(sum(item[asked.metric.removesuffix("_replicas")] for item in items), now, "kubernetes", labels)
        case "cpu" | "memory":
            unknown = [str(item["name"]) for item in items if item[asked.metric] is None]
            if unknown or not items:
                why = f"the metrics API does not know {', '.join(unknown)} yet" if unknown else "no pod of the target runs"
                return missing(now, "kubernetes", why, labels)
            oldest = min(item["time"] or now for item in items)
            return number(math.fsum(item[asked.metric] for item in items), oldest, "kubernetes", labels)


class KubernetesEvents:
    """The facts of one source (see `SOURCES`) as events.

    Without a cursor it begins at the present: what happened before is no news. The cursor names the facts that were told and
    that the host still tells, so that a restart of either side repeats none.
    """

    def __init__(self, source: str, news: News) -> None:
        self._source = source
        self._news = news

    def watch(self, cursor: Any) -> tuple[list[Event], Any]:
        """The events after `cursor` and the cursor after them.

        Raises:
            Retryable: the host, or the cluster behind it, does not tell.
        """
        told = self._news(self._source)
        if "missing" in told:
            raise Retryable(str(told["missing"]), 2.0)
        seen = None if cursor is None else set(cursor)
        events = [] if seen is None else [_event(fact) for fact in told["facts"] if fact["id"] not in seen]
        return events, sorted(fact["id"] for fact in told["facts"])

    def close(self) -> None:
        """Nothing is kept open."""


def _event(fact: Mapping[str, Any]) -> Event:
    return Event(
        id=f"kubernetes-{fact['id']}",
        type=fact["type"],
        source="kubernetes",
        target=fact["target"],
        observed_at=fact["time"],
        expires_at=fact["time"] + EVENT_EXPIRES_SECONDS,
        data={**fact["data"], "target": fact["target"]},
    )


def concerns(event_type: str, subject: str, target: str) -> bool:
    """Whether an event may be of interest to a strategy with this target: one of another workflow's pods is not."""
    if not event_type.startswith(PREFIX) or not subject:
        return True
    return target in (subject, subject.partition("/")[0])
