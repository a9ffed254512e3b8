"""What every host tells of its workflows, whatever runs them."""

import time
from typing import Any, ClassVar

from autonomic.platforms.host import metrics, records, restarts
from autonomic.platforms.host.intents import Intents
from autonomic.platforms.host.notices import Notices
from autonomic.platforms.host.records import ServiceRecord
from autonomic.platforms.host.restarts import Restart
from autonomic.platforms.host.routes import Routes
from autonomic.platforms.host.services import Services
from autonomic.seams.abilities import Abilities
from autonomic.seams.errors import Permanent
from autonomic.seams.platform import PART_RESTARTED
from autonomic.seams.state import State

_NO_KUBERNETES = "This platform runs no workflows on Kubernetes, so there is nothing to read there; use the signal platform instead"


class BaseHost:
    """The questions that a host answers from its parts; whoever derives from it makes the parts."""

    abilities: ClassVar[Abilities]
    settings: Any
    services: Services
    intents: Intents
    notices: Notices
    runs: Any
    _routes: Routes

    def capabilities(self) -> frozenset[str]:
        """The primitives that `apply` knows, and what workflows may ask for."""
        return self.abilities.primitives | self.abilities.features

    def observe(self, target: str) -> State:
        """See `seams.platform.Platform.observe`."""
        name, _, step = target.partition("/")
        workflow = self.services.workflows().get(name)
        if workflow is not None and (not step or step in workflow.services):
            service = self.services.observe(name, step) if step else None
            spec = records.seen(workflow.services[step]) if step else workflow.spec
            return State(
                target=target,
                kind="online",
                revision=self.intents.revision(target),
                spec=spec,
                package=workflow.package,
                service=service,
                differs=(*self.differs(target), *self.services.waiting(target)),
                faults=self._detector_faults(name, step),
            )
        runs = tuple(self.runs.list(name))
        if runs and (not step or step in runs[0].steps):
            return State(target=target, kind="batch", revision=self.intents.revision(target), runs=runs)
        return State(target=target, kind="absent", revision=self.intents.revision(target), differs=tuple(self.services.waiting(target)))

    def report_restart(self, part: str, why: str) -> None:
        """Records that a part was started again, and publishes the notice `part_restarted`; nothing where there is no `why`."""
        if not why:
            return
        restarts.record(self.settings.home, Restart(time=time.time(), part=part, why=why))
        self.notices.tell(PART_RESTARTED, part, {"part": part, "why": why})

    def missing(self) -> tuple[str, ...]:
        """What the host needs and cannot reach now, in words; empty while it lacks nothing."""
        return ()

    def differs(self, target: str) -> tuple[str, ...]:
        """How what runs of a workflow or a service differs from what is declared, and why."""
        return ()

    def drift(self, workflow: str, service: str) -> dict[str, Any] | None:
        """What a service's drift detector said last (see `drift.told`), None where there is no such service."""
        return None

    def _detector_faults(self, name: str, step: str) -> tuple[str, ...]:
        """What is wrong with the drift detectors of a service, or of all of a workflow."""
        found: list[str] = []
        for service, record in self.services.workflows()[name].services.items():
            if record.spec.drift is not None and step in ("", service):
                said = self.drift(name, service) or {}
                found += [f"the drift detector of {name}/{service}: {said[kind]}" for kind in ("error", "warning") if said.get(kind)]
        return tuple(found)

    def cluster(self, target: str, parts: list[str]) -> dict[str, Any] | None:
        """What Kubernetes says of a target."""
        raise Permanent(_NO_KUBERNETES)

    def news(self, source: str) -> dict[str, Any]:
        """What happened on the Kubernetes cluster."""
        raise Permanent(_NO_KUBERNETES)

    def urls(self) -> dict[str, str]:
        """Where requests for each service are sent, by `workflow/service`."""
        return {
            f"{name}/{service}": self._routes.url(name, service)
            for name, workflow in self.services.workflows().items()
            for service in workflow.services
        }

    def metrics(self, workflow: str = "") -> str:
        """The host's own metrics in Prometheus' text format, or what they say of one workflow."""
        return metrics.exposition(self.services, self._routes, workflow)

    def scrape_targets(self) -> list[dict[str, Any]]:
        """The replicas for Prometheus' http_sd."""
        return [
            {
                "targets": [f"{replica.host}:{replica.port}"],
                "labels": {"workflow": name, "service": service, "role": role, "replica": replica.id, "node": replica.node},
            }
            for replica, name, service, role in self.services.all_registered()
        ]


def described(workflow: str, record: ServiceRecord, role: str) -> dict[str, Any]:
    """The fields of a `serving.config.ServerConfig` that follow from the records alone."""
    spec, model = record.spec, record.roles[role].model
    return {
        "workflow": workflow,
        "service": spec.name,
        "role": role,
        "name": spec.name,
        "model": model,
        "model_version": model.rstrip("/").rpartition("/")[2],
        "max_batch_size": spec.batching.max_batch_size,
        "max_wait_seconds": spec.batching.max_wait,
        "max_in_flight": spec.max_in_flight,
        "max_rows": spec.max_rows,
        "timeout_seconds": spec.timeout,
        "device_time_seconds": spec.device_time,
    }
