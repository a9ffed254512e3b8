"""The state machine of one run of a batch workflow. It does nothing itself: it says what to launch and what to kill."""

from typing import Any

from autonomic.seams.clock import Clock
from autonomic.seams.errors import AutonomicError
from autonomic.seams.state import FINISHED, RunState, StepState
from autonomic.seams.word import Word
from autonomic.workflows.spec.parameters import defaults
from autonomic.workflows.spec.references import resolve
from autonomic.workflows.spec.workflow import BatchSpec, Step

GRACE_SECONDS = 10.0
"""How long after its timeout a step may still report; who runs the step enforces the timeout itself."""
_KEPT_FAILURES = 10
_LONGEST_FAILURE = 500


class Launch(Word):
    """Start this attempt of a step with these keyword arguments."""

    step: str
    attempt: int
    arguments: dict[str, Any]


class Kill(Word):
    """End this attempt of a step; what it reports from now on is not heard."""

    step: str
    attempt: int


Order = Launch | Kill


def new_run(run_id: str, workflow: str, spec: BatchSpec, parameters: dict[str, Any], cause: str = "") -> RunState:
    """A run of which nothing has begun; `parameters` override those of the workflow."""
    return RunState(
        id=run_id,
        workflow=workflow,
        status="pending",
        parameters={**defaults(spec.parameters), **parameters},
        steps={step.name: StepState(name=step.name) for step in spec.steps},
        cause=cause,
    )


class Dag:
    """Drives the steps of one run.

    `run` is all that has to be kept: a `Dag` made from a kept run goes on where that stood, and launches again, as
    the same attempt, the steps whose end was not seen. A failed attempt is repeated after `backoff`, `2 * backoff`,
    `4 * backoff`… until `retries.limit` retries were made. When a step has failed, all that need it are stopped; the
    others go on, and the run has failed when they have ended.
    """

    def __init__(self, spec: BatchSpec, run: RunState, clock: Clock) -> None:
        self.run = run
        self._spec = spec
        self._steps = {step.name: step for step in spec.steps}
        self._clock = clock
        self._launched: set[str] = set()

    @property
    def finished(self) -> bool:
        return self.run.status in FINISHED

    def advance(self) -> list[Order]:
        """What has to be done now."""
        if self.finished:
            return []
        now = self._clock.now()
        if self.run.status == "pending":
            self._update_run(status="running", started_at=now)
        orders: list[Order] = [self._give_up(step) for step in self._spec.steps if self._overdue(step, now)]
        for step in self._spec.steps:
            if self._ready(step, now):
                orders += self._launch(step)
        self._finish()
        return orders

    def next_wake(self) -> float | None:
        """When `advance` has something to do if nothing is reported before (seconds since the epoch)."""
        times = [self._retry_at(step) for step in self._spec.steps if self._waits_for_retry(step)]
        times += [deadline for step in self._spec.steps if (deadline := self._deadline(step)) is not None]
        return min(times, default=None)

    def waiting(self, step: str, why: str) -> None:
        """Says why a launched step has not started."""
        if self.run.steps[step].status == "pending":
            self._update(step, detail=why)

    def started(self, step: str, attempt: int) -> bool:
        """The step's process runs. False where this attempt is not awaited any more."""
        if not self._awaited(step, attempt):
            return False
        self._update(step, status="running", started_at=self._clock.now(), finished_at=None, detail="")
        return True

    def progressed(self, step: str, attempt: int, text: str) -> None:
        """What a running step says of itself."""
        if self._awaited(step, attempt) and self.run.steps[step].status == "running":
            self._update(step, detail=text)

    def succeeded(self, step: str, attempt: int, outputs: dict[str, Any]) -> bool:
        """The step has ended well. False where this attempt is not awaited any more."""
        if not self._awaited(step, attempt):
            return False
        self._launched.discard(step)
        self._update(step, status="succeeded", outputs=outputs, finished_at=self._clock.now(), detail="")
        return True

    def failed(self, step: str, attempt: int, why: str, retry: bool = True) -> bool:
        """The attempt has failed; without `retry` it is the last. False where this attempt is not awaited any more."""
        if not self._awaited(step, attempt):
            return False
        self._launched.discard(step)
        now = self._clock.now()
        limit = self._steps[step].retries.limit
        told = f"attempt {attempt}: {why if len(why) <= _LONGEST_FAILURE else why[:_LONGEST_FAILURE] + '…'}"
        self._update(step, failures=(*self.run.steps[step].failures, told)[-_KEPT_FAILURES:])
        if retry and attempt <= limit:
            self._update(step, status="pending", finished_at=now)
            wait = self._retry_at(self._steps[step]) - now
            self._update(step, detail=f"{why}; retry {attempt} of {limit} in {wait:g} s")
        else:
            tried = f" (attempt {attempt} of {limit + 1})" if limit else ""
            self._update(step, status="failed", finished_at=now, detail=why + tried)
            self._stop_dependants(step)
        return True

    def cancel(self, why: str) -> list[Order]:
        """Stops the run: what runs is killed, what waits does not begin."""
        if self.finished:
            return []
        now = self._clock.now()
        orders: list[Order] = []
        for name, state in self.run.steps.items():
            if name in self._launched:
                orders.append(Kill(step=name, attempt=state.attempt))
            if state.status not in FINISHED:
                self._update(name, status="stopped", detail=why, finished_at=now)
        self._launched.clear()
        self._update_run(status="stopped", detail=why, finished_at=now)
        return orders

    def _launch(self, step: Step) -> list[Order]:
        state = self.run.steps[step.name]
        # an attempt whose end was not seen is made again under its number
        retrying = state.status == "pending" and state.finished_at is not None
        attempt = state.attempt + 1 if retrying or state.attempt == 0 else state.attempt
        self._update(step.name, status="pending", attempt=attempt, finished_at=None)
        self._launched.add(step.name)
        try:
            arguments = resolve(step.with_, self._names())
        except (AutonomicError, LookupError, ValueError) as unknown:
            self.failed(step.name, attempt, f"its arguments cannot be filled in: {unknown}", retry=False)
            return []
        return [Launch(step=step.name, attempt=attempt, arguments=arguments)]

    def _give_up(self, step: Step) -> Kill:
        attempt = self.run.steps[step.name].attempt
        self.failed(step.name, attempt, f"timed out after {step.timeout:g} s and did not report its end")
        return Kill(step=step.name, attempt=attempt)

    def _stop_dependants(self, failed: str) -> None:
        for step in self._spec.steps:
            if failed in step.needs and self.run.steps[step.name].status == "pending":
                self._update(step.name, status="stopped", detail=f"not run: it needs {failed}, which {self.run.steps[failed].status}")
                self._stop_dependants(step.name)

    def _finish(self) -> None:
        states = self.run.steps.values()
        if not all(state.status in FINISHED for state in states):
            return
        failed = [f"{state.name}: {state.detail}" for state in states if state.status == "failed"]
        needed = {name for step in self._spec.steps for name in step.needs}
        outputs: dict[str, Any] = {}
        for step in self._spec.steps:
            if step.name not in needed:
                outputs |= self.run.steps[step.name].outputs
        self._update_run(
            status="failed" if failed else "succeeded", detail="; ".join(failed), outputs=outputs, finished_at=self._clock.now()
        )

    def _ready(self, step: Step, now: float) -> bool:
        state = self.run.steps[step.name]
        if step.name in self._launched or state.status in FINISHED:
            return False
        if any(self.run.steps[name].status != "succeeded" for name in step.needs):
            return False
        return not self._waits_for_retry(step) or now >= self._retry_at(step)

    def _waits_for_retry(self, step: Step) -> bool:
        state = self.run.steps[step.name]
        return state.status == "pending" and state.finished_at is not None

    def _retry_at(self, step: Step) -> float:
        state = self.run.steps[step.name]
        return (state.finished_at or 0.0) + step.retries.backoff * 2 ** (state.attempt - 1)

    def _deadline(self, step: Step) -> float | None:
        state = self.run.steps[step.name]
        if step.timeout is None or state.status != "running" or state.started_at is None or step.name not in self._launched:
            return None
        return state.started_at + step.timeout + GRACE_SECONDS

    def _overdue(self, step: Step, now: float) -> bool:
        deadline = self._deadline(step)
        return deadline is not None and now >= deadline

    def _awaited(self, step: str, attempt: int) -> bool:
        return step in self._launched and self.run.steps[step].attempt == attempt

    def _names(self) -> dict[str, Any]:
        ended = {name: {"outputs": state.outputs} for name, state in self.run.steps.items() if state.status == "succeeded"}
        return {"parameters": self.run.parameters, "steps": ended, "run": {"id": self.run.id}}

    def _update(self, step: str, **fields: Any) -> None:
        steps = {**self.run.steps, step: self.run.steps[step].model_copy(update=fields)}
        self._update_run(steps=steps)

    def _update_run(self, **fields: Any) -> None:
        self.run = self.run.model_copy(update=fields)
