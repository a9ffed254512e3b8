"""The runs of batch workflows as the host hands them on, and the notices of what becomes of them."""

import threading
from typing import Any

from autonomic.platforms.host.services import Tell
from autonomic.platforms.host.store import Store
from autonomic.platforms.ray import cluster_runs
from autonomic.platforms.ray.cluster_store import ClusterStore
from autonomic.platforms.ray.lasting import lasting_runs
from autonomic.platforms.ray.run_actor import RUNS
from autonomic.platforms.ray.settings import HostSettings
from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent
from autonomic.seams.state import FINISHED, RunState
from autonomic.workflows.runs.attempt_logs import joined


class BatchRuns:
    """The runs of the cluster that this process is connected to; `store` keeps them beyond its end."""

    def __init__(self, settings: HostSettings, store: Store, clock: Clock) -> None:
        self._settings = settings
        self._lasting = lasting_runs(ClusterStore(RUNS), store, clock)
        self._lasting.restore()
        self._lock = threading.Lock()
        self._seen = {run.id: run.status for run in cluster_runs.list_runs() if run.status not in FINISHED}

    def resume(self) -> None:
        """Goes on with those that nobody drives, and starts what drives the runs to come."""
        cluster_runs.resume_runs(tracking_uri=self._settings.mlflow_url)

    def leave(self) -> None:
        """Ends what drives runs, once none goes on."""
        cluster_runs.leave_runs()

    def keep_changes(self) -> None:
        """Keeps what has changed."""
        self._lasting.keep_changes()

    def start(self, to: dict[str, Any]) -> None:
        """Starts a run unless one with this id was started before.

        Raises:
            Permanent: it cannot be run.
        """
        try:
            run = cluster_runs.start_run(to, tracking_uri=self._settings.mlflow_url, home=self._settings.folder)
        except ValueError as invalid:
            raise Permanent(f"The run {to.get('run_id')} cannot be started: {invalid}") from invalid
        self._lasting.keep(run.id)
        with self._lock:
            self._seen.setdefault(run.id, "pending")

    def stop(self, run_ids: list[str]) -> None:
        """Stops runs; those that have ended stay as they are."""
        cluster_runs.stop_runs(run_ids)
        for run_id in run_ids:
            self._lasting.keep(run_id)

    def list(self, workflow: str | None = None) -> list[RunState]:
        """All runs (of one workflow), the newest first."""
        return cluster_runs.list_runs(workflow)

    def get(self, run_id: str) -> RunState | None:
        """A run, None where it is not known."""
        return cluster_runs.get_run(run_id)

    def log(self, run_id: str, step: str, tail: int | None, attempt: int | None = None) -> str | None:
        """What a step's attempts (or one) have printed, or the last `tail` lines; None where there is no such run, step or attempt."""
        run = cluster_runs.get_run(run_id)
        if run is None or step not in run.steps:
            return None
        return joined(cluster_runs.read_logs(run_id, step, attempt), attempt, tail)

    def tell_changes(self, tell: Tell) -> None:
        """A notice for each run whose status is another one than when it was last looked at."""
        with self._lock:
            active = dict(self._seen)
        for run_id, before in active.items():
            run = cluster_runs.get_run(run_id)
            status = run.status if run else "stopped"
            if status == before:
                continue
            if run is not None:
                tell(f"run_{status}", run.workflow, {"run_id": run_id, "status": status, "detail": run.detail})
            with self._lock:
                if status in FINISHED:
                    self._seen.pop(run_id, None)
                else:
                    self._seen[run_id] = status
