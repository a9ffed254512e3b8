"""The book of one search: its trials, each a run of the workflow, the best so far, and its run in MLflow."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from autonomic.seams.clock import Clock
from autonomic.seams.errors import AutonomicError, Permanent, Retryable
from autonomic.seams.state import FINISHED, RunState
from autonomic.workflows.registry.client import Mlflow
from autonomic.workflows.runs.search_records import SearchRecords, SearchRequest, SearchState, Trial, best_of, is_number

_TRACKING_PATIENCE_SECONDS = 60.0
_TRACKING_TIMEOUT_SECONDS = 5.0
_STATUS = {"succeeded": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class SearchBook:
    """Keeps one search in the platform's store, so that whoever drives it may die at any time and go on.

    `start_run` starts the run that a change's `to` describes, unless it was started before; `get_run` gives a run by its id.
    May be used by several threads at once.
    """

    def __init__(
        self,
        records: SearchRecords,
        request: SearchRequest,
        state: SearchState,
        clock: Clock,
        start_run: Callable[[dict[str, Any]], object],
        get_run: Callable[[str], RunState | None],
    ) -> None:
        self._records = records
        self._request = request
        self._clock = clock
        self._start_run = start_run
        self._get_run = get_run
        self._lock = threading.Lock()
        self._taken_up: set[int] = set()
        self.state = state

    def open(self) -> None:
        """The search runs from now on."""
        with self._lock:
            self._save(status="running", started_at=self.state.started_at or self._clock.now())

    @property
    def left(self) -> int:
        """How many trials have not ended."""
        return self._request.trials - sum(trial.finished for trial in self.state.trials)

    @property
    def asked_to_stop(self) -> bool:
        return self._records.asked_to_stop(self._request.id)

    @property
    def held(self) -> bool:
        """Whether no further trial may begin now."""
        return bool(self._records.held(self._request.id)) and not self.asked_to_stop

    def begin(self, parameters: dict[str, Any]) -> Trial:
        """The trial with these parameters, its run started; one left over from before a restart is taken up."""
        request = self._request
        with self._lock:
            trial = next(
                (
                    trial
                    for trial in self.state.trials
                    if not trial.finished and trial.number not in self._taken_up and trial.parameters == parameters
                ),
                None,
            )
            if trial is None:
                number = len(self.state.trials)
                trial = Trial(
                    number=number,
                    run_id=f"{request.id}-{number}",
                    parameters=parameters,
                    default=self._is_first_with_the_defaults(parameters),
                    started_at=self._clock.now(),
                )
                self._save(trials=(*self.state.trials, trial))
            self._taken_up.add(trial.number)
            to = {
                "run_id": trial.run_id,
                "spec": request.spec.model_dump(mode="json", by_alias=True),
                "parameters": {**request.parameters, **parameters},
                "package": request.package,
                "cause": request.id,
                "parent": self._tracking_run(),
            }
        self._start_run(to)
        return trial

    def end(self, number: int, run: RunState) -> float:
        """Notes how a trial's run has ended, and returns its value.

        Raises:
            Permanent: it has none.
        """
        status, value, detail = run.status, run.outputs.get(self._request.metric), run.detail
        if status == "succeeded" and not is_number(value):
            status = "failed"
            detail = f"the last steps gave no number {self._request.metric!r}; they gave {', '.join(run.outputs) or 'nothing'}"
        self._note(number, status, detail, value if status == "succeeded" else None)
        if status != "succeeded" or value is None:
            raise Permanent(f"trial {number} {status}: {detail}")
        return float(value)

    def unfinished(self) -> list[str]:
        """The runs of the trials that have not ended."""
        return [trial.run_id for trial in self.state.trials if not trial.finished]

    def close(self, detail: str) -> None:
        """The search has ended and none of its runs goes on; `detail` says what went wrong, "" where nothing did."""
        for trial in self.state.trials:
            if trial.finished:
                continue
            run = self._get_run(trial.run_id)
            if run is not None and run.status in FINISHED:
                with contextlib.suppress(Permanent):
                    self.end(trial.number, run)
            else:
                self._note(trial.number, "stopped", "its run did not begin")
        if self.asked_to_stop:
            status = "stopped"
        elif detail or self.state.best is None:
            status = "failed"
            reasons = [trial.detail for trial in self.state.trials if trial.detail]
            detail = detail or f"no trial succeeded; the last said: {reasons[-1] if reasons else 'nothing'}"
        else:
            status = "succeeded"
        with self._lock:
            self._save(status=status, detail=detail, finished_at=self._clock.now())
        self._track_end(status)

    def _note(self, number: int, status: str, detail: str, value: float | None = None) -> None:
        with self._lock:
            trials = list(self.state.trials)
            fields = {"status": status, "detail": detail, "finished_at": self._clock.now(), "value": value}
            trials[number] = trials[number].model_copy(update=fields)
            self._save(trials=tuple(trials), best=best_of(tuple(trials), self._request.mode))

    def _is_first_with_the_defaults(self, parameters: dict[str, Any]) -> bool:
        # parallel trials begin in any order, so the default's number is not always 0
        defaults = self._request.defaults
        matches = all(defaults.get(name) == value for name, value in parameters.items())
        return matches and not any(trial.default for trial in self.state.trials)

    def _save(self, **fields: Any) -> None:
        self.state = self.state.model_copy(update=fields)
        self._records.put_state(self.state)

    # -- MLflow

    def _tracking_run(self) -> str:
        # a search goes on without MLflow; its trials then stand beside it, not below it
        if self.state.tracking_run or not self._request.tracking_uri:
            return self.state.tracking_run
        server = Mlflow(self._request.tracking_uri, timeout_seconds=_TRACKING_TIMEOUT_SECONDS)
        try:
            tags = {"autonomic.search_id": self._request.id, "autonomic.workflow": self._request.workflow}
            run = server.create_run(server.experiment(self._request.workflow), self._request.id, tags, self.state.started_at)
            run_id = str(run["info"]["run_id"])
            asked = {"metric": self._request.metric, "mode": self._request.mode, "seed": self._request.seed, "space": self._request.space}
            server.log(run_id, parameters=asked)
            self._save(tracking_run=run_id)
        except AutonomicError:
            return ""
        finally:
            server.close()
        return self.state.tracking_run

    def _track_end(self, status: str) -> None:
        deadline = self._clock.monotonic() + _TRACKING_PATIENCE_SECONDS
        while True:
            try:
                self._track_end_once(status)
                return
            except Retryable as away:
                if self._clock.monotonic() > deadline:
                    self._lacking(str(away))
                    return
                self._clock.sleep(2.0)
            except Permanent as refused:
                self._lacking(str(refused))
                return

    def _lacking(self, what: str) -> None:
        self._save(detail="; ".join(filter(None, [self.state.detail, f"tracking is incomplete: {what}"])))

    def _track_end_once(self, status: str) -> None:
        run_id = self._tracking_run()
        if not run_id:
            return
        server = Mlflow(self._request.tracking_uri, timeout_seconds=_TRACKING_TIMEOUT_SECONDS)
        try:
            if best := self.state.best:
                now_ms = int(self._clock.now() * 1000)
                server.log(
                    run_id,
                    metrics=[{"key": f"best.{self._request.metric}", "value": best["value"], "timestamp": now_ms, "step": 0}],
                    parameters={f"best.{name}": value for name, value in best["parameters"].items()},
                    tags={"autonomic.best_run": self.state.trials[best["number"]].run_id},
                )
            server.end_run(run_id, _STATUS[status], self._clock.now())
        finally:
            server.close()
