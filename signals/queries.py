"""What may be asked of each signal; the declaration is the parser and the schema."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from autonomic.seams.state import Role
from autonomic.seams.word import Word
from autonomic.workflows.spec.units import Duration


class PromqlQuery(Word):
    """`promql`: an instant query that gives one number. With `by`, one number for each value of that label."""

    promql: str = Field(min_length=1)
    by: str | None = None


class ScrapeQuery(Word):
    """`scrape`: read straight from the target's own /metrics, without Prometheus between.

    `metric` is the name of a sample, or of a histogram where `quantile` is given; `labels` must match. Over several
    matching samples the `aggregate` is taken. `rate` gives the growth per second of a counter over that window; a
    `quantile` is taken over the growth of the buckets in the window (default 5s).
    """

    metric: str
    labels: dict[str, str] = {}
    aggregate: Literal["sum", "max", "min", "avg"] = "sum"
    rate: Duration | None = None
    quantile: float | None = Field(None, gt=0, lt=1)
    window: Duration = 5.0


class MlflowQuery(Word):
    """`mlflow`: a metric of runs (`experiment` and `filter`), or of a model version (`model` and `alias` or `version`).

    For runs: the newest value, or the `sum`, `max`, `min`, `avg` over runs that were not counted `since` the trigger
    last fired. For a model version the metric is the version's tag of that name, else the metric of its run.
    """

    metric: str
    experiment: str | None = None
    filter: str = ""
    model: str | None = None
    alias: str | None = None
    version: str | None = None
    aggregate: Literal["last", "sum", "max", "min", "avg", "count"] = "last"


class DriftQuery(Word):
    """`drift`: a value that the service's detector reports, such as `score` or `drifted` (1 or 0)."""

    drift: str = "drifted"


class KubernetesQuery(Word):
    """`kubernetes`: a number of what the cluster says of the target, where it runs on Kubernetes.

    Counted are `pods` in a `phase` (Pending, Running, ...) or for a `reason` (OOMKilled, Unschedulable, CrashLoopBackOff,
    Evicted, ...), `jobs` and `nodes` of which a `condition` is true (Complete, Failed; Ready, MemoryPressure, ...), and
    `events` (the warnings of the last hour) for a `reason`. Of steps only what has not ended counts, and the newest of each.
    `restarts` are those of containers, `ready_replicas` and `wanted_replicas` those of its Deployments, `cpu` (cores) and
    `memory` (bytes) what its running pods use. `role` chooses among the replicas of a service, `of` is another target than
    the strategy's. With `by: node`, one number for each node.
    """

    metric: Literal["pods", "jobs", "nodes", "events", "restarts", "ready_replicas", "wanted_replicas", "cpu", "memory"]
    phase: Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"] | None = None
    reason: str | None = None
    condition: str | None = None
    role: Role | None = None
    of: str | None = None
    by: Literal["node"] | None = None

    @model_validator(mode="after")
    def _fitting(self) -> "KubernetesQuery":
        for name, metrics in KUBERNETES_FILTERS.items():
            if getattr(self, name) is not None and self.metric not in metrics:
                raise ValueError(f"{name}: goes with {', '.join(metrics)}, and not with {self.metric}")
        return self


KUBERNETES_FILTERS: dict[str, tuple[str, ...]] = {
    "phase": ("pods", "restarts"),
    "reason": ("pods", "restarts", "events"),
    "condition": ("jobs", "nodes"),
    "role": ("pods", "restarts", "ready_replicas", "wanted_replicas", "cpu", "memory"),
    "by": ("pods", "restarts", "nodes", "cpu", "memory"),
}
"""Which metrics each of the other keys of a `kubernetes` query goes with."""


class PlatformQuery(Word):
    """`platform`: something the platform says of the target."""

    platform: Literal[
        "ready_replicas",
        "wanted_replicas",
        "backup_ready_replicas",
        "backup_wanted_replicas",
        "queued",
        "in_flight",
        "active_runs",
        "champion_weight",
        "backup_weight",
        "canary_weight",
    ]


class WebhookQuery(Word):
    """`webhook`: the number under `field` (a dotted path) in the newest event of this type that came from outside."""

    webhook: Annotated[str, StringConstraints(min_length=1)]
    field: str = "value"


QUERIES: dict[str, type[Word]] = {
    "promql": PromqlQuery,
    "scrape": ScrapeQuery,
    "mlflow": MlflowQuery,
    "drift": DriftQuery,
    "kubernetes": KubernetesQuery,
    "platform": PlatformQuery,
    "webhook": WebhookQuery,
}
"""By the key that names the signal in YAML. Those of `NESTED` hold their fields in a mapping of their own; the others give
their first field's value directly, with further fields beside it."""


NESTED = frozenset({"scrape", "mlflow", "kubernetes"})
"""The signals whose fields stand in a mapping of their own."""


def flatten(signal: str, value: Any, beside: dict[str, Any]) -> dict[str, Any]:
    """The fields of the signal's query of what stands under `signal:` and of the other keys `beside` it."""
    if signal in NESTED:
        return {**value, **beside} if isinstance(value, dict) else {"metric": value, **beside}
    return {signal: value, **beside}


def parse_query(signal: str, value: Any, beside: dict[str, Any]) -> Word:
    """The query model of what stands under `signal:` with the other keys `beside` it."""
    return QUERIES[signal].model_validate(flatten(signal, value, beside))
