"""What each primitive does on Ray: services change Serve and the front, runs go to their actors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from autonomic.seams.plan import Change
from autonomic.seams.state import FINISHED, RunState
from autonomic.workflows.platforms.ray.intents import Prepared, Refused
from autonomic.workflows.platforms.ray.services import Services
from autonomic.workflows.spec.workflow import BatchSpec, Workflow

ONLINE = frozenset({"deploy", "delete", "rescale", "reroute", "upgrade"})
BATCH = frozenset({"run", "stop", "retrain"})


class Runs(Protocol):
    """The runs of batch workflows; see `workflows.batch.ray_runs`."""

    def start(self, to: dict[str, Any]) -> None:
        """Starts a run unless one with this id was started before."""
        ...

    def stop(self, run_ids: list[str]) -> None:
        """Stops runs; those that have ended stay as they are."""
        ...

    def list(self, workflow: str | None = None) -> list[RunState]:
        """All runs, the newest first."""
        ...


class HostEffects:
    """The effects of a host; see `intents.Effects`. `predictions` names the prediction log of a service."""

    def __init__(self, services: Services, runs: Runs, predictions: Callable[[str, str], Path]) -> None:
        self._services = services
        self._runs = runs
        self._predictions = predictions

    def prepare(self, change: Change) -> Prepared:
        if change.effector != "platform":
            raise Refused(f"{change.key} is for the effector {change.effector!r}; this one is the platform")
        if change.primitive in ONLINE:
            return self._services.prepare(change)
        if change.primitive == "stop":
            active = {run.id for run in self._runs.list(change.target) if run.status not in FINISHED}
            wanted = [str(run) for run in change.to.get("run_ids", [])]
            stopping = [run for run in wanted if run in active]
            return Prepared(to={"run_ids": wanted}, before={"run_ids": stopping}, unchanged=not stopping, moves=(change.target,))
        if change.primitive in BATCH:
            return self._prepare_run(change)
        allowed = ", ".join(sorted(ONLINE | BATCH))
        raise Refused(f"The platform ray does not know the primitive {change.primitive!r}; it knows {allowed}")

    def _prepare_run(self, change: Change) -> Prepared:
        try:
            workflow = Workflow.model_validate(change.to.get("spec"))
        except ValueError as invalid:
            raise Refused(f"The workflow to run is not valid: {invalid}") from None
        if not isinstance(workflow.spec, BatchSpec):
            raise Refused(f"{workflow.name} is an online workflow: it is deployed, not run")
        if workflow.name != change.target:
            raise Refused(f"The target is {change.target!r} and the workflow to run is named {workflow.name!r}; they must be the same")
        if not change.to.get("run_id"):
            raise Refused(f"{change.primitive} needs a run_id")
        if change.primitive == "retrain":
            active = [run.id for run in self._runs.list(change.target) if run.status not in FINISHED and run.id != change.to["run_id"]]
            if active:
                raise Refused(f"{change.target} is in flight already (run {active[0]}); a second retraining is not started beside it")
            return Prepared(to=self._with_points(change.to), before={"run_ids": []}, moves=(change.target,))
        return Prepared(to=change.to, before={"run_ids": []}, moves=(change.target,))

    def _with_points(self, to: dict[str, Any]) -> dict[str, Any]:
        # steps read the prediction log of a service; they get it as a file where the change names the service
        points = to.get("parameters", {}).get("points")
        if not isinstance(points, str) or not points or ":" in points or points.startswith("/"):
            return to
        name, _, service = points.partition("/")
        if self._services.record(name, service) is None:
            raise Refused(f"points names {points!r}, which is not a service that is deployed here")
        return {**to, "parameters": {**to["parameters"], "points": f"file://{self._predictions(name, service)}"}}

    def perform(self, change: Change, before: dict[str, Any]) -> dict[str, Any]:
        if change.primitive in ONLINE:
            return self._services.perform(change, before)
        if change.primitive == "stop":
            self._runs.stop(change.to["run_ids"])
            return change.to
        self._runs.start(change.to)
        return {"run_ids": [change.to["run_id"]]}
