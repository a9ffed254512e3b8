"""What is kept of runs: the request that a run was started with, its state, its MLflow runs, and where its steps ran."""

import logging
from pathlib import Path
from typing import Any, Protocol

from autonomic.seams.state import FINISHED, RunState
from autonomic.seams.word import Word
from autonomic.workflows.runs.engine import new_run
from autonomic.workflows.spec.workflow import BatchSpec, Workflow

KEPT_RUNS = 500
_log = logging.getLogger(__name__)


class RunRequest(Word):
    """All that a run was started with. `parent` is the MLflow run that it is a part of."""

    run_id: str
    workflow: Workflow
    parameters: dict[str, Any]
    package: str = ""
    cause: str = ""
    parent: str = ""
    tracking_uri: str = ""
    home: Path

    @property
    def batch(self) -> BatchSpec:
        """The steps; a `RunRequest` is made of batch workflows only."""
        assert isinstance(self.workflow.spec, BatchSpec)
        return self.workflow.spec


class Documents(Protocol):
    """A key-value store; see `platforms.host.store.Store`."""

    def get(self, key: str) -> Any: ...

    def put(self, key: str, value: Any) -> None: ...

    def put_new(self, key: str, value: Any) -> bool: ...

    def delete(self, key: str) -> None: ...

    def keys(self, prefix: str) -> list[str]: ...


class RunRecords:
    """What the platform's store holds of runs."""

    def __init__(self, store: Documents) -> None:
        self._store = store

    def add(self, request: RunRequest) -> bool:
        """Keeps the request of a new run; False where the run is there already."""
        return self._store.put_new(f"request/{request.run_id}", request.model_dump(mode="json", by_alias=True))

    def request(self, run_id: str) -> RunRequest | None:
        data = self._store.get(f"request/{run_id}")
        return None if data is None else RunRequest.model_validate(data)

    def move_tracking(self, run_id: str, tracking_uri: str) -> None:
        """What the run has still to write goes to `tracking_uri`."""
        request = self.request(run_id)
        if request is not None and request.tracking_uri != tracking_uri:
            moved = request.model_copy(update={"tracking_uri": tracking_uri})
            self._store.put(f"request/{run_id}", moved.model_dump(mode="json", by_alias=True))

    def state(self, run_id: str) -> RunState | None:
        data = self._store.get(f"state/{run_id}")
        if data is not None:
            return RunState.model_validate(data)
        request = self.request(run_id)
        return None if request is None else first_state(request)

    def put_state(self, run: RunState) -> None:
        self._store.put(f"state/{run.id}", run.model_dump(mode="json"))

    def ids(self) -> list[str]:
        return [key.removeprefix("request/") for key in self._store.keys("request/")]

    def tracking(self, run_id: str) -> dict[str, Any]:
        return self._store.get(f"tracking/{run_id}") or {}

    def put_tracking(self, run_id: str, value: dict[str, Any]) -> None:
        self._store.put(f"tracking/{run_id}", value)

    def place(self, run_id: str, step: str) -> dict[str, Any] | None:
        """Where the step's newest attempt runs and keeps its log."""
        return next(reversed(self.places(run_id, step).values()), None)

    def places(self, run_id: str, step: str) -> dict[int, dict[str, Any]]:
        """Where each attempt of the step that started ran, and keeps its log."""
        prefix = f"place/{run_id}/{step}/"
        found = {int(key.removeprefix(prefix)): self._store.get(key) for key in self._store.keys(prefix)}
        return {attempt: place for attempt, place in sorted(found.items()) if place is not None}

    def put_place(self, run_id: str, step: str, attempt: int, place: dict[str, Any]) -> None:
        self._store.put(f"place/{run_id}/{step}/{attempt}", place)

    def open(self, run_id: str) -> None:
        """Notes that something is left to do for the run; it may have ended, and MLflow lack a part of it."""
        self._store.put(f"open/{run_id}", True)

    def close(self, run_id: str) -> None:
        """Notes that nothing is left to do for the run."""
        self._store.delete(f"open/{run_id}")

    def open_ids(self) -> list[str]:
        """The runs for which something is left to do."""
        return [key.removeprefix("open/") for key in self._store.keys("open/")]

    def forget(self, run_id: str) -> None:
        for key in self._store.keys(f"place/{run_id}/"):
            self._store.delete(key)
        for kind in ("open", "tracking", "state", "request"):
            self._store.delete(f"{kind}/{run_id}")

    def runs(self, workflow: str | None = None) -> list[RunState]:
        """All runs that are known (of one workflow), the newest first."""
        runs = [run for run_id in self.ids() if (run := self._listed(run_id)) is not None]
        newest = sorted(runs, key=lambda run: (run.started_at is None, run.started_at or 0.0, run.id), reverse=True)
        return [run for run in newest if workflow is None or run.workflow == workflow]

    def _listed(self, run_id: str) -> RunState | None:
        try:
            return self.state(run_id)
        except ValueError as unreadable:
            # one record that cannot be read never hides the others
            _log.warning("what is kept of the run %s cannot be read: %s", run_id, unreadable)
            return RunState(id=run_id, workflow="unknown", status="failed", detail=f"what is kept of this run cannot be read: {unreadable}")

    def too_many(self) -> list[RunRequest]:
        """The requests of the oldest runs that have ended and need not be kept any more."""
        if len(self.ids()) <= KEPT_RUNS * 1.1:
            return []
        runs = self.runs()
        ended = [run for run in runs if is_finished(run)]
        oldest = ended[KEPT_RUNS - (len(runs) - len(ended)) :]
        return [request for run in oldest if (request := self.request(run.id)) is not None]


def first_state(request: RunRequest) -> RunState:
    """The state of a run before anything was done."""
    return new_run(request.run_id, request.workflow.name, request.batch, request.parameters, request.cause)


def is_finished(run: RunState | None) -> bool:
    """Whether nobody has to drive the run."""
    return run is not None and run.status in FINISHED
