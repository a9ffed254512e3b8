"""The detached actor that drives one search: Optuna suggests, Ray Tune schedules, each trial is a run of the workflow."""

import contextlib
import math
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any, Literal

import ray
from pydantic import Field

from autonomic.seams.clock import SystemClock
from autonomic.seams.errors import AutonomicError, Permanent, Retryable
from autonomic.seams.state import FINISHED, RunState
from autonomic.seams.word import Word
from autonomic.workflows.batch.cluster_store import ClusterStore
from autonomic.workflows.batch.ray_runs import get_run, start_run, stop_runs
from autonomic.workflows.batch.search_space import Space, decode, distributions, encode, quiet_optuna
from autonomic.workflows.registry.client import Mlflow
from autonomic.workflows.spec.workflow import BatchSpec, Workflow

_POLL_SECONDS = 0.2
_TRACKING_PATIENCE_SECONDS = 60.0
_STATUS = {"succeeded": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class SearchRequest(Word):
    """All that a search was started with."""

    id: str
    workflow: str
    spec: Workflow
    package: str = ""
    metric: str
    mode: Literal["min", "max"]
    space: Space
    trials: int = Field(ge=1)
    parallel: int = Field(1, ge=1)
    parameters: dict[str, Any] = {}
    seed: int = 0
    tracking_uri: str = ""
    home: Path

    def check(self) -> None:
        """Whether it can be searched.

        Raises:
            Permanent: says why not.
        """
        if not isinstance(self.spec.spec, BatchSpec):
            raise Permanent(f"{self.workflow} is an online workflow; a search runs a batch workflow")
        if not self.space:
            raise Permanent("a search needs at least one parameter to search")
        distributions(self.space)

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters of the workflow as it was applied, with those of the search."""
        assert isinstance(self.spec.spec, BatchSpec)
        return {**self.spec.spec.parameters, **self.parameters}


class Trial(Word):
    """One run of the workflow with its own parameters; `value` is the metric's."""

    number: int
    run_id: str
    parameters: dict[str, Any]
    default: bool = False
    status: Literal["running", "succeeded", "failed", "stopped"] = "running"
    value: float | None = None
    detail: str = ""
    started_at: float
    finished_at: float | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


class SearchState(Word):
    """A search as it stands; `best` is {number, parameters, value} of the best trial so far."""

    id: str
    workflow: str
    status: Literal["pending", "running", "succeeded", "failed", "stopped"] = "pending"
    metric: str
    mode: Literal["min", "max"]
    trials: tuple[Trial, ...] = ()
    best: dict[str, Any] | None = None
    tracking_run: str = ""
    detail: str = ""
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


class SearchRecords:
    """What the cluster's store holds of searches."""

    def __init__(self) -> None:
        self._store = ClusterStore("autonomic-searches")

    def add(self, request: SearchRequest) -> bool:
        return self._store.put_new(f"request/{request.id}", request.model_dump(mode="json", by_alias=True))

    def request(self, search_id: str) -> SearchRequest | None:
        return self._store.read(f"request/{search_id}", SearchRequest)

    def state(self, search_id: str) -> SearchState | None:
        return self._store.read(f"state/{search_id}", SearchState)

    def put_state(self, state: SearchState) -> None:
        self._store.put(f"state/{state.id}", state.model_dump(mode="json"))

    def ask_to_stop(self, search_id: str) -> None:
        self._store.put(f"stop/{search_id}", True)

    def asked_to_stop(self, search_id: str) -> bool:
        return self._store.get(f"stop/{search_id}") is not None


class SearchActor:
    """Drives a search to its end and then ends itself.

    After a restart it goes on with its trials: what has ended is told to Optuna, what was running is taken up again under its
    own run. The suggestions that follow are drawn from the seed and the number of trials, so they do not repeat.
    """

    def __init__(self, search_id: str) -> None:
        self._records = SearchRecords()
        request, state = self._records.request(search_id), self._records.state(search_id)
        if request is None or state is None:
            raise Permanent(f"the cluster's store knows no search {search_id!r}")
        self._request = request
        self._state = state
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._adopted: set[int] = set()
        self._self = ray.get_runtime_context().current_actor
        threading.Thread(target=self._drive, name="search", daemon=True).start()

    def begin(self, parameters: dict[str, Any]) -> Trial:
        """The trial with these parameters, its run started; one left over from before a restart is taken up."""
        request = self._request
        with self._lock:
            trial = next(
                (
                    trial
                    for trial in self._state.trials
                    if not trial.finished and trial.number not in self._adopted and trial.parameters == parameters
                ),
                None,
            )
            if trial is None:
                number = len(self._state.trials)
                trial = Trial(
                    number=number,
                    run_id=f"{request.id}-{number}",
                    parameters=parameters,
                    default=self._is_first_with_the_defaults(parameters),
                    started_at=self._clock.now(),
                )
                self._save(trials=(*self._state.trials, trial))
            self._adopted.add(trial.number)
            to = {
                "run_id": trial.run_id,
                "spec": request.spec.model_dump(mode="json", by_alias=True),
                "parameters": {**request.parameters, **parameters},
                "package": request.package,
                "cause": request.id,
                "parent": self._tracking_run(),
            }
        start_run(to, tracking_uri=request.tracking_uri, home=request.home)
        return trial

    def end(self, number: int, run: RunState) -> float:
        """Notes how a trial's run has ended, and returns its value.

        Raises:
            Permanent: it has none.
        """
        status, value, detail = run.status, run.outputs.get(self._request.metric), run.detail
        if status == "succeeded" and not _is_number(value):
            status = "failed"
            detail = f"the last steps gave no number {self._request.metric!r}; they gave {', '.join(run.outputs) or 'nothing'}"
        with self._lock:
            trials = list(self._state.trials)
            fields = {"status": status, "detail": detail, "finished_at": self._clock.now()}
            trials[number] = trials[number].model_copy(update={**fields, "value": value if status == "succeeded" else None})
            self._save(trials=tuple(trials), best=_best(trials, self._request.mode))
        if status != "succeeded" or value is None:
            raise Permanent(f"trial {number} {status}: {detail}")
        return float(value)

    def _is_first_with_the_defaults(self, parameters: dict[str, Any]) -> bool:
        # parallel trials begin in any order, so the default's number is not always 0
        defaults = self._request.defaults
        matches = all(defaults.get(name) == value for name, value in parameters.items())
        return matches and not any(trial.default for trial in self._state.trials)

    def _drive(self) -> None:
        if not self._state.finished:
            with self._lock:
                self._save(status="running", started_at=self._state.started_at or self._clock.now())
            detail = ""
            try:
                self._tune()
            except Exception as error:  # noqa: BLE001 - the boundary: whatever ends the search becomes its state
                detail = f"{type(error).__name__}: {error}"
            stop_runs([trial.run_id for trial in self._state.trials if not trial.finished], "its search has ended")
            self._finish(detail)
        ray.kill(self._self)

    def _tune(self) -> None:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
        from ray import tune
        from ray.tune.search.optuna import OptunaSearch

        quiet_optuna()
        request, trials = self._request, self._state.trials
        left = request.trials - sum(trial.finished for trial in trials)
        if left <= 0:
            return
        first = [point for trial in trials if not trial.finished and (point := encode(request.space, trial.parameters)) is not None]
        default = encode(request.space, request.defaults)
        if not trials and default is not None:
            first = [default]
        searcher = OptunaSearch(
            distributions(request.space),
            metric=request.metric,
            mode=request.mode,
            points_to_evaluate=first,
            seed=request.seed + len(trials),
        )
        for trial in trials:
            point = encode(request.space, trial.parameters)
            if trial.value is not None and point is not None:
                searcher.add_evaluated_point(point, trial.value)
        storage = request.home / "searches" / request.id
        shutil.rmtree(storage, ignore_errors=True)
        try:
            trainable = tune.with_parameters(_run_trial, search=self._self, space=request.space, metric=request.metric)
            tuner = tune.Tuner(
                # the trial only waits for its run, whose steps ask for their own resources
                tune.with_resources(trainable, {"cpu": 0.001}),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    metric=request.metric,
                    mode=request.mode,
                    num_samples=left,
                    max_concurrent_trials=request.parallel,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(name="tune", storage_path=str(storage), verbose=0, callbacks=[], stop=_stopper(request.id)),
            )
            tuner.fit()
        finally:
            shutil.rmtree(storage, ignore_errors=True)

    def _finish(self, detail: str) -> None:
        for trial in self._state.trials:
            run = get_run(trial.run_id)
            if not trial.finished and run is not None and run.status in FINISHED:
                with contextlib.suppress(Permanent):
                    self.end(trial.number, run)
        if self._records.asked_to_stop(self._request.id):
            status = "stopped"
        elif detail or self._state.best is None:
            status = "failed"
            reasons = [trial.detail for trial in self._state.trials if trial.detail]
            detail = detail or f"no trial succeeded; the last said: {reasons[-1] if reasons else 'nothing'}"
        else:
            status = "succeeded"
        with self._lock:
            self._save(status=status, detail=detail, finished_at=self._clock.now())
        self._track_end(status)

    def _save(self, **fields: Any) -> None:
        self._state = self._state.model_copy(update=fields)
        self._records.put_state(self._state)

    def _tracking_run(self) -> str:
        # a search goes on without MLflow; its trials then stand beside it, not below it
        if self._state.tracking_run or not self._request.tracking_uri:
            return self._state.tracking_run
        server = Mlflow(self._request.tracking_uri, timeout_seconds=5.0)
        try:
            tags = {"autonomic.search_id": self._request.id, "autonomic.workflow": self._request.workflow}
            run = server.create_run(server.experiment(self._request.workflow), self._request.id, tags, self._state.started_at)
            run_id = str(run["info"]["run_id"])
            asked = {"metric": self._request.metric, "mode": self._request.mode, "seed": self._request.seed, "space": self._request.space}
            server.log(run_id, parameters=asked)
            self._save(tracking_run=run_id)
        except AutonomicError:
            return ""
        finally:
            server.close()
        return self._state.tracking_run

    def _track_end(self, status: str) -> None:
        deadline = self._clock.monotonic() + _TRACKING_PATIENCE_SECONDS
        while True:
            try:
                self._track_end_once(status)
                return
            except Retryable as away:
                if self._clock.monotonic() > deadline:
                    self._save(detail="; ".join(filter(None, [self._state.detail, f"tracking is incomplete: {away}"])))
                    return
                self._clock.sleep(2.0)
            except Permanent as refused:
                self._save(detail="; ".join(filter(None, [self._state.detail, f"tracking is incomplete: {refused}"])))
                return

    def _track_end_once(self, status: str) -> None:
        run_id = self._tracking_run()
        if not run_id:
            return
        server = Mlflow(self._request.tracking_uri, timeout_seconds=5.0)
        try:
            if best := self._state.best:
                now_ms = int(self._clock.now() * 1000)
                server.log(
                    run_id,
                    metrics=[{"key": f"best.{self._request.metric}", "value": best["value"], "timestamp": now_ms, "step": 0}],
                    parameters={f"best.{name}": value for name, value in best["parameters"].items()},
                    tags={"autonomic.best_run": self._state.trials[best["number"]].run_id},
                )
            server.end_run(run_id, _STATUS[status], self._clock.now())
        finally:
            server.close()


def _run_trial(config: dict[str, Any], search: Any, space: Space, metric: str) -> None:
    from ray import tune

    trial: Trial = ray.get(search.begin.remote(decode(space, config)))
    while (run := get_run(trial.run_id)) is not None and run.status not in FINISHED:
        time.sleep(_POLL_SECONDS)
    if run is None:
        raise Permanent(f"the run {trial.run_id} is not known any more")
    tune.report({metric: ray.get(search.end.remote(trial.number, run))})


def _stopper(search_id: str) -> Any:
    from ray.tune import Stopper

    class AskedToStop(Stopper):
        """Ends the search at once when it was asked to stop, also after a restart."""

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return SearchRecords().asked_to_stop(search_id)

    return AskedToStop()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _best(trials: list[Trial], mode: str) -> dict[str, Any] | None:
    scored = [trial for trial in trials if trial.value is not None]
    if not scored:
        return None
    pick = max if mode == "max" else min
    best = pick(scored, key=lambda trial: trial.value if trial.value is not None else 0.0)
    return {"number": best.number, "parameters": best.parameters, "value": best.value, "default": best.default}
