"""`kubernetes`: numbers of what a cluster says of a target's pods, Jobs, Deployments and of the nodes; and its facts as events.

The host asks the cluster; whoever reads has no rights there. What the host cannot see is missing, and never counts as none.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autonomic.seams.errors import Retryable
from autonomic.seams.event import Event
from autonomic.seams.reading import Reading, error, missing, number
from autonomic.seams.signal import Answer, Query
from autonomic.signals.aggregates import total
from autonomic.signals.guard import asked, guarded
from autonomic.signals.queries import KubernetesQuery
from autonomic.signals.runs import PREFIX as RUN_PREFIX

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
        parsed = [asked(lambda query=query: KubernetesQuery.model_validate(query.args)) for query in queries]
        wanted: dict[str, set[str]] = {}
        for wish, query in zip(parsed, queries, strict=True):
            if not isinstance(wish, str):
                wanted.setdefault(wish.of or query.target, set()).add(_PARTS[wish.metric])
        told = {target: asked(lambda target=target, parts=parts: self._cluster(target, sorted(parts))) for target, parts in wanted.items()}

        def answer(wish: KubernetesQuery | str, query: Query) -> Answer:
            if isinstance(wish, str):
                return error(now, "kubernetes", wish)
            target = wish.of or query.target
            return _answer(wish, target, told[target], now)

        pairs = zip(parsed, queries, strict=True)
        return [guarded("kubernetes", now, lambda wish=wish, query=query: answer(wish, query)) for wish, query in pairs]


def _answer(wish: KubernetesQuery, target: str, told: Mapping[str, Any] | str | None, now: float) -> Answer:
    if isinstance(told, str):
        return error(now, "kubernetes", told)
    if told is None:
        return missing(now, "kubernetes", f"there is nothing called {target} on the cluster")
    part = told.get(_PARTS[wish.metric], {"missing": "the host did not say"})
    if "missing" in part:
        return missing(now, "kubernetes", str(part["missing"]))
    items = [item for item in part["items"] if _is_meant(wish, item)]
    if wish.by is None:
        return _number(wish, items, now, {})
    # of nodes all are listed, so that a node without any is told as 0 only where nodes are counted
    groups: dict[str, list[Mapping[str, Any]]] = {item["name"]: [] for item in part["items"]} if wish.metric == "nodes" else {}
    for item in items:
        node = str(item["name"] if wish.metric == "nodes" else item["node"])
        if node:
            groups.setdefault(node, []).append(item)
    return [_number(wish, group, now, {"node": node}) for node, group in groups.items()]


def _is_meant(wish: KubernetesQuery, item: Mapping[str, Any]) -> bool:
    if wish.phase is not None and item.get("phase") != wish.phase:
        return False
    if wish.reason is not None and wish.reason not in item.get("reasons", (item.get("reason"),)):
        return False
    if wish.role is not None and item.get("role") != wish.role:
        return False
    return wish.condition is None or wish.condition in item.get("conditions", ())


def _number(wish: KubernetesQuery, items: Sequence[Mapping[str, Any]], now: float, labels: Mapping[str, str]) -> Reading:
    match wish.metric:
        case "pods" | "jobs" | "nodes":
            return number(len(items), now, "kubernetes", labels)
        case "events":
            return number(sum(item["count"] for item in items), now, "kubernetes", labels)
        case "restarts":
            return number(sum(item["restarts"] for item in items), now, "kubernetes", labels)
        case "ready_replicas" | "wanted_replicas":
            if not items:
                return missing(now, "kubernetes", "the target has no Deployment", labels)
            return number(sum(item[wish.metric.removesuffix("_replicas")] for item in items), now, "kubernetes", labels)
        case "cpu" | "memory":
            unknown = [str(item["name"]) for item in items if item[wish.metric] is None]
            if unknown or not items:
                why = f"the metrics API does not know {', '.join(unknown)} yet" if unknown else "no pod of the target runs"
                return missing(now, "kubernetes", why, labels)
            oldest = min(item["time"] or now for item in items)
            return number(total([item[wish.metric] for item in items]), oldest, "kubernetes", labels)


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
    """Whether an event may be of interest to a strategy with this target: one of another workflow's pods or runs is not."""
    if not event_type.startswith((PREFIX, RUN_PREFIX)) or not subject:
        return True
    return target in (subject, subject.partition("/")[0])
