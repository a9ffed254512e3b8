"""Readings of the simulated platform, so that strategies written for the world run unchanged."""

import math
import re
from collections.abc import Callable, Mapping, Sequence

from autonomic.platforms.simulated.platform import SimulatedPlatform
from autonomic.seams.errors import Retryable
from autonomic.seams.reading import error, missing, number
from autonomic.seams.signal import Answer, Query
from autonomic.seams.state import FINISHED, ServiceState
from autonomic.seams.target import Target
from autonomic.workflows.spec.units import parse_duration

Scripted = Callable[[float], float | Mapping[str, float] | None]
"""A reading of its own making: the value at the seconds since the start, by label value for one with `by`; None is missing."""

_QUANTILE = re.compile(r"histogram_quantile\(\s*([\d.]+)\s*,.*autonomic_request_duration_seconds_bucket(\{[^}]*\})?\[(\w+)\].*", re.DOTALL)
_RATE = re.compile(r"(?:sum\s*\(\s*)?rate\(\s*autonomic_request_duration_seconds_count(\{[^}]*\})?\[(\w+)\]\s*\)\s*\)?", re.DOTALL)
_DEMAND = re.compile(
    r"sum\(\s*rate\(\s*autonomic_front_requests_total(\{[^}]*\})?\[(\w+)\]\s*\)\s*\)"
    r"(?:\s*\+\s*sum\(\s*autonomic_queue_requests(?:\{[^}]*\})?\s*\)\s*/\s*([\d.]+))?",
    re.DOTALL,
)
_LABEL = re.compile(r"(\w+)\s*=\s*[\"']([^\"']*)[\"']")


class SimulatedSignal:
    """Answers `platform` queries, quantiles and rates of the request histogram, what comes and waits, and tags of model versions.

    What else a strategy reads is given in `scripted`, by `strategy/reading` or `reading`. `silence` makes every reading
    an error for a while.
    """

    def __init__(self, platform: SimulatedPlatform, start: float, scripted: Mapping[str, Scripted] | None = None) -> None:
        self._platform = platform
        self._start = start
        self._scripted = dict(scripted or {})
        self._silent_until = 0.0
        # within one read, which is one moment
        self._seen: dict[str, ServiceState | None] = {}

    def silence(self, now: float, seconds: float) -> None:
        """For so long nothing can be read."""
        self._silent_until = now + seconds

    def read(self, queries: Sequence[Query], now: float) -> list[Answer]:
        """See `seams.signal.Signal`."""
        self._seen.clear()
        return [self._read(query, now) for query in queries]

    def _read(self, query: Query, now: float) -> Answer:
        if now < self._silent_until:
            return error(now, query.signal, "the simulated sources are silent")
        script = self._scripted.get(f"{query.strategy}/{query.name}", self._scripted.get(query.name))
        try:
            value = script(now - self._start) if script is not None else self._value(query)
        except Retryable as away:
            return error(now, query.signal, str(away))
        except LookupError as unknown:
            return missing(now, query.signal, f"{query.target}: {unknown}")
        if isinstance(value, Mapping):
            label = str(query.args.get("by"))
            return [number(one, now, query.signal, {label: name}) for name, one in value.items()]
        if isinstance(value, str):
            return error(now, query.signal, value)
        return missing(now, query.signal, "there is no value") if value is None else number(value, now, query.signal)

    def _value(self, query: Query) -> float | str | None:
        if query.signal == "platform":
            return self._of_platform(query.target, str(query.args["platform"]))
        if query.signal == "promql":
            return self._of_promql(query.target, str(query.args["promql"]))
        if query.signal == "scrape" and query.args.get("quantile"):
            target = _target(query.target, dict(query.args.get("labels", {})))
            return self._platform.service(target).quantile(float(query.args["quantile"]), float(query.args.get("window", 5.0)))
        if query.signal == "mlflow" and query.args.get("model"):
            return self._of_registry(str(query.args["model"]), str(query.args.get("alias")), str(query.args["metric"]))
        return f"a simulation cannot answer {query.args!r}; script the reading {query.name!r}"

    def _of_promql(self, target: str, promql: str) -> float | str:
        quantile, rate, demand = (one.fullmatch(promql.strip()) for one in (_QUANTILE, _RATE, _DEMAND))
        found = quantile or rate or demand
        if found is None:
            return f"a simulation does not evaluate {promql!r}; script the reading"
        labels = dict(_LABEL.findall((quantile[2] if quantile else found[1]) or ""))
        service = self._platform.service(_target(target, labels))
        if quantile:
            return service.quantile(float(quantile[1]), parse_duration(quantile[3]))
        if demand:
            waiting = service.queued() / float(demand[3]) if demand[3] else 0.0
            return service.arrivals(parse_duration(demand[2])) + waiting
        return service.throughput(parse_duration(found[2]), labels.get("role"))

    def _of_platform(self, target: str, what: str) -> float | None:
        if what == "active_runs":
            return float(sum(run.status not in FINISHED for run in self._platform.runs(Target.parse(target).workflow)))
        if target not in self._seen:
            self._seen[target] = self._platform.service_state(target)
        service = self._seen[target]
        if service is None:
            return None
        champion, backup = service.roles.get("champion"), service.roles.get("backup")
        values: dict[str, float] = {
            "ready_replicas": champion.ready if champion else 0,
            "wanted_replicas": champion.wanted if champion else 0,
            "backup_ready_replicas": backup.ready if backup else 0,
            "backup_wanted_replicas": backup.wanted if backup else 0,
            "queued": service.queued,
            "in_flight": service.in_flight,
            "champion_weight": service.weights.get("champion", 0),
            "backup_weight": service.weights.get("backup", 0),
            "canary_weight": service.weights.get("canary", 0),
        }
        return float(values[what])

    def _of_registry(self, model: str, alias: str, metric: str) -> float | None:
        version = self._platform.registry.aliases(model).get(alias)
        if version is None or metric not in version.tags:
            return None
        try:
            return float(version.tags[metric])
        except ValueError:
            return math.nan


def _target(target: str, labels: Mapping[str, str]) -> str:
    name, step = Target.parse(target)
    return f"{labels.get('workflow', name)}/{labels.get('service', step)}"
