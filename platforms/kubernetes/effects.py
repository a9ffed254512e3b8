"""What changes do on this platform, and what is told of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from autonomic.platforms.host.effects import HostEffects
from autonomic.platforms.host.intents import Prepared, Refused
from autonomic.platforms.host.planning import SHAPING, check_known
from autonomic.platforms.host.records import WorkflowRecord, parse_online
from autonomic.platforms.host.services import Services
from autonomic.platforms.kubernetes.abilities import ABILITIES
from autonomic.platforms.kubernetes.adopted.workloads import Adopted
from autonomic.platforms.kubernetes.services.exposure import ExposedRoutes
from autonomic.platforms.kubernetes.steps.runs import KubernetesRuns
from autonomic.seams.plan import Change
from autonomic.workflows.spec.units import format_bytes
from autonomic.workflows.spec.workflow import OnlineSpec, Resources

TellDone = Callable[[str, str, str, str], None]
"""(application, key of the change, reason, message)."""


class KubernetesEffects(HostEffects):
    """The effects of this platform: what its settings or the cluster do not allow is refused before anything is touched."""

    def __init__(
        self,
        services: Services,
        runs: KubernetesRuns,
        adopted: Adopted,
        predictions: Callable[[str, str], Path],
        data_path: str,
        routes: ExposedRoutes,
        tell: TellDone,
    ) -> None:
        super().__init__(services, runs, predictions, ABILITIES)
        self._variations = runs.variations
        self._adopted = adopted
        self._data_path = data_path
        self._routes = routes
        self._tell = tell

    def prepare(self, change: Change) -> Prepared:
        check_known(change, ABILITIES)
        if self._adopted.concerns(change):
            if change.target in self._services.workflows():
                raise Refused(f"{change.target} is deployed here; delete it before another workload is adopted by this name")
            return self._adopted.prepare(change)
        if change.primitive == "deploy" and not self._data_path:
            spec = parse_online(change.to.get("spec")).spec
            drift = [service.name for service in spec.services if service.drift] if isinstance(spec, OnlineSpec) else []
            if drift:
                raise Refused(
                    f"{', '.join(drift)} asks for a drift detector, which reads the prediction log, and data_path names no folder to keep "
                    "one in. Name one in the cluster's settings, or take drift: away"
                )
        if change.primitive in SHAPING and not self._is_online(change):
            return self._variations.prepare(change)
        if change.primitive == "retarget":
            raise Refused(f"{change.target} is not adopted; retarget acts on what an HPA or a ScaledObject scales")
        prepared = super().prepare(change)
        if change.primitive == "deploy" and isinstance(spec := parse_online(change.to.get("spec")).spec, OnlineSpec):
            for service in spec.services:
                self._routes.check(change.target, service)
        return prepared

    def perform(self, change: Change, before: dict[str, Any]) -> dict[str, Any]:
        if self._adopted.concerns(change):
            return self._adopted.perform(change)
        if change.primitive in SHAPING and not self._is_online(change):
            return self._variations.perform(change)
        done = super().perform(change, before)
        if self._is_online(change):
            for app, words in done_to(change, self._services.workflows().get(change.target.partition("/")[0])):
                self._tell(app, change.key, change.primitive.capitalize(), f"{words} (change {change.key})")
        return done


def done_to(change: Change, record: WorkflowRecord | None) -> Iterator[tuple[str, str]]:
    """The applications that a change of an online workflow was about, and what it did to each; `record` is after it. Pure."""
    _, _, name = change.target.partition("/")
    for service in record.services.values() if record else ():
        if name not in ("", service.spec.name):
            continue
        for role, entry in service.roles.items():
            share = f"{service.weights.get(role, 0)}% of the traffic"
            of = f"{role} of {service.spec.name}"
            whole = f"{of}: {entry.model}, {entry.replicas} replicas, {share}"
            words = {
                "rescale": f"{of}: {entry.replicas} replicas",
                "reroute": f"{of}: {share}",
                "resize": f"{of}: {_amounts(service.resources)} for each replica",
                "reschedule": f"{of}: placed by {service.variation['placement'] or 'its declaration alone'}",
            }
            concerned = {"rescale": role == change.to.get("role"), "upgrade": role in change.to.get("models", {})}
            if concerned.get(change.primitive, True):
                yield entry.app, words.get(change.primitive, whole)


def _amounts(size: Resources) -> str:
    memory = f", {format_bytes(size.memory)} of memory" if size.memory else ""
    return f"{size.cpu:g} CPU{memory}{f', {size.gpu:g} GPU' if size.gpu else ''}"
