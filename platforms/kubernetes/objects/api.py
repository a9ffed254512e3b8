"""The Kubernetes API: paths, JSON, and errors as this product has them. Credentials come from the official client."""

import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.clock import Clock, SystemClock
from autonomic.seams.errors import AutonomicError, Permanent, Retryable

FIELD_MANAGER = "autonomic"
_DOUBT_SECONDS = 1.0
_PATIENCE_SECONDS = 10.0
_CONNECT_SECONDS = 5.0
# of a silent connection: it is given up when so many probes in a row were not answered
_PROBE_SECONDS, _PROBES = 5, 3
_LONGEST_WAIT_SECONDS = 5.0
_RETRIED = (429, 500, 502, 503, 504)
_PAGE = 500
_NAMED_RIGHT = re.compile(r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"(?: in API group "(?P<group>[^"]*)")?')
_METADATA, _METADATA_FORM = "application/json;as=PartialObjectMetadata", "v=v1;g=meta.k8s.io"
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Resource(NamedTuple):
    """A kind of object as it stands in paths. With `metadata_only` lists and watches leave out all but the metadata."""

    group: str
    version: str
    plural: str
    namespaced: bool = True
    metadata_only: bool = False

    def path(self, namespace: str, name: str = "", part: str = "") -> str:
        """The path of one object (or a part of it, such as `log`), or of all of them (in a namespace, where they are in one)."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        where = f"namespaces/{namespace}/" if self.namespaced else ""
        return "/".join(text for text in (f"{root}/{where}{self.plural}", name, part) if text)


CONFIG_MAPS = Resource("", "v1", "configmaps")
SECRETS = Resource("", "v1", "secrets")
EVENTS = Resource("", "v1", "events")
PODS = Resource("", "v1", "pods")
SERVICES = Resource("", "v1", "services")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices")
DEPLOYMENTS = Resource("apps", "v1", "deployments")
REPLICA_SETS = Resource("apps", "v1", "replicasets")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets")
JOBS = Resource("batch", "v1", "jobs")
EVENTS = Resource("", "v1", "events")
NODES = Resource("", "v1", "nodes", namespaced=False)
POD_METRICS = Resource("metrics.k8s.io", "v1beta1", "pods")
AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers")
SCALED_OBJECTS = Resource("keda.sh", "v1alpha1", "scaledobjects")
HTTP_ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes")
DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets")


class Conflict(Retryable):
    """The object is another one than was expected, or is there already."""


class TooMany(Retryable):
    """The API server has too much to do, and says when to ask again."""


class Gone(AutonomicError):
    """What was asked to be continued is too old: it has to be read from the start."""


QUOTA_EXCEEDED = "exceeded quota"
"""What Kubernetes says where a quota leaves no room."""


class NoRoom(Permanent):
    """A quota is used up; there may be room later."""


class Forbidden(Permanent):
    """The API server knows us and does not let us."""


class Api:
    """Requests in one namespace. May be used by several threads at once; `close` ends its connections.

    An answer 429 or 5xx is waited for as `Retry-After` says, up to ten seconds in all, and asked again. Every method raises

        Retryable: the API server does not answer, or is still busy after that time.
        Forbidden: a right is missing; says which.
        Permanent: the API server refuses what was sent; says why.
    """

    def __init__(self, settings: KubernetesSettings, clock: Clock | None = None) -> None:
        self._client = _connect(settings)
        self._host = str(self._client.configuration.host).rstrip("/")
        self._pool = self._client.rest_client.pool_manager
        self._clock = clock or SystemClock()
        self._seconds = settings.request_seconds
        self.namespace = settings.namespace

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()

    def get(self, resource: Resource, name: str) -> dict[str, Any] | None:
        """An object, None where there is none."""
        return self._send("GET", resource, name, missing=True)

    def list(self, resource: Resource, selector: str, fields: str = "") -> tuple[list[dict[str, Any]], str]:
        """All objects with these labels and these values of `fields`, and the resource version that a watch goes on from."""
        items: list[dict[str, Any]] = []
        chosen = {"labelSelector": selector} | ({"fieldSelector": fields} if fields else {})
        query = {**chosen, "limit": str(_PAGE)}
        form = f"{_METADATA}List;{_METADATA_FORM}" if resource.metadata_only else ""
        while True:
            try:
                page = self._need("GET", resource, query=query, accept=form)
            except Gone:
                # the pages were read too slowly
                items, query = [], dict(chosen)
                continue
            items += page.get("items", [])
            if not page["metadata"].get("continue"):
                return items, page["metadata"].get("resourceVersion", "")
            query["continue"] = page["metadata"]["continue"]

    def create(self, resource: Resource, body: dict[str, Any]) -> dict[str, Any]:
        """Makes an object.

        Raises:
            Conflict: there is one of this name.
        """
        return self._need("POST", resource, query={"fieldManager": FIELD_MANAGER}, body=body)

    def patch(self, resource: Resource, name: str, body: dict[str, Any], strategic: bool = False) -> dict[str, Any] | None:
        """Merges `body` into an object, None where there is none. `strategic`: containers are merged by their names.

        Raises:
            Conflict: `body` names a resource version, and the object has another one.
        """
        query = {"fieldManager": FIELD_MANAGER}
        content = f"application/{'strategic-' if strategic else ''}merge-patch+json"
        return self._send("PATCH", resource, name, query=query, body=body, content=content, missing=True)

    def apply(self, resource: Resource, body: dict[str, Any]) -> dict[str, Any]:
        """Server-side apply: the fields of `body` become ours, whoever had them before.

        Raises:
            Conflict: `body` names a resource version, and the object has another one.
        """
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self._need("PATCH", resource, body["metadata"]["name"], query=query, body=body, content="application/apply-patch+yaml")

    def apply_status(self, resource: Resource, body: dict[str, Any]) -> dict[str, Any] | None:
        """Server-side apply of the status of an object, None where there is no such object.

        Raises:
            Conflict: `body` names a uid, and the object has another one.
        """
        name = f"{body['metadata']['name']}/status"
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self._send("PATCH", resource, name, query=query, body=body, content="application/apply-patch+yaml", missing=True)

    def delete(self, resource: Resource, name: str, **preconditions: str) -> None:
        """Deletes an object and, in the background, what it owns; one that is not there is passed over.

        Raises:
            Conflict: it does not meet the preconditions (`uid`, `resourceVersion`).
        """
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if preconditions:
            body["preconditions"] = preconditions
        self._send("DELETE", resource, name, body=body, missing=True)

    def serves(self, resource: Resource, part: str = "") -> bool:
        """Whether the API server knows a kind of object (or a part of it, such as `scale`)."""
        root = resource.path("").partition("/namespaces/")[0]
        answer = self._request("GET", f"{self._host}{root}", {}, None, "", self._seconds)
        if answer.status == 404:
            return False
        if answer.status >= 300:
            raise self._error("GET", resource, answer)
        known = {each["name"] for each in json.loads(answer.data)["resources"]}
        return "/".join(text for text in (resource.plural, part) if text) in known

    def log(self, pod: str, tail: int | None = None) -> str | None:
        """What a pod has printed, or its last `tail` lines; None where there is no such pod, or it has not begun."""
        query = {"tailLines": str(tail)} if tail else {}
        url = f"{self._host}{PODS.path(self.namespace, pod, 'log')}"
        answer = self._request("GET", url, query, None, "", self._seconds)
        if answer.status in (400, 404):
            return None
        if answer.status >= 300:
            raise self._error("GET", PODS, answer)
        return answer.data.decode(errors="replace")

    def trouble(self, within_seconds: float) -> str:
        """Why the API server is of no use now, "" where it answers; known within about that time."""
        import urllib3
        from urllib3.exceptions import HTTPError

        half = urllib3.Timeout(connect=within_seconds / 2, read=within_seconds / 2)
        try:
            answer = self._pool.request("GET", f"{self._host}/readyz", retries=False, timeout=half)
        except HTTPError as error:
            return str(self._away(error))
        return f"The Kubernetes API server at {self._host} answers {answer.status}: it is not ready" if answer.status >= 500 else ""

    def watch(self, resource: Resource, query: dict[str, str], quiet_seconds: float) -> Any:
        """An open answer of a watch, to be read by `events` and then closed.

        Raises:
            Gone: the resource version is too old.
        """
        url = f"{self._host}{resource.path(self.namespace)}"
        form = f"{_METADATA};{_METADATA_FORM}" if resource.metadata_only else ""
        answer = self._request("GET", url, query, None, "", quiet_seconds, stream=True, accept=form)
        if answer.status >= 300:
            answer.read()
            raise self._error("watch", resource, answer)
        return answer

    def events(self, answer: Any) -> Iterator[dict[str, Any]]:
        """The events of a watch, until it ends."""
        from urllib3.exceptions import HTTPError

        rest = b""
        try:
            for part in answer.stream(65536, decode_content=True):
                *whole, rest = (rest + part).split(b"\n")
                for line in whole:
                    if line.strip():
                        yield json.loads(line)
        except HTTPError as error:
            raise self._away(error) from error

    # -- HTTP

    def _need(self, method: str, resource: Resource, name: str = "", **options: Any) -> dict[str, Any]:
        answer = self._send(method, resource, name, **options)
        assert answer is not None
        return answer

    def _send(
        self,
        method: str,
        resource: Resource,
        name: str = "",
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        content: str = "application/json",
        missing: bool = False,
        accept: str = "",
    ) -> dict[str, Any] | None:
        url = f"{self._host}{resource.path(self.namespace, name)}"
        data = None if body is None else json.dumps(body).encode()
        deadline = self._clock.monotonic() + _PATIENCE_SECONDS
        wait = 0.1
        doubted = False
        while True:
            answer = self._request(method, url, query or {}, data, content, self._seconds, accept=accept)
            if answer.status < 300:
                return json.loads(answer.data)
            if answer.status == 404 and missing:
                return None
            if answer.status in (401, 403) and not doubted:
                self._check_started(answer)
                # it may have learned who may do what since
                doubted = True
                self._clock.sleep(_DOUBT_SECONDS)
                continue
            asked = _retry_after(answer)
            pause = min(wait if asked is None else asked, _LONGEST_WAIT_SECONDS)
            if answer.status not in _RETRIED or self._clock.monotonic() + pause > deadline:
                raise self._error(method, resource, answer)
            self._clock.sleep(pause)
            wait *= 2

    def _request(
        self,
        method: str,
        url: str,
        query: dict[str, str],
        data: bytes | None,
        content: str,
        seconds: float,
        stream: bool = False,
        accept: str = "",
    ) -> Any:
        import urllib3
        from urllib3.exceptions import HTTPError

        headers = {"Accept": accept or "application/json"} | ({"Content-Type": content} if data is not None else {})
        self._client.update_params_for_auth(headers, [], ["BearerToken"], url, method, None)
        try:
            return self._pool.request(
                method,
                f"{url}?{urlencode(query)}" if query else url,
                body=data,
                headers=headers,
                retries=False,
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=seconds),
                preload_content=not stream,
            )
        except HTTPError as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> Retryable:
        return Retryable(
            f"The Kubernetes API server at {self._host} does not answer ({type(error).__name__}: {error}); it is asked again", 2.0
        )

    def _check_started(self, refusal: Any) -> None:
        """Raises Retryable while the server does not know yet who may do what, which it may not know itself."""
        try:
            starting = (
                _lacks_own_roles(_message(refusal))
                or self._request("GET", f"{self._host}/readyz", {}, None, "", self._seconds).status >= 500
            )
        except Retryable:
            starting = True
        if starting:
            raise Retryable(f"The Kubernetes API server at {self._host} is starting; it is asked again", 1.0)

    def _error(self, method: str, resource: Resource, answer: Any) -> Exception:
        message = _message(answer)
        verb = _VERBS.get(method, method.lower() if method != "GET" else "get or list")
        what = f"{resource.plural}{f'.{resource.group}' if resource.group else ''}"
        if answer.status in (401, 403):
            self._check_started(answer)
        if answer.status == 403 and QUOTA_EXCEEDED in message:
            return NoRoom(f"A quota of the namespace {self.namespace} leaves no room to {verb} {what}: {message}; nothing was done")
        if answer.status == 403 and (lacking := _lacking_right(message, method, resource)) is not None:
            verb, plural, group = lacking
            role = (
                "ClusterRole" if "at the cluster scope" in message or not resource.namespaced else f"Role in the namespace {self.namespace}"
            )
            return Forbidden(
                f"Kubernetes forbids it: {message}. A {role} must allow the verb {verb} on the resource "
                f"{plural} of the API group {group!r}; nothing was done"
            )
        if answer.status == 401:
            return Permanent(f"The Kubernetes API server at {self._host} does not take our credentials; see to the kubeconfig or the token")
        if answer.status == 409:
            return Conflict(f"Kubernetes finds a conflict in {what}: {message}", 0.1)
        if answer.status == 404 and ("page not found" in message or "could not find the requested resource" in message):
            return Permanent(
                f"There are no {what} on the cluster: {message}. Its CustomResourceDefinition or the server of its API is missing "
                "(for our own kinds: autonomic crds | kubectl apply --server-side -f -)"
            )
        if answer.status == 410:
            return Gone(message)
        if answer.status in _RETRIED:
            kind = TooMany if answer.status == 429 else Retryable
            return kind(
                f"The Kubernetes API server at {self._host} answers {answer.status} to {verb} {what}: {message}; it is asked again",
                _retry_after(answer) or 2.0,
            )
        return Permanent(f"Kubernetes refuses to {verb} {what} ({answer.status}): {message}")


def _lacking_right(message: str, method: str, resource: Resource) -> tuple[str, str, str] | None:
    """Verb, resource and API group that are missing, as the API server says; None where it forbids for another reason, such as a policy."""
    if found := _NAMED_RIGHT.search(message):
        return found["verb"], found["resource"], found["group"] or ""
    if "cannot " not in message:
        return None
    # an API server that does not say which
    return _VERBS.get(method, "get or list" if method == "GET" else method.lower()), resource.plural, resource.group


def _lacks_own_roles(message: str) -> bool:
    return 'clusterrole.rbac.authorization.k8s.io "system:' in message and "not found" in message


def _connect(settings: KubernetesSettings) -> Any:
    from kubernetes import client, config
    from kubernetes.utils.keepalive import tcp_keepalive_socket_options

    found = client.Configuration()
    try:
        if not settings.kubeconfig and os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(client_configuration=found)
        else:
            config.load_kube_config(
                settings.kubeconfig or None, context=settings.context or None, client_configuration=found, persist_config=False
            )
    except (config.ConfigException, OSError) as error:
        raise Permanent(
            f"There are no credentials for Kubernetes: {error}. Name a kubeconfig, set KUBECONFIG, or run in a pod with a service account"
        ) from None
    found.connection_pool_maxsize = 16
    # a watch whose connection was cut without a word would be waited for until its next bookmark
    found.socket_options = tcp_keepalive_socket_options(idle=_PROBE_SECONDS, interval=_PROBE_SECONDS, count=_PROBES)
    return client.ApiClient(found)


def _retry_after(answer: Any) -> float | None:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _message(answer: Any) -> str:
    try:
        return str(json.loads(answer.data).get("message", ""))[:1000]
    except (ValueError, AttributeError):
        return answer.data.decode(errors="replace")[:300].strip()
