"""Objects that somebody else made under a name that is wanted here."""

from collections.abc import Mapping

from autonomic.platforms.host.intents import Refused
from autonomic.platforms.kubernetes.objects.api import Api, Resource


def check_name(api: Api, resource: Resource, kind: str, name: str, own: Mapping[str, str], service: str) -> None:
    """Whether an object for `service` may have this name: there is none, or one with the labels that are our `own`.

    Raises:
        Refused: it is somebody else's.
    """
    there = api.get(resource, name)
    if there is not None and not own.items() <= there["metadata"].get("labels", {}).items():
        raise Refused(
            f"{service}: there is a {kind} named {name} in the namespace {api.namespace} that is somebody else's; "
            "delete it, or name the workflow or the service otherwise"
        )
