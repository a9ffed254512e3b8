"""Applications as Deployments; see `base.apps`."""

from collections.abc import Callable, Sequence
from typing import Any

from autonomic.seams.errors import Permanent, Retryable
from autonomic.workflows.platforms.base.apps import AppSpec, AppState
from autonomic.workflows.platforms.kubernetes import manifests, names, pods
from autonomic.workflows.platforms.kubernetes.api import DEPLOYMENTS, DISRUPTION_BUDGETS, SERVICES, Api, Conflict
from autonomic.workflows.platforms.kubernetes.settings import KubernetesSettings
from autonomic.workflows.platforms.kubernetes.store import ConfigMapStore
from autonomic.workflows.platforms.kubernetes.watch import Watch

_ATTEMPTS = 20
_RESOURCES = {"Service": SERVICES, "PodDisruptionBudget": DISRUPTION_BUDGETS}


class KubernetesApps:
    """The applications of one installation.

    What an application was made with is kept beside its owner's record, so that a change of its number of replicas changes
    nothing else, whatever version of this product makes it. `epoch` is that of the writer; a Deployment that was written
    under a higher one is left alone, and each write names the version that was looked at.
    """

    def __init__(
        self, settings: KubernetesSettings, api: Api, store: ConfigMapStore, deployments: Watch, of_pods: Watch, epoch: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._api = api
        self._store = store
        self._deployments = deployments
        self._pods = of_pods
        self._epoch = epoch

    def create(self, name: str, spec: AppSpec, replicas: int) -> None:
        of: dict[str, str] = self._store.get(f"app/{name}")
        owner = self._store.owner(f"app/{name}")
        *others, deployment = manifests.replicas(self._settings, name, of, spec, replicas, owner)
        for other in others:
            self._api.apply(_RESOURCES[other["kind"]], other)
        self._store.put(f"manifest/{name}", deployment)
        self.write(deployment, replicas)

    def scale(self, name: str, replicas: int) -> None:
        manifest = self._store.get(f"manifest/{name}")
        if manifest is None:
            raise Permanent(f"The application {name} is not there, so it cannot be scaled; deploy the workflow again")
        self.write(manifest, replicas)

    def delete(self, names: Sequence[str]) -> None:
        # what else an application has goes with its record
        for name in names:
            self._delete(name)

    def states(self) -> dict[str, AppState]:
        of_app: dict[str, list[dict[str, Any]]] = {}
        for pod in self._pods.all().values():
            of_app.setdefault(app_of(pod), []).append(pod)
        return {app: state_of(each, of_app.get(app, [])) for each in self._deployments.all().values() if (app := app_of(each))}

    def write(self, deployment: dict[str, Any], replicas: int) -> None:
        """Makes a Deployment as it is described, with so many replicas.

        Raises:
            Lost: a younger writer is at work.
            Retryable: the Deployment changes all the time.
        """
        name = deployment["metadata"]["name"]
        for _ in range(_ATTEMPTS):
            version = self._ours(name)
            try:
                self._api.apply(DEPLOYMENTS, manifests.with_replicas(deployment, replicas, self._epoch(), version))
                return
            except Conflict:
                # its status moves while pods start: it is looked at again
                continue
        raise Retryable(f"The Deployment {name} changes all the time; it is tried again")

    def _ours(self, name: str) -> str:
        """The version of a Deployment that may be written, "" where there is none.

        Raises:
            Lost: a younger writer was here.
        """
        there = self._api.get(DEPLOYMENTS, name)
        written = self._store.newest_epoch() if there is None else int(there["metadata"].get("annotations", {}).get(manifests.EPOCH, 0))
        self._store.check_newest(written)
        return "" if there is None else there["metadata"]["resourceVersion"]

    def _delete(self, app: str) -> None:
        name = names.dns_name(app)
        for _ in range(_ATTEMPTS):
            version = self._ours(name)
            if not version:
                break
            try:
                self._api.delete(DEPLOYMENTS, name, resourceVersion=version)
                break
            except Conflict:
                continue
        else:
            raise Retryable(f"The Deployment {name} changes all the time; it is tried again")


def app_of(item: dict[str, Any]) -> str:
    """The application that a Deployment or a pod is of, "" where it is of none."""
    return item["metadata"].get("annotations", {}).get(manifests.APP, "")


def state_of(deployment: dict[str, Any], of_pods: Sequence[dict[str, Any]]) -> AppState:
    """An application as it is now. Pure.

    It has failed when a container of it has failed twice, an image cannot be had, or no pod can be made.
    """
    conditions = {each["type"]: each for each in deployment.get("status", {}).get("conditions", [])}
    refused = conditions.get("ReplicaFailure", {})
    message = f"{refused.get('reason', '')}: {refused.get('message', '')}" if refused.get("status") == "True" else ""
    for pod in of_pods:
        wrong = pods.trouble(pod)
        if wrong and (pods.starts(pod) > 0 or not wrong.startswith(("it ended", "OOMKilled"))):
            message = message or wrong
    waiting = next((why for pod in of_pods if (why := pods.waits_for(pod))), "")
    return AppState(
        status="DEPLOY_FAILED" if message else "RUNNING",
        message=message or waiting,
        target=int(deployment["spec"].get("replicas", 0)),
        replicas=tuple(pod["metadata"]["name"] for pod in of_pods),
    )


def foreign_writer(deployment: dict[str, Any]) -> str:
    """Who else set the number of replicas of a Deployment of ours, "" where nobody did. Pure."""
    for entry in deployment["metadata"].get("managedFields", []):
        fields = entry.get("fieldsV1", {}).get("f:spec", {})
        if "f:replicas" in fields and entry.get("manager") != "autonomic":
            return str(entry.get("manager", "somebody"))
    return ""
