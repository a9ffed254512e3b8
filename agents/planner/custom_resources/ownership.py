"""What serves a workflow goes with the workflow's object, whoever is there to see to it."""

from autonomic.platforms.kubernetes.objects.api import DEPLOYMENTS, Api
from autonomic.platforms.kubernetes.objects.names import labels, selector
from autonomic.platforms.kubernetes.objects.watch import Object


class Ownership:
    """Makes objects the owners of the Deployments of their workflows: Kubernetes then deletes all of it with the object."""

    def __init__(self, api: Api, installation: str) -> None:
        self._api = api
        self._installation = installation

    def take(self, workflow: Object) -> None:
        """Takes over what serves this workflow now.

        Raises:
            Retryable: the API server does not answer.
            Forbidden: a right is missing; says which.
        """
        meta = workflow["metadata"]
        owner = {"apiVersion": workflow["apiVersion"], "kind": workflow["kind"], "name": meta["name"], "uid": meta["uid"]}
        found, _ = self._api.list(DEPLOYMENTS, selector(labels(self._installation, workflow=meta["name"])))
        for deployment in (each["metadata"] for each in found):
            if meta["uid"] not in (one["uid"] for one in deployment.get("ownerReferences", [])):
                # the uid: a Deployment that was made anew meanwhile is looked at again
                self._api.patch(DEPLOYMENTS, deployment["name"], {"metadata": {"uid": deployment["uid"], "ownerReferences": [owner]}})
