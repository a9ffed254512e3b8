"""Plans carried out by DBOS: one generic workflow interprets the frozen plan document, its steps are the effects."""

import json
import logging
import os
import sqlite3
import threading
from typing import Any

from pydantic import TypeAdapter

from autonomic.agents.planner.effects import Effects, perform
from autonomic.agents.planner.interpreter import Apply, Check, End, Lookup, Progress, Result, Revert, Wait, begin, cancel, next_step, record
from autonomic.agents.planner.plan_store import PlanStore
from autonomic.seams.clock import Clock
from autonomic.seams.journal import Journal
from autonomic.seams.plan import Plan
from autonomic.seams.runner import PlanStatus

APPLICATION_VERSION = "1"
"""The version of the interpreter. Were it DBOS's own hash of the source, an edited source would leave old plans pending without a word."""
EXECUTOR_ID = "planner"
_UNLIMITED = 1_000_000_000
_FORGOTTEN_TOGETHER = 500
_result: TypeAdapter[Result] = TypeAdapter(Result)


class DbosRunner:
    """A `PlanRunner`. Only the holder of the planner's lease may `launch` it: DBOS under one executor id is no lease.

    `database_url` is a SQLite file (`sqlite:///…`) or PostgreSQL. The journal gets a projection of how far each plan
    is, so that readers need not know which runner is at work. One instance a process, as DBOS is a singleton.
    """

    def __init__(self, journal: Journal, clock: Clock, effects: Effects, database_url: str, threads: int = 256) -> None:
        self._store = PlanStore(journal)
        self._journal = journal
        self._clock = clock
        self._effects = effects
        self._url = database_url
        self._threads = threads
        self._lock = threading.Lock()
        self._wakes: dict[str, threading.Event] = {}
        self._cancelled: dict[str, str] = {}
        self._dbos: Any = None
        self._workflow: Any = None
        self._stopping = threading.Event()

    def launch(self) -> None:
        """Opens the database and goes on with the plans that DBOS knows as pending."""
        os.environ.setdefault("DO_NOT_TRACK", "1")
        from dbos import DBOS

        _write_ahead(self._url)
        self._cancelled |= self._store.cancelled()
        self._dbos = DBOS
        DBOS(
            config={
                "name": "autonomic-planner",
                "system_database_url": self._url,
                "application_version": APPLICATION_VERSION,
                "executor_id": EXECUTOR_ID,
                "db_engine_kwargs": _engine_options(self._url),
                "max_executor_threads": self._threads,
                "log_level": "WARNING",
                "enable_otlp": False,
                # plans neither listen for messages nor run by schedule; the listener sleeps this long also when it is to end
                "notification_listener_polling_interval_sec": 2.0,
                "scheduler_polling_interval_sec": 600.0,
            }
        )
        logging.getLogger("dbos").setLevel(logging.ERROR)

        @DBOS.workflow(name="plan", max_recovery_attempts=_UNLIMITED)
        def interpret(document: str) -> str:
            return self._interpret(document)

        self._workflow = interpret
        DBOS.launch()

    def start(self, plan: Plan) -> None:
        with self._journal.transaction() as transaction:
            self._store.open(transaction, plan, self._clock.now())
        self._submit(plan)

    def resume_all(self) -> list[str]:
        from dbos import DBOS

        plans = self._store.open_plans()
        for plan_id in plans:
            progress = self._store.load(plan_id)
            known = DBOS.get_workflow_status(plan_id)
            if known is not None and known.status in ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"):
                DBOS.resume_workflow(plan_id)
            elif progress is not None and known is None:
                # a crash came between the journal's commit and DBOS's
                self._submit(progress.status.plan)
        return plans

    def cancel(self, plan_id: str, why: str = "") -> bool:
        if not self._store.cancel(plan_id, why):
            return False
        self._cancelled[plan_id] = why
        with self._lock:
            wake = self._wakes.get(plan_id)
        if wake is not None:
            wake.set()
        return True

    def status(self, plan_id: str) -> PlanStatus | None:
        progress = self._store.load(plan_id)
        return progress.status if progress else None

    def forget(self, before: float) -> None:
        plans = self._store.ended_before(before)
        for start in range(0, len(plans), _FORGOTTEN_TOGETHER):
            some = plans[start : start + _FORGOTTEN_TOGETHER]
            # the journal's copy last: what it knows is forgotten again after a crash
            self._dbos.delete_workflows(some)
            self._store.forget(some)

    def stop(self) -> None:
        """Starts no further step and closes the database; what is open goes on with the next `launch`."""
        self._stopping.set()
        with self._lock:
            for wake in self._wakes.values():
                wake.set()
        if self._dbos is not None:
            self._dbos.destroy(destroy_registry=True, workflow_completion_timeout_sec=2)

    def _submit(self, plan: Plan) -> None:
        from dbos import SetWorkflowID

        with SetWorkflowID(plan.id):
            self._dbos.start_workflow(self._workflow, plan.model_dump_json())

    def _interpret(self, document: str) -> str:
        # deterministic but for the steps: time and cancellation come out of them
        plan = Plan.model_validate_json(document)
        progress, now = begin(plan, plan.created_at), plan.created_at
        while (step := next_step(progress, now)) is not None:
            before = progress.status
            if isinstance(step, End):
                progress = record(progress, step, None, now)
            else:
                told = json.loads(self._dbos.run_step({"name": type(step).__name__}, self._carry_out, progress, step))
                now = told["now"]
                progress = record(progress, step, _result.validate_python(told["result"]), now)
                if told["cancelled"] is not None:
                    progress = cancel(progress, told["cancelled"])
            if (not isinstance(step, Wait | Check) or progress.status != before) and self._store.save(progress):
                self._effects.progressed(before, progress.status)
        with self._lock:
            self._wakes.pop(plan.id, None)
            self._cancelled.pop(plan.id, None)
        return progress.status.phase

    def _carry_out(self, progress: Progress, step: Apply | Revert | Lookup | Check | Wait) -> str:
        plan_id = progress.status.plan.id
        if self._stopping.is_set():
            raise SystemExit("the planner stops; the plan goes on with its next start")
        result: Result = None
        if isinstance(step, Wait):
            with self._lock:
                wake = self._wakes.setdefault(plan_id, threading.Event())
            if plan_id not in self._cancelled:
                wake.wait(max(0.0, step.until - self._clock.now()))
            if self._stopping.is_set():
                raise SystemExit("the planner stops; the plan goes on with its next start")
        elif not (isinstance(step, Apply | Revert) and plan_id in self._cancelled):
            # what was cancelled since the step before has no further effect
            result = perform(self._effects, progress, step, self._clock.now())
        told = {"result": _result.dump_python(result, mode="json"), "now": self._clock.now(), "cancelled": self._cancelled.get(plan_id)}
        return json.dumps(told)


class _Connection(sqlite3.Connection):
    """Does not wait for the disk at each commit, as the journal does not: a killed process loses nothing, and what a machine
    that loses power forgets is done again under the same keys."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA synchronous=NORMAL")


def _engine_options(url: str) -> dict[str, Any]:
    return {"connect_args": {"factory": _Connection}} if url.startswith("sqlite:") else {}


def _write_ahead(url: str) -> None:
    # DBOS would leave the file in rollback mode, where each step's commit blocks readers and costs more
    path = url.removeprefix("sqlite:///")
    if path != url:
        connection = sqlite3.connect(path, timeout=30)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
