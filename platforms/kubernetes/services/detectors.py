"""Drift detection on Kubernetes: a Deployment of one pod per service reads the prediction log and says what it sees."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autonomic.platforms.host.drift import told, watched
from autonomic.platforms.host.reconcile import Backoff
from autonomic.platforms.host.records import ServiceRecord
from autonomic.platforms.kubernetes.objects import manifests, names
from autonomic.platforms.kubernetes.objects.packages import Packages
from autonomic.platforms.kubernetes.objects.watch import Object, Watch
from autonomic.platforms.kubernetes.services.apps import KubernetesApps
from autonomic.platforms.kubernetes.services.detector import read_words
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.clock import Clock

Wanted = Mapping[tuple[str, str], tuple[ServiceRecord, str]]
"""By (workflow, service): the service, and the digest of its workflow's code ("" where it has none)."""


class KubernetesDetectors:
    """The detectors of one installation. Their Deployments are the record of which there are: none is kept beside them."""

    def __init__(
        self,
        settings: KubernetesSettings,
        apps: KubernetesApps,
        packages: Packages,
        deployments: Watch,
        log_of: Callable[[str, str], Path],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._apps = apps
        self._packages = packages
        self._deployments = deployments
        self._backoff = Backoff(clock)
        self._log_of = log_of

    def keep(self, wanted: Wanted) -> None:
        """Makes the Deployments what they should be: one for each service with `drift:`, with its champion of now.

        Raises:
            Retryable: the API server does not answer; it is to be called again.
            Permanent: a right is missing, or the API server refuses it.
        """
        there = {name: found for name, found in self._deployments.all().items() if detector_of(found)}
        for (workflow, service), (record, package) in wanted.items():
            name = manifests.detector_name(workflow, service)
            found = there.pop(name, None)
            as_wanted = found is not None and detector_of(found) == digest_of(record, package) and found["spec"].get("replicas") == 1
            if as_wanted and self._apps.changed_by(name) == "":
                self._backoff.forget(name)
            elif self._backoff.due(name):
                self._backoff.tried(name)
                self._apps.write(self._manifest(workflow, record, package), 1)
        self._apps.delete(sorted(there))

    def values(self, workflow: str, record: ServiceRecord, package: str) -> dict[str, Any]:
        """What the service's detector of now said last; see `drift.told`."""
        log = self._log_of(workflow, record.spec.name)
        said = read_words(log) if record.spec.drift and self._settings.data_path else None
        if said is not None and said["detector"] != digest_of(record, package):
            said = None
        return told(said, log, record.since, record.spec.drift.every if record.spec.drift else 1.0)

    def _manifest(self, workflow: str, record: ServiceRecord, package: str) -> dict[str, Any]:
        request = {
            **watched(record),
            "detector": digest_of(record, package),
            "predictions": str(self._log_of(workflow, record.spec.name)),
            "package": package,
        }
        parts = self._packages.parts(package) if package else 0
        return manifests.detector(self._settings, workflow, record.spec.name, request, parts)


def detector_of(deployment: Object) -> str:
    """The digest of the detector that a Deployment runs, "" where it runs none."""
    return deployment["metadata"].get("annotations", {}).get(manifests.DETECTOR, "")


def digest_of(record: ServiceRecord, package: str) -> str:
    """What tells one detector of a service from another: how it looks, at which champion, since when, with which code."""
    return names.digest(json.dumps([watched(record), package], sort_keys=True), 20)
