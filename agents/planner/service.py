"""The planner put together: inbox, workers, engine, runner, effectors, mirror."""

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from autonomic.agents.auth import Tokens
from autonomic.agents.bus import HttpBus
from autonomic.agents.journal import SqlJournal
from autonomic.agents.leases import SqlLeases, process_holder
from autonomic.agents.logs import logger
from autonomic.agents.planner import specs as documents
from autonomic.agents.planner.dispatcher import Dispatcher
from autonomic.agents.planner.effectors import AgentsEffector, TunerEffector
from autonomic.agents.planner.engine import Engine
from autonomic.agents.planner.inbox import Arrived, Inbox
from autonomic.agents.planner.leadership import Leadership
from autonomic.agents.planner.metrics import Metrics
from autonomic.agents.planner.mirror import RunMirror
from autonomic.agents.planner.monitor_client import MonitorReadings
from autonomic.agents.planner.plan_effects import PlanEffects
from autonomic.agents.planner.plan_store import PlanStore
from autonomic.agents.planner.runner_dbos import DbosRunner
from autonomic.agents.planner.runner_journal import JournalRunner
from autonomic.agents.settings import Settings
from autonomic.seams.clock import SystemClock
from autonomic.seams.decision import Action, DecisionRecord
from autonomic.seams.errors import AutonomicError, Permanent, Retryable
from autonomic.seams.event import SPECS_APPLIED, CloudEvent, Event
from autonomic.seams.ids import RandomIds
from autonomic.seams.journal import Record
from autonomic.seams.plan import Plan
from autonomic.seams.runner import PlanStatus
from autonomic.strategies.spec.strategy import Strategy
from autonomic.workflows.platforms.ray.client import RayPlatform
from autonomic.workflows.spec.workflow import OnlineSpec, Workflow

APPLIED = "specs.applied"
RUNNERS = ("dbos", "journal")
_ATTEMPTS = 5
_log = logger(__name__)


class Planner:
    """Everything between an event and its verified effect. `start` and `stop` once each."""

    def __init__(self, settings: Settings, tokens: Tokens, metrics: Metrics) -> None:
        if settings.plan_runner not in RUNNERS:
            raise Permanent(f"plan_runner {settings.plan_runner!r} is not known; known are {', '.join(RUNNERS)}")
        self.settings = settings
        self.metrics = metrics
        self.clock = SystemClock()
        self.ids = RandomIds()
        self.journal = SqlJournal(settings.journal("planner"))
        self.plans = PlanStore(self.journal)
        self.platform = RayPlatform(settings.host_url, tokens["host"])
        self.inbox = Inbox(self.journal, self.clock)
        self.bus = HttpBus(self.journal, self.clock, {"monitor": settings.monitor_url, "tuner": settings.tuner_url}, tokens["act"])
        self.mirror = RunMirror(self.journal, self.clock, self.platform)
        self._readings = MonitorReadings(settings.monitor_url, tokens["act"])
        self._pool = ThreadPoolExecutor(32, thread_name_prefix="plan")
        self._leases = SqlLeases(self.journal, process_holder())
        self.leadership = Leadership(self._leases, self._gained, self._lost)
        self._effects = self._make_effects(tokens)
        self.runner = self._make_runner()
        self.engine = self._make_engine()
        self._dispatcher: Dispatcher[Arrived] = Dispatcher(self._handle)
        self._attempts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._active = False
        self.specs = documents.load(self.journal)
        self.engine.set_specs(self.specs.workflows, self.specs.strategies, self.specs.packages)

    def start(self) -> None:
        """Begins to ask for the lease; events are accepted at once and acted on when it is held."""
        self.bus.start()
        self.mirror.start()
        self.leadership.start()

    def stop(self) -> None:
        """Ends after the effects that are under way; everything open goes on with the next start."""
        with self._lock:
            self._active = False
        self._dispatcher.stop()
        if self.leadership.held:
            self.runner.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.leadership.stop()
        self.mirror.stop()
        self.bus.stop()
        self._readings.close()
        self.journal.close()

    def missing(self) -> dict[str, str]:
        """What keeps the planner from its work."""
        parts: dict[str, str] = {}
        if not self._active:
            holder = self._leases.holder("planner")
            parts["lease"] = f"held by {holder.holder}" if holder else "not acquired yet"
        if self.mirror.missing:
            parts["platform"] = self.mirror.missing
        return parts

    def accept(self, events: Sequence[CloudEvent]) -> int:
        """Commits events and hands the new ones to the workers; returns how many were new."""
        with self._lock:
            arrived = self.inbox.accept(events)
            if self._active:
                for item in arrived:
                    self._dispatcher.put(item.target, item)
        return len(arrived)

    def by_hand(self, action: Action, *, dry_run: bool, actor: str) -> DecisionRecord:
        """Judges and, if the gate agrees, plans what a person asks for.

        Raises:
            Retryable: this planner does not hold the lease.
        """
        self._must_lead()
        record = self.engine.by_hand(action, dry_run=dry_run, actor=actor)
        if not dry_run:
            self.metrics.decided(record)
        return record

    def _must_lead(self) -> None:
        if not self._active:
            raise Retryable("this planner does not hold the lease yet; try again", 1.0)
