"""The detached actor that drives one search: Optuna suggests, Ray Tune schedules, each trial is a run of the workflow."""

import os
import shutil
import threading
import time
from functools import partial
from typing import Any

import ray

from autonomic.platforms.ray.cluster_runs import get_run, start_run, stop_runs
from autonomic.platforms.ray.cluster_store import ClusterStore
from autonomic.seams.clock import SystemClock
from autonomic.seams.errors import Permanent
from autonomic.seams.state import FINISHED, RunState
from autonomic.workflows.runs.search_book import SearchBook
from autonomic.workflows.runs.search_records import SearchRecords, Space, Trial
from autonomic.workflows.runs.search_space import decode, distributions, known_points, quiet_optuna

SEARCHES = "autonomic-searches"
"""Where searches stand in the cluster's store."""
_POLL_SECONDS = 0.2
_HOLD_SECONDS = 1.0


def cluster_searches() -> SearchRecords:
    """The searches of the Ray cluster that this process is connected to."""
    return SearchRecords(ClusterStore(SEARCHES))


class SearchActor:
    """Drives a search to its end and then ends itself.

    After a restart it goes on with its trials: what has ended is told to Optuna, what was running is taken up again under its
    own run. The suggestions that follow are drawn from the seed and the number of trials, so they do not repeat.
    """

    def __init__(self, search_id: str) -> None:
        records = cluster_searches()
        request, state = records.request(search_id), records.state(search_id)
        if request is None or state is None:
            raise Permanent(f"the cluster's store knows no search {search_id!r}")
        self._request = request
        start = partial(start_run, tracking_uri=request.tracking_uri, home=request.home)
        self._book = SearchBook(records, request, state, SystemClock(), start, get_run)
        self._self = ray.get_runtime_context().current_actor
        threading.Thread(target=self._drive, name="search", daemon=True).start()

    def may_begin(self) -> bool:
        """Whether another trial may begin now.

        Raises:
            Permanent: none will, for the search was asked to stop.
        """
        if self._book.asked_to_stop:
            raise Permanent("the search was asked to stop")
        return not self._book.held

    def begin(self, parameters: dict[str, Any]) -> Trial:
        """See `SearchBook.begin`."""
        return self._book.begin(parameters)

    def end(self, number: int, run: RunState) -> float:
        """See `SearchBook.end`."""
        return self._book.end(number, run)

    def _drive(self) -> None:
        if not self._book.state.finished:
            self._book.open()
            detail = ""
            try:
                self._tune()
            except Exception as error:  # noqa: BLE001 - the boundary: whatever ends the search becomes its state
                detail = f"{type(error).__name__}: {error}"
            stop_runs(self._book.unfinished(), "its search has ended")
            self._book.close(detail)
        ray.kill(self._self)

    def _tune(self) -> None:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
        from ray import tune
        from ray.tune.search.optuna import OptunaSearch

        quiet_optuna()
        request, trials = self._request, self._book.state.trials
        left = self._book.left
        if left <= 0:
            return
        first, valued = known_points(request, trials)
        searcher = OptunaSearch(
            distributions(request.space),
            metric=request.metric,
            mode=request.mode,
            points_to_evaluate=first,
            seed=request.seed + len(trials),
        )
        for point, value in valued:
            searcher.add_evaluated_point(point, value)
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


def _run_trial(config: dict[str, Any], search: Any, space: Space, metric: str) -> None:
    from ray import tune

    while not ray.get(search.may_begin.remote()):
        time.sleep(_HOLD_SECONDS)
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
            return cluster_searches().asked_to_stop(search_id)

    return AskedToStop()
