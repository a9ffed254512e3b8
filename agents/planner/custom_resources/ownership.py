"""What serves a workflow goes with the workflow's object, whoever is there to see to it."""

from autonomic.workflows.platforms.kubernetes.api import CONFIG_MAPS, DEPLOYMENTS, Api
from autonomic.workflows.platforms.kubernetes.names import labels, selector
from autonomic.workflows.platforms.kubernetes.watch import Object


class Ownership:
    """Makes objects the owners of the ConfigMaps that own Deployments: Kubernetes then deletes all of it with the object."""

    def __init__(self, api: Api, installation: str) -> None:
        self._api = api
        self._installation = installation
        self._taken: set[tuple[str, str]] = set()

    def take(self, workflow: Object) -> None:
        """Takes over what serves this workflow now.

        Raises:
            Retryable: the API server does not answer.
            Forbidden: a right is missing; says which.
        """
        meta = workflow["metadata"]
        owner = {"apiVersion": workflow["apiVersion"], "kind": workflow["kind"], "name": meta["name"], "uid": meta["uid"]}
        found, _ = self._api.list(DEPLOYMENTS, selector(labels(self._installation, workflow=meta["name"])))
        for reference in (one for deployment in found for one in deployment["metadata"].get("ownerReferences", [])):
            mark = (reference["uid"], meta["uid"])
            if reference["kind"] != "ConfigMap" or mark in self._taken:
                continue
            # the uid: a ConfigMap that was made anew meanwhile is looked at again
            self._api.patch(CONFIG_MAPS, reference["name"], {"metadata": {"uid": reference["uid"], "ownerReferences": [owner]}})
            self._taken.add(mark)
