"""Resizing replicas in place: their containers go on, and the Deployment says the same as its pods when it is done.

A Deployment whose template changes replaces its pods. Hence it is paused, the template of its ReplicaSet is changed, the pods are
resized through their `resize` subresource, and the Deployment goes on with a template that it finds in its ReplicaSet already.
Each step is absolute: whatever dies in between, all of it is done again. Pods and ReplicaSets do not say who wrote them last. Hence
each of them is looked at first, then the Deployment, whether a younger writer was there, and what is written names the version that
was looked at: a writer that was frozen meanwhile changes nothing.
"""

from collections.abc import Callable
from typing import Any

from autonomic.platforms.kubernetes.objects import names
from autonomic.platforms.kubernetes.objects.api import DEPLOYMENTS, PODS, REPLICA_SETS, Api, Conflict, Resource
from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent

REVISION = "deployment.kubernetes.io/revision"
_RESIZE_SECONDS = 60.0
_POLL_SECONDS = 0.1
_ATTEMPTS = 20

Object = dict[str, Any]
PodsOf = Callable[[], list[Object]]
"""The pods that are to be resized, as they are now."""


class NotInPlace(Exception):
    """It cannot be done in place, and why; pods and ReplicaSet are as they were, the Deployment is paused."""


class InPlace:
    """Resizes the pods of Deployments in place, where the cluster can (Kubernetes 1.33 or newer).

    `check_ours` raises `Lost` where a younger writer has written the Deployment of this name.
    """

    def __init__(self, api: Api, clock: Clock, check_ours: Callable[[str], object]) -> None:
        self._api = api
        self._clock = clock
        self._check_ours = check_ours
        self._can: bool | None = None

    def can(self) -> bool:
        """Whether the API server knows the `resize` subresource of pods."""
        if self._can is None:
            self._can = self._api.serves(PODS, "resize")
        return self._can

    def resize(self, deployment: Object, pods_of: PodsOf, resources: Object) -> None:
        """Resizes the first container of every pod of a Deployment that is paused already, and of its ReplicaSet's template.

        Raises:
            NotInPlace: it could not be done, for example since a node has not so much.
            Lost: a younger writer is at work.
        """
        name, generation = deployment["metadata"]["name"], deployment["metadata"]["generation"]
        self._until(lambda: _observed(self._api.get(DEPLOYMENTS, name), generation), f"the Deployment {name} was not paused")
        current = self.current_set(deployment)
        if current is None:
            raise NotInPlace(f"no ReplicaSet of the Deployment {name} is current")
        first = current["spec"]["template"]["spec"]["containers"][0]
        before = first.get("resources", {})
        if _kinds(before) != _kinds(resources):
            raise NotInPlace("requests or limits would be added or taken away")
        try:
            # pods that come from now on have the new size
            self._template(name, current, resources)
            self._resize_pods(name, pods_of, first["name"], resources)
        except (NotInPlace, Permanent) as refused:
            self._template(name, current, before)
            self._undo(name, pods_of, first["name"], before)
            raise NotInPlace(str(refused)) from refused

    def current_set(self, deployment: Object) -> Object | None:
        """The ReplicaSet that a Deployment has now, None while it has none."""
        meta = deployment["metadata"]
        chosen = names.selector(deployment["spec"]["selector"]["matchLabels"])
        for each in self._api.list(REPLICA_SETS, chosen)[0]:
            owners = [owner["uid"] for owner in each["metadata"].get("ownerReferences", [])]
            revision = each["metadata"].get("annotations", {}).get(REVISION)
            if meta["uid"] in owners and revision is not None and revision == meta.get("annotations", {}).get(REVISION):
                return each
        return None

    def _template(self, deployment: str, replica_set: Object, resources: Object) -> None:
        name = replica_set["metadata"]["name"]
        container = {"name": replica_set["spec"]["template"]["spec"]["containers"][0]["name"], "resources": resources}
        body = {"spec": {"template": {"spec": {"containers": [container]}}}}
        looked_at, made = replica_set, None
        for _ in range(_ATTEMPTS):
            try:
                made = self._patch(deployment, REPLICA_SETS, name, looked_at, body)
                break
            except Conflict:
                # its status moves while pods come and go
                self._clock.sleep(_POLL_SECONDS)
                looked_at = self._api.get(REPLICA_SETS, name) or looked_at
        if made is None:
            raise NotInPlace(f"the ReplicaSet {name} is not there any more, or changes all the time")
        # both controllers hear of ReplicaSets in one place: when this one has, the other one will not make another ReplicaSet
        generation = made["metadata"]["generation"]
        self._until(lambda: _observed(self._api.get(REPLICA_SETS, name), generation), f"the ReplicaSet {name} was not looked at")

    def _resize_pods(self, deployment: str, pods_of: PodsOf, container: str, resources: Object) -> None:
        asked: set[str] = set()

        def done() -> bool:
            missing = False
            for pod in pods_of():
                name = pod["metadata"]["name"]
                if name not in asked:
                    if self._asked(deployment, pod, container, resources):
                        asked.add(name)
                    missing = True
                elif refused := _refused(pod):
                    raise NotInPlace(f"the pod {name} cannot be resized: {refused}")
                missing = missing or not _has(pod, container, resources)
            return not missing

        self._until(done, "the pods were not resized")

    def _undo(self, deployment: str, pods_of: PodsOf, container: str, resources: Object) -> None:
        asked: set[str] = set()

        def done() -> bool:
            for pod in [each for each in pods_of() if each["metadata"]["name"] not in asked]:
                try:
                    was_asked = self._asked(deployment, pod, container, resources)
                except Permanent:
                    # it is replaced soon
                    was_asked = True
                if was_asked:
                    asked.add(pod["metadata"]["name"])
            return all(pod["metadata"]["name"] in asked for pod in pods_of())

        self._until(done, "the pods did not get their size back")

    def _asked(self, deployment: str, pod: Object, container: str, resources: Object) -> bool:
        """Asks for another size of a pod; False where it has changed since it was looked at."""
        body = {"spec": {"containers": [{"name": container, "resources": resources}]}}
        try:
            self._patch(deployment, PODS, f"{pod['metadata']['name']}/resize", pod, body)
        except Conflict:
            return False
        return True

    def _patch(self, deployment: str, resource: Resource, name: str, looked_at: Object, body: Object) -> Object | None:
        self._check_ours(deployment)
        version = {"metadata": {"resourceVersion": looked_at["metadata"]["resourceVersion"]}}
        return self._api.patch(resource, name, {**version, **body}, strategic=True)

    def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        deadline = self._clock.monotonic() + _RESIZE_SECONDS
        while not condition():
            if self._clock.monotonic() > deadline:
                raise NotInPlace(f"{otherwise} within {_RESIZE_SECONDS:g} s")
            self._clock.sleep(_POLL_SECONDS)


def _observed(item: Object | None, generation: int) -> bool:
    return item is not None and int(item.get("status", {}).get("observedGeneration", 0)) >= generation


def _kinds(resources: Object) -> set[tuple[str, str]]:
    return {(part, name) for part in ("requests", "limits") for name in resources.get(part, {})}


def _refused(pod: Object) -> str:
    for condition in pod["status"].get("conditions", []):
        kind, status, reason = condition["type"], condition["status"], condition.get("reason", "")
        if status == "True" and (kind == "PodResizePending" or (kind == "PodResizeInProgress" and reason == "Error")):
            return f"{reason}: {condition.get('message', '')}"
    return ""


def _has(pod: Object, container: str, resources: Object) -> bool:
    """Whether a container has these resources, as its node says."""
    from kubernetes.utils.quantity import parse_quantity

    statuses = [each for each in pod["status"].get("containerStatuses", []) if each["name"] == container]
    if not statuses or _busy(pod):
        return False
    real = statuses[0].get("resources", {})
    return all(
        name in real.get(part, {}) and parse_quantity(real[part][name]) == parse_quantity(amount)
        for part in ("requests", "limits")
        for name, amount in resources.get(part, {}).items()
    )


def _busy(pod: Object) -> bool:
    kinds = ("PodResizePending", "PodResizeInProgress")
    return any(each["type"] in kinds and each["status"] == "True" for each in pod["status"].get("conditions", []))
