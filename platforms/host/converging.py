"""The online workflows of a host as a world to reconcile: what its records declare against the applications that run."""

from collections.abc import Callable, Mapping

from autonomic.platforms.host import records
from autonomic.platforms.host.apps import FAILED_FOR_GOOD, AppState
from autonomic.platforms.host.intents import Intents
from autonomic.platforms.host.reconcile import Actual, Desired, Gap, compare
from autonomic.platforms.host.records import WorkflowRecord
from autonomic.platforms.host.services import Services

_TOLD_CHARACTERS = 800
States = Callable[[], Mapping[str, AppState]]
"""All applications of the platform as they are now, by name."""


class ServicesWorld:
    """See `reconcile.World`. What a change is about to make is left to it, and both never work on one workflow at once."""

    def __init__(self, services: Services, intents: Intents, states: States) -> None:
        self._services = services
        self._intents = intents
        self._states = states

    def gaps(self) -> list[Gap]:
        # asked before the records are read: what a change makes in between is seen by the next look
        seen = self._states()
        desired, ours = declared(self._services.workflows()), self._services.made()
        targets = {*(wanted.target for wanted in desired.values()), *ours.values()}
        busy = {target for target in targets if self._intents.under_way(target)}
        found = compare(desired, {app: _actual(state) for app, state in seen.items()}, ours)
        return [gap.model_copy(update={"on_hold": True}) if gap.target in busy else gap for gap in found]

    def close(self, gap: Gap) -> None:
        self._intents.beside(gap.target, lambda: self._services.restore(gap.name))

    def lacking(self, target: str) -> list[str]:
        """What a workflow or a service declares and was deployed without, and why."""
        return [
            f"{name}/{service}: {role} is declared, and {why}"
            for name, workflow in self._services.workflows().items()
            for service, record in workflow.services.items()
            if target in (name, f"{name}/{service}")
            for role, why in record.lacking.items()
        ]


def declared(workflows: Mapping[str, WorkflowRecord]) -> dict[str, Desired]:
    """By name the applications that shall run."""
    return {
        entry.app: Desired(target=f"{name}/{service}", replicas=records.serve_target(record.spec, role, entry.replicas))
        for name, workflow in workflows.items()
        for service, record in workflow.services.items()
        for role, entry in record.roles.items()
    }


def _actual(state: AppState) -> Actual:
    failed = state.message.strip()[-_TOLD_CHARACTERS:] or state.status if state.status in FAILED_FOR_GOOD else ""
    return Actual(replicas=state.target, failed=failed, scaled_by=state.scaled_by)
