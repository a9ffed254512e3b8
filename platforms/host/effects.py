"""What each primitive does: services change applications and the front, runs go to what drives them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from autonomic.platforms.host.intents import Prepared, Refused
from autonomic.platforms.host.planning import ONLINE, SHAPING, check_known, prepare_batch
from autonomic.platforms.host.services import Services
from autonomic.seams.abilities import Abilities
from autonomic.seams.plan import Change
from autonomic.seams.state import RunState
from autonomic.workflows.spec.capabilities import lacking
from autonomic.workflows.spec.documents import format_path
from autonomic.workflows.spec.workflow import Workflow


class Runs(Protocol):
    """The runs of batch workflows."""

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
    """The effects of a host; see `intents.Effects`. `predictions` names the prediction log of a service, `abilities` what the
    platform can do.
    """

    def __init__(self, services: Services, runs: Runs, predictions: Callable[[str, str], Path], abilities: Abilities) -> None:
        self._abilities = abilities
        self._services = services
        self._runs = runs
        self._predictions = predictions

    def prepare(self, change: Change) -> Prepared:
        check_known(change, self._abilities)
        if change.primitive in ("deploy", "run", "retrain"):
            self._check_lacks(change.to.get("spec"))
        if self._is_online(change):
            return self._services.prepare(change)
        prepared = prepare_batch(change, self._runs.list(change.target))
        if change.primitive == "retrain":
            return prepared.model_copy(update={"to": self._with_points(prepared.to)})
        return prepared

    def _check_lacks(self, document: Any) -> None:
        try:
            workflow = Workflow.model_validate(document)
        except ValidationError:
            # told by those who know what the document was to be
            return
        lacks = [f"{format_path(lack.path)}: {lack.message}" for lack in lacking(workflow, self._abilities) if lack.refused]
        if lacks:
            raise Refused("; ".join(lacks))

    def _is_online(self, change: Change) -> bool:
        shapes_service = change.primitive in SHAPING and change.target.partition("/")[0] in self._services.workflows()
        return change.primitive in ONLINE or shapes_service

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
        if self._is_online(change):
            return self._services.perform(change)
        if change.primitive == "stop":
            self._runs.stop(change.to["run_ids"])
            return change.to
        self._runs.start(change.to)
        return {"run_ids": [change.to["run_id"]]}
