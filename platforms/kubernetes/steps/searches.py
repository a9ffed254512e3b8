"""Searches over a workflow's parameters: Optuna suggests, a thread of the writer drives each search, each trial is a run.

A trial's steps are Jobs like those of any run. All that is known of a search is in the platform's store, so that the next
writer goes on where this one ended.
"""

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autonomic.platforms.kubernetes.objects.in_pod import WORK
from autonomic.platforms.kubernetes.objects.store import ConfigMapStore, Lost
from autonomic.platforms.kubernetes.patience import PatientStore, insist
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.platforms.kubernetes.steps.runs import KubernetesRuns
from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent
from autonomic.seams.state import FINISHED, RunState
from autonomic.workflows.runs.search_book import SearchBook
from autonomic.workflows.runs.search_records import SearchRecords, SearchRequest, SearchState

_HOLD_SECONDS = 1.0
MAX_TRIALS = 1000
"""All trials of a search are kept in one ConfigMap."""


class _Search:
    """One search that is driven here."""

    def __init__(self, searches: "KubernetesSearches", request: SearchRequest, state: SearchState) -> None:
        self._searches = searches
        self._request = request
        runs = searches.runs
        self._book = SearchBook(searches.records, request, state, searches.clock, runs.start, runs.get)
        self.changed = threading.Event()
        self.thread = threading.Thread(target=self._drive, daemon=True, name=f"search-{request.id}")
        self.thread.start()

    def _drive(self) -> None:
        # a younger writer has the search, or this one is stopping: it goes on elsewhere, or later
        with contextlib.suppress(Lost):
            self._book.open()
            detail = ""
            try:
                self._search()
            except Lost:
                raise
            except Exception as error:  # noqa: BLE001 - the boundary: whatever ends the search becomes its state
                detail = f"{type(error).__name__}: {error}"
            insist(lambda: self._searches.runs.stop(self._book.unfinished(), "its search has ended"), self._searches.stopping)
            self._book.close(detail)
        self._searches.left(self._request.id)

    def _search(self) -> None:
        import optuna

        from autonomic.workflows.runs.search_space import decode, distributions, known_points, quiet_optuna

        quiet_optuna()
        request, trials = self._request, self._book.state.trials
        space = distributions(request.space)
        direction = "maximize" if request.mode == "max" else "minimize"
        # drawn from the seed and the number of trials, so that what is suggested after a restart does not repeat
        sampler = optuna.samplers.TPESampler(seed=request.seed + len(trials))
        study = optuna.create_study(direction=direction, sampler=sampler)
        first, valued = known_points(request, trials)
        for point, value in valued:
            study.add_trial(optuna.trial.create_trial(params=point, distributions=space, value=value))
        for point in first:
            study.enqueue_trial(point)
        left = self._book.left
        running: dict[int, optuna.Trial] = {}
        while not self._book.asked_to_stop:
            while left and len(running) < request.parallel and not self._book.held:
                suggested = study.ask(space)
                running[self._book.begin(decode(request.space, suggested.params)).number] = suggested
                left -= 1
            if not running and left and self._book.held:
                self._wait_for_change()
                continue
            if not running:
                return
            for number, run in self._wait_for_runs(running):
                suggested = running.pop(number)
                try:
                    study.tell(suggested, self._book.end(number, run))
                except Permanent:
                    study.tell(suggested, state=optuna.trial.TrialState.FAIL)

    def _wait_for_change(self) -> None:
        if self._searches.stopping.is_set():
            raise Lost("this writer is stopping")
        self.changed.wait(_HOLD_SECONDS)
        self.changed.clear()

    def _wait_for_runs(self, running: Iterable[int]) -> list[tuple[int, RunState]]:
        """The runs among those of these trials that have ended; none where the search was asked to stop."""
        while not self._searches.stopping.is_set():
            self.changed.clear()
            runs = {number: self._searches.runs.get(self._book.state.trials[number].run_id) for number in running}
            if lost := [number for number, run in runs.items() if run is None]:
                raise Permanent(f"the run of trial {lost[0]} is not known any more")
            ended = [(number, run) for number, run in runs.items() if run is not None and run.status in FINISHED]
            if ended or self._book.asked_to_stop:
                return ended
            self.changed.wait()
        raise Lost("this writer is stopping")


class KubernetesSearches:
    """The searches of one installation. `run_changed` is to be called when a run has another status."""

    def __init__(self, settings: KubernetesSettings, store: ConfigMapStore, runs: KubernetesRuns, clock: Clock) -> None:
        self._settings = settings
        self.runs = runs
        self.clock = clock
        self.stopping = threading.Event()
        self.records = SearchRecords(PatientStore(store, self.stopping))
        self._lock = threading.Lock()
        self._driven: dict[str, _Search] = {}

    def resume(self) -> None:
        """Goes on with every search that has not ended."""
        for search_id in self.records.ids():
            self._drive(search_id)

    def close(self) -> None:
        """Leaves the searches as they are; the runs of their trials go on."""
        self.stopping.set()
        with self._lock:
            driven = list(self._driven.values())
        for search in driven:
            search.changed.set()
        for search in driven:
            search.thread.join(10)

    def run_changed(self) -> None:
        """A run has another status."""
        with self._lock:
            for search in self._driven.values():
                search.changed.set()

    def left(self, search_id: str) -> None:
        """A search is not driven here any more."""
        with self._lock:
            self._driven.pop(search_id, None)

    def start(self, search: dict[str, Any]) -> dict[str, Any]:
        """Starts a search unless one with its id was started before, and returns its state.

        Raises:
            Permanent: it cannot be searched; says why.
        """
        home = Path(self._settings.data_path or WORK)
        request = SearchRequest.read(search, self._settings.mlflow_url, home)
        if request.trials > MAX_TRIALS:
            raise Permanent(f"the search asks for {request.trials} trials; on Kubernetes at most {MAX_TRIALS} are made in one search")
        state = self.records.add(request, self.clock.now())
        self._drive(state.id)
        return state.model_dump(mode="json")

    def get(self, search_id: str) -> dict[str, Any] | None:
        """A search and its trials, None where it is not known."""
        state = self.records.state(search_id)
        return None if state is None else state.model_dump(mode="json")

    def hold(self, search_id: str, why: str) -> bool:
        """No further trial of a search begins while there is a `why`; False where it is not known."""
        if self.records.state(search_id) is None:
            return False
        self.records.hold(search_id, why)
        self.run_changed()
        return True

    def stop(self, search_id: str) -> dict[str, Any] | None:
        """Ends a search and the trials that run; those that ended are kept. None where it is not known."""
        state = self.records.state(search_id)
        if state is not None and not state.finished:
            self.records.ask_to_stop(search_id)
            search = self._drive(search_id)
            if search is not None:
                search.changed.set()
        return self.get(search_id)

    def _drive(self, search_id: str) -> _Search | None:
        with self._lock:
            request, state = self.records.request(search_id), self.records.state(search_id)
            driven = self._driven.get(search_id)
            if driven is None and request is not None and state is not None and not state.finished:
                driven = self._driven[search_id] = _Search(self, request, state)
            return driven
