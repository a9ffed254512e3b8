"""Events from outside: committed, counted once, then looked at by the strategies that wait for them."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from autonomic.agents.journal import SqlJournal, SqlTransaction
from autonomic.agents.logs import logger
from autonomic.agents.monitor.loop import DUE, MonitorLoop
from autonomic.agents.monitor.metrics import MonitorMetrics
from autonomic.agents.monitor.waits import Waits
from autonomic.agents.monitor.watched import Watched, Work
from autonomic.agents.problems import ProblemError
from autonomic.seams.clock import Clock
from autonomic.seams.event import SPECS_APPLIED, CloudEvent
from autonomic.seams.journal import Record
from autonomic.signals.kubernetes import concerns
from autonomic.strategies.spec.strategy import Strategy
from autonomic.workflows.spec.workflow import Workflow

Parsed = TypeVar("Parsed", Strategy, Workflow)
OUTSIDE = "event.outside"
SPECS = "specs"
WEBHOOK = "webhook/"
_log = logger(__name__)


class Intake:
    """Takes events in. `accept` is safe to call from any thread."""

    def __init__(self, journal: SqlJournal, loop: MonitorLoop, clock: Clock, metrics: MonitorMetrics) -> None:
        self._journal = journal
        self._loop = loop
        self._clock = clock
        self._metrics = metrics
        self.waits = Waits(journal, clock)
        self.unreadable: dict[str, str] = {}
        self._services: frozenset[str] = frozenset()
        self._newest: dict[str, tuple[Any, float]] = {
            key.removeprefix(WEBHOOK): (value["data"], value["time"]) for key, value in journal.states(WEBHOOK).items()
        }

    def newest(self, event_type: str) -> tuple[Any, float] | None:
        """The data of the newest event of a type and when it came in."""
        return self._newest.get(event_type)

    def knows(self, workflow: str, service: str) -> bool:
        """Whether a service was applied, as far as this monitor was told."""
        return f"{workflow}/{service}" in self._services

    def restore(self) -> None:
        """Watches the strategies that were applied last."""
        specs, _ = self._journal.state(SPECS)
        self._services = _services(specs or {})
        strategies: list[Strategy] = []
        for document in (specs or {}).get("strategies", []):
            try:
                strategies.append(Strategy.model_validate(document))
            except ValidationError as invalid:
                name = document.get("metadata", {}).get("name", "?")
                self.unreadable[name] = str(invalid)
                _log.error("an applied strategy cannot be read any more", extra={"strategy": name, "detail": str(invalid)})
        self._loop.replace(strategies)
        self.waits.keep(strategies)

    def accept(self, events: Sequence[CloudEvent]) -> int:
        """Commits events and returns how many were new.

        Raises:
            ProblemError: 422, a set of specs is not valid; nothing was taken.
        """
        applied = {id(event): _strategies(event) for event in events if event.type == SPECS_APPLIED}
        with self._journal.transaction() as transaction:
            new = transaction.accept_many(events)
            asked, newest = self._write(transaction, new)
        self._newest.update(newest)
        self._metrics.events.labels("other").inc(len(new))
        self._metrics.duplicates.inc(len(events) - len(new))
        for event in new:
            if event.type == SPECS_APPLIED:
                self.unreadable = {}
                self._services = _services(event.data)
                self._loop.replace(applied[id(event)])
                self.waits.keep(applied[id(event)])
        for watched, work in asked:
            self._loop.ask(watched, work)
        return len(new)

    def _write(
        self, transaction: SqlTransaction, new: Sequence[CloudEvent]
    ) -> tuple[list[tuple[Watched, Work]], dict[str, tuple[Any, float]]]:
        now = self._clock.now()
        told = [event.model_dump(mode="json", exclude_none=True) for event in new]
        records = [Record(time=now, kind=OUTSIDE, subject=event.type, data=document) for event, document in zip(new, told, strict=True)]
        transaction.append_many([record for record in records if record.subject != SPECS_APPLIED])
        states: dict[str, Any] = {}
        asked: list[tuple[Watched, Work]] = []
        newest: dict[str, tuple[Any, float]] = {}
        listening = {event.type: self._loop.listening(event.type) for event in new}
        for place, event in enumerate(new):
            if event.type == SPECS_APPLIED:
                states[SPECS] = event.data
                continue
            newest[event.type] = (event.data, now)
            for watched, trigger in listening[event.type]:
                if not concerns(event.type, event.subject or "", watched.strategy.spec.target):
                    continue
                key = f"{DUE}{now:017.6f}-{place:05d}-{watched.name}-{trigger.name}"
                work = Work(trigger.name, _data(event), key, now)
                asked.append((watched, work))
                states[key] = {"strategy": watched.name, "trigger": trigger.name, "data": work.data, "time": now}
        states.update({WEBHOOK + name: {"data": data, "time": time} for name, (data, time) in newest.items()})
        transaction.put_states(states)
        return asked, newest


def _strategies(event: CloudEvent) -> list[Strategy]:
    data = event.data if isinstance(event.data, dict) else {}
    documents, workflows = data.get("strategies"), data.get("workflows", [])
    if not isinstance(documents, list) or not isinstance(workflows, list):
        raise ProblemError(
            422, f"an event of type {SPECS_APPLIED} holds {{strategies: [...], workflows: [...]}}; event {event.id!r} does not"
        )
    _parsed("workflows", workflows, Workflow)
    return _parsed("strategies", documents, Strategy)


def _parsed(what: str, documents: list[Any], model: type[Parsed]) -> list[Parsed]:
    found: list[Parsed] = []
    for place, document in enumerate(documents):
        try:
            found.append(model.model_validate(document))
        except ValidationError as invalid:
            first = invalid.errors()[0]
            raise ProblemError(422, f"{what}[{place}]: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return found


def _services(specs: dict[str, Any]) -> frozenset[str]:
    """The services of the online workflows in a set of specs, as `workflow/service`."""
    return frozenset(
        f"{workflow['metadata']['name']}/{service['name']}"
        for workflow in specs.get("workflows", ())
        for service in workflow["spec"].get("services", ())
    )


def _data(event: CloudEvent) -> dict[str, Any]:
    """What a strategy sees of an event: its data, and under `event` what it is."""
    own = event.data if isinstance(event.data, dict) else {"value": event.data}
    return {**own, "event": {"id": event.id, "source": event.source, "type": event.type, "subject": event.subject or ""}}
