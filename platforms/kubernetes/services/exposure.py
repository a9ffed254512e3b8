"""Services of the cluster before the front: a Service without pods whose one endpoint is the front, and the front's certificates.

The front is a process beside the writer, so that requests take the same way from inside of the cluster and from outside of it:
through the queue, by the weights, and to the backup where nobody else is left.
"""

import base64
import contextlib
import ipaddress
import logging
import os
import ssl
import threading
from pathlib import Path
from typing import Any

from autonomic.platforms.host.intents import Refused
from autonomic.platforms.host.records import ReplicaRecord, ServiceRecord
from autonomic.platforms.host.routes import FrontRoutes
from autonomic.platforms.kubernetes.objects import names
from autonomic.platforms.kubernetes.objects.api import ENDPOINT_SLICES, SECRETS, SERVICES, Api
from autonomic.platforms.kubernetes.objects.foreign import check_name
from autonomic.platforms.kubernetes.objects.manifests import owner_reference
from autonomic.platforms.kubernetes.objects.store import ConfigMapStore
from autonomic.platforms.kubernetes.services.http_routes import HttpRoutes
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.errors import AutonomicError, Permanent
from autonomic.workflows.serving.front import Front
from autonomic.workflows.spec.workflow import Service, Tls

_log = logging.getLogger(__name__)


class ExposedRoutes(FrontRoutes):
    """Routes through one front, with what exposes it to the cluster.

    A record of its own (`exposed/WORKFLOW--SERVICE`) says that there is something for a service, until it is deleted.
    """

    def __init__(self, settings: KubernetesSettings, api: Api, store: ConfigMapStore, front: Front) -> None:
        super().__init__(front)
        self._settings = settings
        self._api = api
        self._store = store
        self._locks: dict[str, threading.Lock] = {}
        self._made: dict[str, list[dict[str, Any]]] = {}
        self._http = HttpRoutes(settings, api, store)

    def check(self, workflow: str, service: Service) -> None:
        """Whether a service can be given what it declares.

        Raises:
            Refused: nodes would not reach the front, somebody else has a Service or an HTTPRoute of this name, the cluster knows no
                HTTPRoutes, or there is no certificate that can be used; says why.
        """
        self._http.check(workflow, service)
        if service.expose is not None:
            front_address(self._settings)
            own = names.labels(self._settings.installation, workflow=workflow, service=service.name)
            check_name(self._api, SERVICES, "Service", service_name(workflow, service.name), own, service.name)
        if service.tls is not None:
            try:
                check_certificate(self._settings.folder, self._read(service.tls))
            except Permanent as wrong:
                raise Refused(f"{service.name}: {wrong}") from wrong

    def manner(self, workflow: str, record: ServiceRecord) -> dict[str, Any]:
        alone = record.spec.expose is not None or record.spec.tls is not None
        return {"alone": alone, "certificate": str(self._certificate(workflow, record.spec)) if record.spec.tls else ""}

    def update(self, workflow: str, record: ServiceRecord, replicas: dict[str, list[ReplicaRecord]]) -> None:
        key = _key(workflow, record.spec.name)
        with self._locks.setdefault(key, threading.Lock()):
            if record.spec.tls is not None and not self._certificate(workflow, record.spec).exists():
                try:
                    self._bring(workflow, record.spec.name, record.spec.tls)
                except Permanent as wrong:
                    # it was there when the service was deployed; the front would refuse to start without it, for all services
                    _log.error("%s/%s does not answer: %s", workflow, record.spec.name, wrong)
                    return
            super().update(workflow, record, replicas)
            if record.spec.expose is None:
                self._take_away(workflow, record.spec.name)
            else:
                self._expose(key, workflow, record.spec)
            self._http.update(workflow, record)

    def remove(self, workflow: str, service: str) -> None:
        key = _key(workflow, service)
        with self._locks.setdefault(key, threading.Lock()):
            super().remove(workflow, service)
            self._take_away(workflow, service)
            self._http.remove(workflow, service)
            self._file(workflow, service).unlink(missing_ok=True)

    def renew(self, services: dict[tuple[str, str], Service]) -> None:
        """Brings certificates that are others by now to the front; what cannot be had leaves the old one in use."""
        changed = False
        for (workflow, name), service in services.items():
            if service.tls is not None:
                try:
                    changed |= self._bring(workflow, name, service.tls)
                except AutonomicError as wrong:
                    _log.warning("the certificate of %s/%s stays as it is: %s", workflow, name, wrong)
        if changed:
            self.front.reload()

    def look_again(self) -> None:
        """Has the next update of each service make its objects on the cluster again, whatever was made before."""
        self._made.clear()
        self._http.look_again()

    def _expose(self, key: str, workflow: str, service: Service) -> None:
        self._store.put_new(key, {"workflow": workflow, "service": service.name})
        objects = exposed(self._settings, workflow, service, self.front.own_port(workflow, service.name))
        if self._made.get(key) != objects:
            front, endpoints = objects
            made = self._api.apply(SERVICES, front)
            meta = {**endpoints["metadata"], "ownerReferences": [owner_reference(made)]}
            self._api.apply(ENDPOINT_SLICES, {**endpoints, "metadata": meta})
            self._made[key] = objects

    def _take_away(self, workflow: str, service: str) -> None:
        key = _key(workflow, service)
        if self._store.get(key) is not None:
            # its endpoints go with it
            self._api.delete(SERVICES, service_name(workflow, service))
            self._store.delete(key)
        self._made.pop(key, None)

    def _file(self, workflow: str, service: str) -> Path:
        return self._settings.folder / "certificates" / f"{workflow}--{service}.pem"

    def _certificate(self, workflow: str, service: Service) -> Path:
        return self._file(workflow, service.name).absolute()

    def _bring(self, workflow: str, service: str, tls: Tls) -> bool:
        """Puts the certificate where the front reads it. False where it is the same."""
        pem, path = self._read(tls), self._file(workflow, service)
        if path.exists() and path.read_bytes() == pem:
            return False
        check_certificate(self._settings.folder, pem)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _write_private(path, pem)
        return True

    def _read(self, tls: Tls) -> bytes:
        if tls.secret is None:
            try:
                return b"\n".join(Path(str(name)).read_bytes().strip() for name in (tls.certificate, tls.key)) + b"\n"
            except OSError as error:
                raise Permanent(f"the certificate cannot be read on the machine of the front: {error}") from error
        secret = self._api.get(SECRETS, tls.secret)
        if secret is None:
            raise Permanent(f"there is no Secret {tls.secret} in the namespace {self._settings.namespace}, which tls: names")
        data = secret.get("data") or {}
        if not {"tls.crt", "tls.key"} <= data.keys():
            raise Permanent(f"the Secret {tls.secret} has {', '.join(sorted(data)) or 'nothing'}; tls: needs tls.crt and tls.key")
        return b"\n".join(base64.b64decode(data[name]).strip() for name in ("tls.crt", "tls.key")) + b"\n"


def front_address(settings: KubernetesSettings) -> str:
    """Where nodes reach the front.

    Raises:
        Refused: the front listens on this machine alone, or no address is named.
    """
    address = settings.host_address if settings.front_address == "0.0.0.0" else settings.front_address
    try:
        usable = not ipaddress.ip_address(address).is_loopback
    except ValueError:
        usable = False
    if not usable:
        raise Refused(
            f"expose: needs a front that nodes reach; it listens on {settings.front_address or 'no address'} with the host_address "
            f"{settings.host_address or 'not given'}. Name an IP address of this machine in front_address, or 0.0.0.0 and a host_address"
        )
    return address


def service_name(workflow: str, service: str) -> str:
    """The name of the Service that exposes a service. Pure."""
    return names.dns_name(f"{workflow}-{service}")


def exposed(settings: KubernetesSettings, workflow: str, service: Service, port: int) -> list[dict[str, Any]]:
    """The Service of a service, and the EndpointSlice that leads it to the front's `port`. Pure."""
    name = service_name(workflow, service.name)
    address = front_address(settings)
    told = {"workflow": workflow, "service": service.name}
    own = {
        **names.labels(settings.installation, **told),
        **names.recommended(service.name, name, "front", workflow),
        **names.version_label(),
    }
    meta = {"namespace": settings.namespace}
    way = {"name": "https" if service.tls else "http", "appProtocol": "https" if service.tls else "http"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**meta, "name": name, "labels": own},
            "spec": {"type": service.expose, "ports": [{**way, "port": 443 if service.tls else 80, "targetPort": port}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                **meta,
                "name": f"{name}-front",
                "labels": {**own, "kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "autonomic"},
            },
            "addressType": f"IPv{ipaddress.ip_address(address).version}",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": [{**way, "port": port}],
        },
    ]


def check_certificate(folder: Path, pem: bytes) -> None:
    """Whether a front can use this certificate and key.

    Raises:
        Permanent: it cannot, and why.
    """
    trial = folder / f".certificate-{os.getpid()}-{threading.get_ident()}.pem"
    try:
        _write_private(trial, pem)
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(trial)
    except (ssl.SSLError, ValueError) as wrong:
        raise Permanent(f"the certificate and its key cannot be used: {getattr(wrong, 'reason', None) or wrong}") from wrong
    finally:
        trial.unlink(missing_ok=True)


def _write_private(path: Path, data: bytes) -> None:
    partial = path.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    partial.replace(path)


def _key(workflow: str, service: str) -> str:
    return f"exposed/{workflow}--{service}"
