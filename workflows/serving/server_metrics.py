"""What a model server tells Prometheus."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from autonomic.workflows.serving.config import ServerConfig

BUCKETS = (
    *(0.0025, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.0175, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1),
    *(0.11, 0.12, 0.135, 0.15, 0.175, 0.2, 0.225, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0),
    *(5.0, 7.5, 10.0),
)
# a start that is older than this, or in the future, was made up
_OLDEST_START_SECONDS = 600.0
_LABELS = ("workflow", "service", "role", "model_version")


class ServerMetrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self, config: ServerConfig) -> None:
        self.registry = CollectorRegistry()
        labels = (config.workflow, config.service, config.role, config.model_version)

        def gauge(name: str, help_text: str) -> Gauge:
            return Gauge(name, help_text, _LABELS, registry=self.registry).labels(*labels)

        self.duration = Histogram(
            "autonomic_request_duration_seconds",
            "From the arrival at the front (or here, without one) to the answer, of requests answered with 200",
            _LABELS,
            buckets=BUCKETS,
            registry=self.registry,
        ).labels(*labels)
        self._requests = Counter("autonomic_requests", "Infer requests by status code", (*_LABELS, "code"), registry=self.registry)
        self._labels = labels
        self.in_flight = gauge("autonomic_server_in_flight_requests", "Requests that this replica works on")
        self.queue = gauge("autonomic_server_queue_requests", "Requests that wait in this replica")
        self.batch_rows = Histogram(
            "autonomic_batch_rows", "Rows that went through the model together", _LABELS, buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=self.registry,
        ).labels(*labels)  # fmt: skip
        Gauge(
            "autonomic_model_info", "The model that is served", (*_LABELS[:3], "model", "version"), registry=self.registry
        ).labels(*labels[:3], config.model, config.model_version).set(1)  # fmt: skip

    def count(self, code: int) -> None:
        """Counts an infer request that was answered with `code`."""
        self._requests.labels(*self._labels, str(code)).inc()

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def request_start(header: str | None, now: float | None = None) -> float:
    """When a request began, in seconds since the epoch.

    `header` is `X-Request-Start: t=<microseconds>`; where it is missing or cannot be true, the answer is `now`.
    """
    now = time.time() if now is None else now
    if header is None or not header.startswith("t=") or not header[2:].isdecimal() or len(header) > 20:
        return now
    start = int(header[2:]) / 1_000_000
    return start if 0 <= now - start <= _OLDEST_START_SECONDS else now
