"""The monitor put together."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from prometheus_client import CollectorRegistry

from autonomic.agents.auth import Tokens
from autonomic.agents.bus import HttpBus
from autonomic.agents.journal import SqlJournal
from autonomic.agents.monitor import alerts, labels
from autonomic.agents.monitor.intake import Intake
from autonomic.agents.monitor.loop import PLANNER, MonitorLoop
from autonomic.agents.monitor.metrics import MonitorMetrics, OutboxCollector
from autonomic.agents.monitor.news import News, NewsSource
from autonomic.agents.monitor.reader import Reader
from autonomic.agents.monitor.watched import Watched, Work
from autonomic.agents.settings import Settings
from autonomic.seams.clock import SystemClock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.ids import RandomIds
from autonomic.seams.reading import Reading, missing
from autonomic.seams.state import State
from autonomic.signals.kubernetes import SOURCES as KUBERNETES_SOURCES
from autonomic.signals.kubernetes import KubernetesEvents
from autonomic.signals.runs import HOST_TYPES, RunEvents
from autonomic.signals.scrape import http_fetch
from autonomic.signals.table import SIGNALS, Sources
from autonomic.strategies.readings import fill, group, label_of

HOST_SECONDS = 5.0
ALERTS = "alerts"
MLFLOW_TYPES = ("dev.autonomic.mlflow.run.finished", "dev.autonomic.model.version.created")
FIRE_SECONDS = 30.0
READY_SECONDS = 60.0
"""An older error says nothing of whether its signal answers now: a strategy may look once an hour."""


class MonitorService:
    """The loop with its signals, the intake and the bus, from the settings of one installation."""

    def __init__(self, settings: Settings, tokens: Tokens, registry: CollectorRegistry) -> None:
        self.settings = settings
        self.clock = SystemClock()
        self.ids = RandomIds()
        self.metrics = MonitorMetrics(registry)
        self.journal = SqlJournal(settings.journal("monitor"))
        registry.register(OutboxCollector(lambda: {PLANNER: 0, labels.HOST: 0, **self.journal.outbox_sizes()}))
        self._host_token = tokens["host"]
        self._platform: Any = None
        sources = Sources(
            clock=self.clock,
            prometheus_url=settings.prometheus_url,
            mlflow_url=settings.mlflow_url,
            host_url=settings.host_url,
            fetch=http_fetch(self._host_token, settings.host_url),
            observe=self._observe,
            drift=lambda workflow, service: self._host().drift(workflow, service),
            cluster=lambda target, parts: self._host().cluster(target, parts),
            newest=lambda event_type: self.intake.newest(event_type),
        )
        self.reader = Reader({name: make(sources) for name, make in SIGNALS.items()})
        self.loop = MonitorLoop(self.clock, self.ids, self.journal, self.reader, self.metrics)
        self.intake = Intake(self.journal, self.loop, self.clock, self.metrics)
        self.turns = alerts.StatusTurns(self.journal.state(ALERTS)[0] or {})
        self.news = [News(source, self.journal, self.loop, self.intake) for source in self._news_sources()]
        self.bus = HttpBus(
            self.journal,
            self.clock,
            {PLANNER: settings.planner_url},
            tokens["act"],
            routes={labels.HOST: labels.route(lambda *given: self._host().add_labels(*given))},
        )

    def start(self) -> None:
        """Begins to watch and to deliver."""
        self.bus.start()
        self.intake.restore()
        self.loop.start()
        for news in self.news:
            news.start()
        self.clock.call_at(self.clock.now() + 60, self._prune)

    def stop(self) -> None:
        """Ends what is under way; what is not delivered goes out after the next start."""
        for news in self.news:
            news.stop()
        self.loop.stop()
        self.bus.stop()
        self.reader.close()
        self.journal.close()

    def missing(self) -> dict[str, str]:
        """What keeps the monitor from its work: signals of which every reading of the last minute was an error."""
        found = {f"strategy {name}": why for name, why in self.intake.unreadable.items()}
        errors: dict[str, str] = {}
        answering: set[str] = set()
        since = self.clock.now() - READY_SECONDS
        for watched in self.loop.all():
            for query in watched.queries if watched.evaluated_at >= since else ():
                answer = watched.latest.get(query.name, ())
                for reading in (answer,) if isinstance(answer, Reading) else answer:
                    if reading.status == "error":
                        errors[query.signal] = reading.detail
                    else:
                        answering.add(query.signal)
        return found | {f"signal {signal}": why for signal, why in errors.items() if signal not in answering}

    def read(self, watched: Watched, by: Mapping[str, str]) -> dict[str, Reading]:
        """A strategy's readings now, for one label value, with its policy for missing ones.

        Raises:
            Permanent: `by` does not name the label of a reading.
        """
        (found,), now = self.loop.read([watched], again=True)
        strategy = watched.strategy
        by_labels = {name: label for name, spec in strategy.spec.readings.items() if (label := label_of(spec)) is not None}
        if set(by) - set(by_labels.values()):
            raise Permanent(
                f"by: {', '.join(sorted(by))} is given; the readings of {watched.name} are by {sorted(set(by_labels.values()))}"
            )
        filled, _ = fill(strategy, found, watched.memory.state.last, now)
        groups = group(strategy, filled) or {}
        chosen = groups.get(tuple(by.items()))
        if chosen is not None:
            return chosen
        singles = {name: several[0] for name, several in filled.items() if name not in by_labels}
        wanted = ", ".join(f"{name}={value}" for name, value in by.items()) or "any label"
        return {**singles, **{name: missing(now, strategy.spec.readings[name].signal, f"nothing for {wanted}") for name in by_labels}}

    def fire(self, watched: Watched, trigger: str) -> list[str]:
        """Looks at a strategy now; the ids of the events that it fired.

        Raises:
            Retryable: its readings take too long; it is still looked at.
        """
        asked = self.loop.ask(watched, Work(trigger))
        try:
            return [event.id for event in asked.result(FIRE_SECONDS)]
        except TimeoutError:
            raise Retryable(f"the readings of {watched.name} take longer than {FIRE_SECONDS:g} s") from None

    def look_up(self, target: str, ids: Sequence[str], inputs: bool = False) -> dict[str, list[dict[str, Any]]]:
        """Those of the prediction ids that a service's log has; with `inputs` each with its tensors, asked from the host."""
        workflow, service = target.split("/")
        return self._host().look_up(workflow, service, ids, inputs)

    def keep_turns(self) -> None:
        """Remembers which alerts fired and were resolved, for after a restart."""
        with self.journal.transaction() as transaction:
            transaction.put_state(ALERTS, self.turns.kept())

    def points(self, target: str, state: Literal["unlabelled", "labelled", "all"]) -> list[dict[str, Any]]:
        """The critical points of a service, asked from the host."""
        workflow, service = target.split("/")
        return self._host().points(workflow, service, state)

    def _news_sources(self) -> list[NewsSource]:
        found: list[NewsSource] = []
        if self.settings.mlflow_url:
            found.append(NewsSource("mlflow", MLFLOW_TYPES, self._mlflow_events))
        if self.settings.host_url:
            found.append(NewsSource("runs", HOST_TYPES, lambda: RunEvents(lambda cursor: self._host().watch(cursor))))
            for name, types in KUBERNETES_SOURCES.items():
                events = KubernetesEvents(name, lambda source: self._host().news(source))
                found.append(NewsSource(f"kubernetes-{name}", types, lambda events=events: events))
        return found

    def _mlflow_events(self) -> Any:
        from autonomic.signals.mlflow import MlflowEvents

        return MlflowEvents(self.settings.mlflow_url, self.clock.now)

    def _observe(self, target: str) -> State:
        return self._host().observe(target)

    def _host(self) -> Any:
        if not self.settings.host_url:
            raise Retryable("no host is configured", 30)
        if self._platform is None:
            from autonomic.platforms.host.client import HostPlatform

            self._platform = HostPlatform(self.settings.host_url, self._host_token, HOST_SECONDS)
        return self._platform

    def _prune(self) -> None:
        self.journal.prune(self.clock.now() - self.settings.keep_days * 86400.0)
        self.clock.call_at(self.clock.now() + 3600, self._prune)
