"""The keys, certificates and kubeconfigs of one cluster: made anew at each start, readable by their owner only."""

import base64
import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from autonomic.cli.embedded.kubernetes.network import Network

_DAYS = 3650


@dataclass(frozen=True)
class Authority:
    """A certificate that signs others."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make(folder: Path, network: Network, nodes: int, server: str) -> None:
    """Writes everything that the parts of a cluster whose API answers at `server` need into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    ca = authority(folder, "ca", "kubernetes-ca")
    # whoever the first one signs is somebody for the API server, and must not be anybody for etcd
    etcd = authority(folder, "etcd-ca", "etcd-ca")
    front_proxy = authority(folder, "front-proxy-ca", "front-proxy-ca")
    local = ("localhost", "127.0.0.1", network.loopback, network.host_address)
    services = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", network.api_service)
    issue(folder, "apiserver", ca, "kube-apiserver", names=(*services, *local))
    issue(folder, "etcd", etcd, "etcd", names=local, client=True)
    issue(folder, "etcd-client", etcd, "kube-apiserver-etcd-client")
    issue(folder, "apiserver-kubelet-client", ca, "kube-apiserver-kubelet-client", "system:masters")
    issue(folder, "front-proxy-client", front_proxy, "front-proxy-client")
    issue(folder, "metrics-server-serving", ca, "metrics-server", names=("metrics-server.kube-system.svc", *local))
    _service_account_key(folder)
    clients = {
        "admin": ("kubernetes-admin", "system:masters"),
        "kube-controller-manager": ("system:kube-controller-manager", ""),
        "kube-scheduler": ("system:kube-scheduler", ""),
        "kube-proxy": ("system:kube-proxy", ""),
        "metrics-server": ("metrics-server", ""),
        "kwok": ("kwok", "system:masters"),
    }
    for number in range(1, nodes + 1):
        node = f"node{number}"
        clients[node] = (f"system:node:{node}", "system:nodes")
        issue(folder, f"{node}-server", ca, node, names=(node, "localhost", "127.0.0.1", network.node_address(number)))
    for name, (user, group) in clients.items():
        issue(folder, name, ca, user, group)
        write_private(folder / f"{name}.kubeconfig", yaml.safe_dump(kubeconfig(folder, name, server)).encode())


def authority(folder: Path, name: str, common_name: str) -> Authority:
    """Makes a certificate authority: `name`.crt and `name`.key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    certificate = (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(folder, name, certificate, key)
    return Authority(certificate, key)


def issue(
    folder: Path, name: str, signer: Authority, user: str, group: str = "", names: Sequence[str] = (), client: bool | None = None
) -> x509.Certificate:
    """Makes `name`.crt and `name`.key: of a server where it has `names` (host names or addresses), else of a client.

    `client` says that a server is a client as well (etcd speaks with itself).
    """
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    if group:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH] if names else []
    if client or not names:
        purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    builder = _builder(x509.Name(attributes), signer.certificate.subject, key)
    builder = builder.add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(given) for given in names]), critical=False)
    certificate = builder.sign(signer.key, hashes.SHA256())
    _write(folder, name, certificate, key)
    return certificate


def kubeconfig(folder: Path, name: str, server: str) -> dict[str, Any]:
    """A kubeconfig for the client `name` that holds its key itself, so that the file can be copied."""

    def data(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {"server": server, "certificate-authority-data": data("ca.crt")}}],
        "users": [{"name": name, "user": {"client-certificate-data": data(f"{name}.crt"), "client-key-data": data(f"{name}.key")}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": name}}],
        "current-context": "local",
    }


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _service_account_key(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(folder / "service-accounts.key", _private(key))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "service-accounts.pub").write_bytes(public)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # clocks of a machine that slept may be a little behind
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    write_private(folder / f"{name}.key", _private(key))
