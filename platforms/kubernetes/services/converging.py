"""What is declared of online workflows against what is on the cluster: what was deleted or changed by hand is a gap like any other."""

import logging

from autonomic.platforms.host.converging import ServicesWorld, declared
from autonomic.platforms.host.intents import Intents
from autonomic.platforms.host.reconcile import Desired, Gap, amount
from autonomic.platforms.host.services import Services
from autonomic.platforms.kubernetes.objects import names
from autonomic.platforms.kubernetes.services.apps import KubernetesApps
from autonomic.seams.errors import AutonomicError

_log = logging.getLogger(__name__)


class KubernetesWorld:
    """See `reconcile.World`. Beside what every platform compares, a Deployment of ours is to be as we wrote it last."""

    def __init__(self, services: Services, apps: KubernetesApps, intents: Intents) -> None:
        self._services = services
        self._apps = apps
        self._intents = intents
        self._world = ServicesWorld(services, intents, apps.states)

    def gaps(self) -> list[Gap]:
        found = {gap.name: gap for gap in self._world.gaps() if gap.close != "scale" or not self._apps.is_scaled_by_others(gap.name)}
        for name, wanted in declared(self._services.workflows()).items():
            if name in found and found[name].close == "create":
                continue
            if self._intents.under_way(wanted.target):
                continue
            writer = self._apps.changed_by(names.dns_name(name))
            if writer is None:
                # this writer has not written it yet: what was changed while nobody looked is put right, and nothing else is done
                self._restore_quietly(name, wanted.target)
            elif writer:
                found[name] = changed(name, wanted, writer, self._apps.targets().get(name, ("", wanted.replicas))[1])
        found |= {gap.name: gap for gap in self._leftovers()}
        return list(found.values())

    def _leftovers(self) -> list[Gap]:
        """Applications that no record knows, as where the memory was lost: they serve on until what is declared runs instead."""
        workflows, made = self._services.workflows(), self._services.made()
        known = declared(workflows).keys() | made.keys()
        found: list[Gap] = []
        for name, (target, replicas) in self._apps.targets().items():
            workflow = workflows.get(target.partition("/")[0])
            if name in known or workflow is None or self._intents.under_way(target):
                continue
            entries = [entry for record in workflow.services.values() for entry in record.roles.values()]
            if all(len(self._services.registered(entry.app)) >= entry.replicas for entry in entries):
                found.append(Gap(name=name, target=target, close="delete", desired="nothing", actual=f"{replicas} replicas"))
        return found

    def close(self, gap: Gap) -> None:
        self._world.close(gap)

    def lacking(self, target: str) -> list[str]:
        """See `ServicesWorld.lacking`."""
        return self._world.lacking(target)

    def _restore_quietly(self, name: str, target: str) -> None:
        try:
            self._intents.beside(target, lambda: self._services.restore(name))
        except AutonomicError as away:
            _log.warning("%s could not be looked at yet: %s", name, away)


def changed(name: str, wanted: Desired, writer: str, replicas: int | None) -> Gap:
    """The gap of a Deployment that somebody else changed, and that has so many replicas now. Pure."""
    if replicas == wanted.replicas:
        return Gap(name=name, target=wanted.target, close="replace", desired="its own version", actual=f"one that {writer} changed")
    # the rest of what was changed is put right with it
    desired, actual = amount(wanted.replicas), amount(replicas)
    return Gap(name=name, target=wanted.target, close="replace", desired=desired, actual=actual, why=f"scaled by {writer}")
