"""What the next attempts of steps get, and where they run: see `resize` and `reschedule`."""

from typing import Any

from autonomic.platforms.host import records
from autonomic.platforms.host.intents import Prepared, Refused
from autonomic.platforms.host.store import Store
from autonomic.seams.plan import Change
from autonomic.workflows.runs.run_records import RunRecords
from autonomic.workflows.spec.workflow import Resources, Step


class StepVariations:
    """The variations `{resources, placement}` of batch workflows, by step; "" stands for all steps of a workflow."""

    def __init__(self, store: Store, runs: RunRecords) -> None:
        self._store = store
        self._runs = runs

    def of(self, workflow: str, step: str) -> dict[str, Any]:
        """What varies of a step; what was said of it counts before what was said of its workflow."""
        kept = self._kept(workflow)
        return {**kept.get("", {}), **kept.get(step, {})}

    def prepare(self, change: Change) -> Prepared:
        """Looks at a `resize` or a `reschedule`; see `intents.Effects.prepare`."""
        workflow, _, step = change.target.partition("/")
        declared = self._declared(workflow)
        if not declared:
            raise Refused(f"{change.target} is neither a service that is deployed here nor a batch workflow that has run here")
        if step and step not in declared:
            raise Refused(f"{workflow} has no step {step!r}; it has {', '.join(declared)}")
        if change.primitive == "resize":
            return self._prepare_resize(change, workflow, step, declared)
        before = {"placement": self._kept(workflow).get(step, {}).get("placement", {})}
        to = {"placement": records.check_placement(change)}
        if "spread" in to["placement"]:
            raise Refused(f"{change.target} cannot be spread: each attempt of a step is one pod")
        return Prepared(to=to, before=before, unchanged=to == before, moves=(change.target,))

    def _prepare_resize(self, change: Change, workflow: str, step: str, declared: dict[str, Resources]) -> Prepared:
        if not step:
            raise Refused(f"{workflow} has several steps; resize names one of them, as {workflow}/{next(iter(declared))}")
        now = self.of(workflow, step).get("resources") or declared[step].size
        size = records.check_size(declared[step], now, change)
        return Prepared(to={"resources": size}, before={"resources": now}, unchanged=size == now, moves=(change.target,))

    def perform(self, change: Change) -> dict[str, Any]:
        """Makes attempts that begin from now on as the change says."""
        workflow, _, step = change.target.partition("/")
        kept = self._kept(workflow)
        self._store.put(f"step-variation/{workflow}", {**kept, step: {**kept.get(step, {}), **change.to}})
        return change.to

    def varied(self, workflow: str, step: Step) -> tuple[Step, dict[str, Any]]:
        """A step with the size that its next attempt has, and where that may run.

        A size that is outside of what is declared by now is left aside.
        """
        variation = self.of(workflow, step.name)
        size = variation.get("resources")
        if size and not records.outside(step.resources, size):
            step = step.model_copy(update={"resources": step.resources.resized(size)})
        return step, variation.get("placement", {})

    def _kept(self, workflow: str) -> dict[str, dict[str, Any]]:
        return self._store.get(f"step-variation/{workflow}") or {}

    def _declared(self, workflow: str) -> dict[str, Resources]:
        newest = next(iter(self._runs.runs(workflow)), None)
        request = self._runs.request(newest.id) if newest else None
        return {step.name: step.resources for step in request.batch.steps} if request else {}
