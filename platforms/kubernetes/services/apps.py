"""Applications as Deployments; see `host.apps`."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from autonomic.platforms.host.apps import FAILED, AppSpec, AppState
from autonomic.platforms.kubernetes.objects import manifests, names, pods
from autonomic.platforms.kubernetes.objects.api import (
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    FIELD_MANAGER,
    QUOTA_EXCEEDED,
    SERVICES,
    Api,
    Conflict,
)
from autonomic.platforms.kubernetes.objects.store import ConfigMapStore
from autonomic.platforms.kubernetes.objects.variation import container_resources, varied
from autonomic.platforms.kubernetes.objects.watch import Watch
from autonomic.platforms.kubernetes.services.resizing import InPlace, NotInPlace
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent, Retryable

_ATTEMPTS = 20
_POLL_SECONDS = 0.05
_ASK_SECONDS = 1.0
# who sets numbers of replicas all the time, for an HPA
_SCALING = frozenset({"kube-controller-manager"})
_RESOURCES = {"Service": SERVICES, "PodDisruptionBudget": DISRUPTION_BUDGETS}
_log = logging.getLogger(__name__)


class KubernetesApps:
    """The applications of one installation.

    What an application was made with is kept beside its owner's record, so that a change of its number of replicas changes
    nothing else, whatever version of this product makes it. `epoch` is that of the writer; a Deployment that was written
    under a higher one is left alone, and each write names the version that was looked at.
    """

    def __init__(
        self,
        settings: KubernetesSettings,
        api: Api,
        store: ConfigMapStore,
        deployments: Watch,
        of_pods: Watch,
        epoch: Callable[[], int],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._api = api
        self._store = store
        self._deployments = deployments
        self._pods = of_pods
        self._epoch = epoch
        self._clock = clock
        self._in_place = InPlace(api, clock, self._ours)
        # by name: the uid and the generation of a Deployment as it was written last, and the uid that its companions go with
        self._written: dict[str, tuple[str, int]] = {}
        self._accompanied: dict[str, str] = {}

    def create(self, name: str, spec: AppSpec, replicas: int) -> None:
        of: dict[str, str] = self._store.get(f"app/{name}")
        self._store.put(f"manifest/{name}", manifests.replicas(self._settings, name, of, spec, replicas))
        size = {**spec.resources.size, "accelerator": spec.resources.accelerator}
        self._store.put(f"variation/{name}", {"resources": size, "placement": spec.override})
        self.scale(name, replicas)

    def scale(self, name: str, replicas: int) -> None:
        made = self.write(self._manifest(name, self._store.get(f"variation/{name}")), replicas)
        if self._accompanied.get(name) != made["metadata"]["uid"]:
            self.accompany(name, made)

    def accompany(self, name: str, deployment: dict[str, Any]) -> None:
        """Makes what an application has beside its Deployment, and what goes with that."""
        for other in manifests.companions(deployment):
            self._api.apply(_RESOURCES[other["kind"]], other)
        self._accompanied[name] = deployment["metadata"]["uid"]

    def heal_companions(self, of: Collection[str]) -> None:
        """Makes again what is missing of what the applications `of` have beside their Deployments.

        Raises:
            Retryable: the API server does not answer.
        """
        mine = names.selector(names.labels(self._settings.installation), f"{names.PREFIX}/app")
        there = [{each["metadata"]["name"] for each in self._api.list(resource, mine)[0]} for resource in _RESOURCES.values()]
        for app in of:
            name = names.dns_name(app)
            deployment = self._deployments.get(name)
            if deployment is not None and not all(name in found for found in there):
                self.accompany(app, {"apiVersion": "apps/v1", "kind": "Deployment", **deployment})

    def changed_by(self, object_name: str) -> str | None:
        """Who changed a Deployment since it was written last, "" where nobody did; None where this writer has not written it yet.

        What an HPA sets is no change: against that nobody writes.

        Raises:
            Retryable: the API server does not answer.
        """
        known, found = self._written.get(object_name), self._deployments.get(object_name)
        if known is None:
            return None
        if found is None or _version(found) == known or foreign_writer(found) in _SCALING:
            return ""
        # a write of ours may not have been heard of yet
        found = self._api.get(DEPLOYMENTS, object_name)
        if found is None or _version(found) == self._written.get(object_name):
            return ""
        return last_writer(found) or "somebody else"

    def states(self) -> dict[str, AppState]:
        """All applications that are there, by name; what scales one by itself is not asked how many there shall be.

        Raises:
            Retryable: what is there is not known now.
        """
        for watch in (self._deployments, self._pods):
            if watch.missing:
                raise Retryable(watch.missing)
        of_apps: dict[str, list[dict[str, Any]]] = {}
        for pod in self._pods.all().values():
            of_apps.setdefault(app_of(pod), []).append(pod)
        found = {app: each for each in self._deployments.all().values() if (app := app_of(each))}
        return {app: state_of(each, of_apps.get(app, []), self._clock.now()) for app, each in found.items()}

    def targets(self) -> dict[str, tuple[str, int]]:
        """By name of each application that is there, the `workflow/service` that it serves, and how many replicas it has."""
        found: dict[str, tuple[str, int]] = {}
        for each in self._deployments.all().values():
            own = each["metadata"].get("labels", {})
            if app := app_of(each):
                target = f"{own.get(f'{names.PREFIX}/workflow', '')}/{own.get(f'{names.PREFIX}/service', '')}"
                found[app] = (target, int(each["spec"].get("replicas", 0)))
        return found

    def is_scaled_by_others(self, name: str) -> bool:
        """Whether an HPA sets how many replicas of an application there are."""
        found = self._deployments.get(names.dns_name(name))
        return found is not None and foreign_writer(found) in _SCALING

    def vary(self, replicas: Mapping[str, int], variation: dict[str, Any]) -> None:
        before = {name: self._store.get(f"variation/{name}") for name in replicas}
        deployments = {name: (self._manifest(name, before[name]), self._manifest(name, variation)) for name in replicas}
        try:
            for name, (old, new) in deployments.items():
                if (before[name] or {}).get("placement", {}) == variation["placement"]:
                    self._resize_in_place(name, old, variation["resources"], replicas[name])
                # pods that are as the template says already are not replaced
                self.write(new, replicas[name])
            for name, count in replicas.items():
                self._wait_replaced(name, count)
        except Permanent:
            for name, (old, _) in deployments.items():
                self.write(old, replicas[name])
            raise
        for name in replicas:
            self._store.put(f"variation/{name}", variation)

    def _manifest(self, name: str, variation: dict[str, Any] | None) -> dict[str, Any]:
        manifest = self._store.get(f"manifest/{name}")
        if manifest is None:
            raise Permanent(f"The application {name} is not there, so it cannot be changed; deploy the workflow again")
        return varied(manifest, variation, self._settings)

    def _resize_in_place(self, name: str, old: dict[str, Any], size: dict[str, Any], replicas: int) -> None:
        """Resizes the pods where they are, if that can be done; the Deployment then waits to be written."""
        if not self._in_place.can():
            return
        paused = self.write({**old, "spec": {**old["spec"], "paused": True}}, replicas)
        try:
            self._in_place.resize(paused, lambda: self._pods_of(name), container_resources(size, self._settings))
        except NotInPlace as why:
            _log.info("%s is resized by a surge: %s", name, why)

    def _pods_of(self, app: str) -> list[dict[str, Any]]:
        found = [pod for pod in self._pods.all().values() if app_of(pod) == app]
        return [
            pod for pod in found if not pod["metadata"].get("deletionTimestamp") and pod["status"].get("phase") in ("Pending", "Running")
        ]

    def _wait_replaced(self, app: str, replicas: int) -> None:
        """Waits until the Deployment has replaced its pods, each by one that was ready before.

        Raises:
            Permanent: a new pod fails, or none became ready for `ready_seconds`.
        """
        name = names.dns_name(app)
        made = self._api.get(DEPLOYMENTS, name)
        generation = made["metadata"]["generation"] if made else 0
        reached, since, asked = -1, self._clock.monotonic(), self._clock.monotonic()
        while True:
            now = self._clock.monotonic()
            deployment = self._deployments.get(name)
            if deployment is not None and int(deployment.get("status", {}).get("observedGeneration", 0)) >= generation:
                status = {part: int(deployment["status"].get(part, 0)) for part in ("replicas", "updatedReplicas", "availableReplicas")}
                if set(status.values()) == {replicas}:
                    return
                # a pod that came and one that went are progress
                progress = min(status["updatedReplicas"], status["availableReplicas"]) - status["replicas"]
                if progress != reached:
                    reached, since = progress, now
            if now - since > self._settings.ready_seconds or now - asked > _ASK_SECONDS:
                asked = now
                self._give_up_where_it_fails(app, name, now - since > self._settings.ready_seconds)
            self._clock.sleep(_POLL_SECONDS)

    def _give_up_where_it_fails(self, app: str, name: str, is_late: bool) -> None:
        deployment = self._api.get(DEPLOYMENTS, name)
        current = self._in_place.current_set(deployment) if deployment else None
        if deployment is None or current is None:
            fresh = list[dict[str, Any]]()
        else:
            template = current["metadata"]["labels"]["pod-template-hash"]
            fresh = [pod for pod in self._pods_of(app) if pod["metadata"]["labels"].get("pod-template-hash") == template]
        state = state_of(deployment, fresh, self._clock.now()) if deployment else None
        if state is not None and state.status in FAILED:
            raise Permanent(f"{app}: a new replica does not start, and the old ones stay: {state.message.strip()[-800:]}")
        if is_late:
            why = f": {state.message.strip()[-800:]}" if state is not None and state.message else ""
            raise Permanent(f"{app}: no new replica was ready after {self._settings.ready_seconds:g} s, and the old ones stay{why}")

    def delete(self, names: Sequence[str]) -> None:
        # what else an application has goes with its Deployment
        for name in names:
            self._delete(name)

    def state(self, name: str) -> AppState | None:
        deployment = self._deployments.get(names.dns_name(name))
        if deployment is None:
            return None
        return state_of(deployment, [pod for pod in self._pods.all().values() if app_of(pod) == name], self._clock.now())

    def write(self, deployment: dict[str, Any], replicas: int) -> dict[str, Any]:
        """Makes a Deployment as it is described, with so many replicas.

        Raises:
            Lost: a younger writer is at work.
            Retryable: the Deployment changes all the time.
        """
        name = deployment["metadata"]["name"]
        # as it was last heard of, first: mostly it is so still, and then it need not be asked for
        there = self._deployments.get(name)
        for _ in range(_ATTEMPTS):
            version = self._ours(name, there)
            there = None
            try:
                made = self._api.apply(DEPLOYMENTS, manifests.with_replicas(deployment, replicas, self._epoch(), version))
                self._written[name] = _version(made)
                return made
            except Conflict:
                # its status moves while pods start: it is looked at again
                continue
        raise Retryable(f"The Deployment {name} changes all the time; it is tried again")

    def _ours(self, name: str, there: dict[str, Any] | None = None) -> str:
        """The version of a Deployment (`there`, or as it is now) that may be written, "" where there is none.

        Raises:
            Lost: a younger writer was here.
        """
        there = there or self._api.get(DEPLOYMENTS, name)
        written = self._store.newest_epoch() if there is None else int(there["metadata"].get("annotations", {}).get(manifests.EPOCH, 0))
        self._store.check_newest(written)
        return "" if there is None else there["metadata"]["resourceVersion"]

    def _delete(self, app: str) -> None:
        name = names.dns_name(app)
        self._written.pop(name, None)
        self._accompanied.pop(app, None)
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


def state_of(deployment: dict[str, Any], of_pods: Sequence[dict[str, Any]], now: float) -> AppState:
    """An application at the time `now`. Pure.

    It has failed when a container of it has ended twice or could not be made for a while, an image cannot be had, or no pod can
    be made. Where a quota leaves no room for one it waits: Kubernetes tries again by itself.
    """
    conditions = {each["type"]: each for each in deployment.get("status", {}).get("conditions", [])}
    refused = conditions.get("ReplicaFailure", {})
    unmade = f"{refused.get('reason', '')}: {refused.get('message', '')}" if refused.get("status") == "True" else ""
    message, no_room = ("", unmade) if QUOTA_EXCEEDED in unmade else (unmade, "")
    for pod in of_pods:
        message = message or pods.lasting_trouble(pod, now)
    # what may pass by itself is said as well, and fails nothing
    waiting = no_room or next((why for pod in of_pods if (why := pods.trouble(pod) or pods.waits_for(pod) or pods.unready(pod))), "")
    return AppState(
        status="DEPLOY_FAILED" if message else "RUNNING",
        message=message or waiting,
        target=int(deployment["spec"].get("replicas", 0)),
        replicas=tuple(pod["metadata"]["name"] for pod in of_pods),
        scaled_by=foreign_writer(deployment),
    )


def _version(deployment: dict[str, Any]) -> tuple[str, int]:
    return deployment["metadata"]["uid"], int(deployment["metadata"]["generation"])


def last_writer(deployment: dict[str, Any]) -> str:
    """Who changed the spec of a Deployment last, beside ourselves; "" where nobody did. Pure."""
    entries = [each for each in deployment["metadata"].get("managedFields", []) if "f:spec" in each.get("fieldsV1", {})]
    others = [each for each in entries if each.get("manager") != FIELD_MANAGER]
    return str(max(others, key=lambda each: each.get("time", ""), default={}).get("manager", ""))


def foreign_writer(deployment: dict[str, Any]) -> str:
    """Who else set the number of replicas of a Deployment of ours, "" where nobody did. Pure."""
    for entry in deployment.get("metadata", {}).get("managedFields", []):
        fields = entry.get("fieldsV1", {}).get("f:spec", {})
        if "f:replicas" in fields and entry.get("manager") != FIELD_MANAGER:
            return str(entry.get("manager", "somebody"))
    return ""
