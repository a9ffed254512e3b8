"""Drives one run to its end: carries out what the state machine orders, hears what became of it, keeps the state."""

import queue
from typing import Any, Protocol

from autonomic.seams.clock import Clock
from autonomic.seams.state import RunState
from autonomic.seams.text import well_formed_value
from autonomic.workflows.registry.client import Mlflow
from autonomic.workflows.runs.engine import Dag, Kill, Launch, Order
from autonomic.workflows.runs.launcher import Attempt, Notes
from autonomic.workflows.runs.run_records import RunRecords, RunRequest
from autonomic.workflows.runs.tracking import SendArtifact, Tracking
from autonomic.workflows.spec.workflow import Step

CATCH_UP_SECONDS = 600.0
"""How long a run that has ended waits for an MLflow that is away."""
_TRACKING_TIMEOUT_SECONDS = 5.0


class Executor(Protocol):
    """What runs the attempts of steps, and reports to the driver's `hear` what becomes of them."""

    def launch(self, step: Step, attempt: Attempt) -> str:
        """Starts an attempt, unless it was started before; why it has to wait, "" where nothing is known of that."""
        ...

    def kill(self, step: str, attempt: int) -> None:
        """Ends an attempt; one that has ended is passed over."""
        ...


class RunDriver:
    """One run. `drive` is called once, from a thread of its own; what happens to steps is handed to `hear` from any.

    `code_tags` say in MLflow which code ran; `send_artifact` carries an artifact there from where its step ran.
    """

    def __init__(
        self,
        records: RunRecords,
        request: RunRequest,
        run: RunState,
        clock: Clock,
        executor: Executor,
        *,
        code_tags: dict[str, str],
        send_artifact: SendArtifact,
    ) -> None:
        self._records = records
        self._request = request
        self._clock = clock
        self._executor = executor
        self._dag = Dag(request.batch, run, clock)
        self._saved: RunState | None = None
        self._steps = {step.name: step for step in request.batch.steps}
        self._inbox: queue.Queue[dict[str, Any]] = queue.Queue()
        self._server = Mlflow(request.tracking_uri, timeout_seconds=_TRACKING_TIMEOUT_SECONDS) if request.tracking_uri else None
        self._tracking = self._start_tracking(self._server, code_tags, send_artifact) if self._server else None

    def hear(self, kind: str, step: str = "", attempt: int = 0, data: dict[str, Any] | None = None) -> None:
        """Takes a report.

        `kind` is "waiting" (data: why), "started" (data: where), "notes" (data: notes), "ended" (data: the result), "stop"
        (data: why) or "leave" (the drive ends, the run goes on).
        """
        self._inbox.put({"kind": kind, "step": step, "attempt": attempt, "data": data or {}})

    def drive(self) -> bool:
        """Returns when the run's state says that it has ended; False where it was left before."""
        while not self._dag.finished:
            for order in self._dag.advance():
                self._carry_out(order)
            self._save()
            if self._dag.finished:
                break
            wake = self._dag.next_wake()
            try:
                message = self._inbox.get(timeout=None if wake is None else max(0.0, wake - self._clock.now()))
            except queue.Empty:
                continue
            if message["kind"] == "leave":
                if self._tracking:
                    self._tracking.leave()
                return False
            self._take(message)
        self._save()
        return True

    def close(self) -> None:
        """Closes the connections to MLflow."""
        if self._server:
            self._server.close()

    def finish(self) -> None:
        """Waits, after the end, until MLflow has all."""
        if self._tracking:
            lacking = self._tracking.close(CATCH_UP_SECONDS)
            if lacking:
                run = self._dag.run
                detail = "; ".join(filter(None, [run.detail, f"tracking is incomplete: {lacking}"]))
                self._records.put_state(run.model_copy(update={"detail": detail}))

    def _take(self, message: dict[str, Any]) -> None:
        kind, data = message["kind"], message["data"] if message["kind"] == "notes" else well_formed_value(message["data"])
        if kind == "stop":
            for order in self._dag.cancel(data["why"]):
                self._carry_out(order)
            return
        step, attempt = message["step"], message["attempt"]
        if kind == "waiting":
            self._dag.waiting(step, data["why"])
        elif kind == "started":
            # told again by a watch that began anew, it is no news
            if self._dag.run.steps[step].status != "running" and self._dag.started(step, attempt):
                self._records.put_place(self._request.run_id, step, attempt, data)
        elif kind == "notes":
            self._take_notes(step, attempt, data["notes"])
        elif data["status"] == "succeeded":
            self._dag.succeeded(step, attempt, data["outputs"])
        else:
            self._dag.failed(step, attempt, data["detail"], data["retry"])

    def _take_notes(self, step: str, attempt: int, notes: Notes) -> None:
        for note in notes:
            if "progress" in note:
                self._dag.progressed(step, attempt, f"{note['progress']:.0%} {note['text']}".strip())
        if self._tracking:
            self._tracking.note(step, notes)

    def _carry_out(self, order: Order) -> None:
        if isinstance(order, Kill):
            self._executor.kill(order.step, order.attempt)
            return
        self._launch(order)

    def _launch(self, order: Launch) -> None:
        step, request = self._steps[order.step], self._request
        parent, child = self._tracking.run_ids(step.name) if self._tracking else ("", "")
        if parent and not self._dag.run.tracking_run:
            self._dag.run = self._dag.run.model_copy(update={"tracking_run": parent})
        if self._tracking:
            self._tracking.note(step.name, [{"time": self._clock.now(), "arguments": order.arguments}])
        attempt = Attempt(
            run_id=request.run_id,
            workflow=request.workflow.name,
            step=step.name,
            attempt=order.attempt,
            run=step.run,
            command=step.command,
            arguments=order.arguments,
            outputs=step.outputs,
            env={**request.batch.env, **step.env},
            timeout_seconds=step.timeout,
            folder=request.home / "runs" / request.run_id / step.name,
            models_cache=request.home / "models",
            tracking_uri=request.tracking_uri,
            tracking_run=child,
        )
        waits = self._executor.launch(step, attempt)
        if waits:
            self._dag.waiting(step.name, waits)

    def _save(self) -> None:
        if self._dag.run is not self._saved:
            self._saved = self._dag.run
            self._records.put_state(self._saved)
            if self._tracking:
                self._tracking.observe(self._saved)

    def _start_tracking(self, server: Mlflow, code_tags: dict[str, str], send_artifact: SendArtifact) -> Tracking:
        request = self._request
        return Tracking(
            server,
            self._dag.run,
            self._clock,
            tags=code_tags,
            parent=request.parent,
            known=self._records.tracking(request.run_id),
            on_known=lambda known: self._records.put_tracking(request.run_id, known),
            send_artifact=send_artifact,
        )
