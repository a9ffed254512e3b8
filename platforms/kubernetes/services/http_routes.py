"""Traffic by the Gateway API: a service's HTTPRoute, which splits requests over the Services of its roles by their weights.

A record of its own (`routed/WORKFLOW--SERVICE`) says that there is one, until it is deleted.
"""

from typing import Any

from autonomic.platforms.host.intents import Refused
from autonomic.platforms.host.records import ServiceRecord
from autonomic.platforms.kubernetes.objects import names
from autonomic.platforms.kubernetes.objects.api import HTTP_ROUTES, Api
from autonomic.platforms.kubernetes.objects.foreign import check_name
from autonomic.platforms.kubernetes.objects.manifests import PORT
from autonomic.platforms.kubernetes.objects.store import ConfigMapStore
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.workflows.spec.workflow import Route, Service


class HttpRoutes:
    """The HTTPRoutes of one installation. `update` and `remove` of one service are called one at a time."""

    def __init__(self, settings: KubernetesSettings, api: Api, store: ConfigMapStore) -> None:
        self._settings = settings
        self._api = api
        self._store = store
        self._made: dict[str, dict[str, Any]] = {}

    def check(self, workflow: str, service: Service) -> None:
        """Whether a service can have the route that it declares.

        Raises:
            Refused: the cluster knows no HTTPRoutes, or somebody else has one of this name.
        """
        if service.route is None:
            return
        if not self._api.serves(HTTP_ROUTES):
            raise Refused(
                f"{service.name}: route: asks for an HTTPRoute, and the cluster does not know {HTTP_ROUTES.group}/{HTTP_ROUTES.version}; "
                "install the Gateway API and a controller of it, or take route: away: the front splits the traffic without it"
            )
        own = names.labels(self._settings.installation, workflow=workflow, service=service.name)
        check_name(self._api, HTTP_ROUTES, "HTTPRoute", names.dns_name(f"{workflow}-{service.name}"), own, service.name)

    def update(self, workflow: str, record: ServiceRecord) -> None:
        """Makes the route of a service what its record says; without `route:` there is none."""
        if record.spec.route is None:
            self.remove(workflow, record.spec.name)
            return
        key = _key(workflow, record.spec.name)
        self._store.put_new(key, {"workflow": workflow, "service": record.spec.name})
        wanted = http_route(self._settings, workflow, record, record.spec.route)
        if self._made.get(key) != wanted:
            self._api.apply(HTTP_ROUTES, wanted)
            self._made[key] = wanted

    def look_again(self) -> None:
        """Has the next update of each service make its route again."""
        self._made.clear()

    def remove(self, workflow: str, service: str) -> None:
        """Takes the route of a service away; unknown ones are passed over."""
        key = _key(workflow, service)
        if self._store.get(key) is not None:
            self._api.delete(HTTP_ROUTES, names.dns_name(f"{workflow}-{service}"))
            self._store.delete(key)
        self._made.pop(key, None)


def http_route(settings: KubernetesSettings, workflow: str, record: ServiceRecord, route: Route) -> dict[str, Any]:
    """The HTTPRoute of a service: callers write the same path as at the front, and its replicas see it without the prefix. Pure."""
    name = names.dns_name(f"{workflow}-{record.spec.name}")
    parent = {"name": route.gateway, "namespace": route.namespace, "sectionName": route.section}
    backends = [
        {"name": names.dns_name(entry.app), "port": PORT, "weight": record.weights.get(role, 0)} for role, entry in record.roles.items()
    ]
    prefix = {"type": "PathPrefix", "value": f"/{workflow}/{record.spec.name}"}
    rewrite = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}
    return {
        "apiVersion": f"{HTTP_ROUTES.group}/{HTTP_ROUTES.version}",
        "kind": "HTTPRoute",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "labels": {
                **names.labels(settings.installation, workflow=workflow, service=record.spec.name),
                **names.recommended(record.spec.name, name, "route", workflow),
                **names.version_label(),
            },
        },
        "spec": {
            "parentRefs": [{key: value for key, value in parent.items() if value is not None}],
            **({"hostnames": list(route.hostnames)} if route.hostnames else {}),
            "rules": [{"matches": [{"path": prefix}], "filters": [rewrite], "backendRefs": backends}],
        },
    }


def _key(workflow: str, service: str) -> str:
    return f"routed/{workflow}--{service}"
