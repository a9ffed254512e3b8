"""What the monitor counts of itself."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from autonomic.seams.reading import Reading
from autonomic.seams.signal import Answer

_AGES = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300)
_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)


class MonitorMetrics:
    """The monitor's metrics in `registry` (in none where it is left out)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.strategies = Gauge("autonomic_strategies", "Strategies under watch.", registry=registry)
        self.evaluations = Counter("autonomic_evaluations", "Evaluations of strategies.", registry=registry)
        self.missed = Counter("autonomic_missed_cycles", "Cycles left out because the one before was under way.", registry=registry)
        self.seconds = Histogram(
            "autonomic_evaluation_seconds", "Time of one job: reading, evaluation, commit.", buckets=_SECONDS, registry=registry
        )
        self.readings = Counter("autonomic_readings", "Readings by signal and status.", ["signal", "status"], registry=registry)
        self.age = Histogram(
            "autonomic_reading_age_seconds", "Age of good readings when they are judged.", ["signal"], buckets=_AGES, registry=registry
        )
        self._ages: dict[str, Histogram] = {}
        self.events = Counter("autonomic_events", "Events by type; types from outside are counted as other.", ["type"], registry=registry)
        self.duplicates = Counter("autonomic_duplicate_events", "Events that came in again.", registry=registry)

    def observe(self, readings: Iterable[Mapping[str, Answer]], now: float) -> None:
        """Counts the readings of one job."""
        counts: dict[tuple[str, str], int] = {}
        for answers in readings:
            for answer in answers.values():
                for reading in (answer,) if isinstance(answer, Reading) else answer:
                    kind = (reading.source, reading.status)
                    counts[kind] = counts.get(kind, 0) + 1
                    if reading.status == "ok":
                        self._age(reading.source).observe(max(0.0, now - reading.time))
        for (source, status), count in counts.items():
            self.readings.labels(source, status).inc(count)

    def _age(self, source: str) -> Histogram:
        # looking up a metric by its labels costs more than counting
        child = self._ages.get(source)
        if child is None:
            child = self._ages[source] = self.age.labels(source)
        return child


class OutboxCollector(Collector):
    """How many events wait in the outbox, counted when it is asked."""

    def __init__(self, sizes: Callable[[], dict[str, int]]) -> None:
        self._sizes = sizes

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("autonomic_outbox_events", "Events that wait for their destination.", labels=["destination"])
        for destination, size in self._sizes().items():
            family.add_metric([destination], size)
        yield family
