"""All signals, by the name that they have in YAML."""

from collections.abc import Callable
from dataclasses import dataclass

from autonomic.seams.clock import Clock
from autonomic.seams.signal import Signal
from autonomic.signals.drift import Drift, DriftSignal
from autonomic.signals.kubernetes import Cluster, KubernetesSignal
from autonomic.signals.mlflow import MlflowSignal
from autonomic.signals.platform import Observe, PlatformSignal
from autonomic.signals.promql import PromqlSignal
from autonomic.signals.scrape import Fetch, ScrapeSignal
from autonomic.signals.webhook import Newest, WebhookSignal


@dataclass(frozen=True)
class Sources:
    """What the signals read from; an empty URL is a part that there is not."""

    clock: Clock
    prometheus_url: str
    mlflow_url: str
    host_url: str
    fetch: Fetch
    observe: Observe
    drift: Drift
    cluster: Cluster
    newest: Newest


SIGNALS: dict[str, Callable[[Sources], Signal]] = {
    "drift": lambda sources: DriftSignal(sources.drift),
    "kubernetes": lambda sources: KubernetesSignal(sources.cluster),
    "mlflow": lambda sources: MlflowSignal(sources.mlflow_url),
    "platform": lambda sources: PlatformSignal(sources.observe),
    "promql": lambda sources: PromqlSignal(sources.prometheus_url),
    "scrape": lambda sources: ScrapeSignal(sources.host_url, sources.fetch, sources.clock),
    "webhook": lambda sources: WebhookSignal(sources.newest),
}
