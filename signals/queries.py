"""What may be asked of each signal; the declaration is the parser and the schema."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

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
    "platform": PlatformQuery,
    "webhook": WebhookQuery,
}
"""By the key that names the signal in YAML. `{scrape: {...}}` and `{mlflow: {...}}` hold their fields in a mapping of
their own; the others give their first field's value directly, with further fields beside it."""


NESTED = frozenset({"scrape", "mlflow"})
"""The signals whose fields stand in a mapping of their own."""


def flatten(signal: str, value: Any, beside: dict[str, Any]) -> dict[str, Any]:
    """The fields of the signal's query of what stands under `signal:` and of the other keys `beside` it."""
    if signal in NESTED:
        return {**value, **beside} if isinstance(value, dict) else {"metric": value, **beside}
    return {signal: value, **beside}


def parse_query(signal: str, value: Any, beside: dict[str, Any]) -> Word:
    """The query model of what stands under `signal:` with the other keys `beside` it."""
    return QUERIES[signal].model_validate(flatten(signal, value, beside))
