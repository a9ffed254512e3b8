import base64
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from autonomic.cli.embedded.kubernetes import pki
from autonomic.cli.embedded.kubernetes.network import Network

SERVER = "https://172.30.3.1:6443"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pki")
    pki.make(made, Network(3), 2, SERVER)
    return made


@pytest.mark.parametrize(
    ("name", "user", "group"),
    [
        ("admin", "kubernetes-admin", "system:masters"),
        ("node2", "system:node:node2", "system:nodes"),
        ("kube-scheduler", "system:kube-scheduler", None),
        ("metrics-server", "metrics-server", None),
    ],
)
def test_a_client_is_who_it_is_and_signed_by_the_authority(folder: Path, name: str, user: str, group: str | None) -> None:
    certificate = _read(folder, name)
    certificate.verify_directly_issued_by(_read(folder, "ca"))
    assert _attribute(certificate, NameOID.COMMON_NAME) == user
    assert _attribute(certificate, NameOID.ORGANIZATION_NAME) == group
    assert _purposes(certificate) == {"clientAuth"}


def test_servers_carry_the_names_by_which_they_are_called(folder: Path) -> None:
    names = _names(_read(folder, "apiserver"))
    assert {"172.30.3.1", "10.96.48.1", "kubernetes.default.svc", "localhost"} <= names
    assert _names(_read(folder, "node2-server")) == {"node2", "localhost", "127.0.0.1", "172.30.3.12"}
    assert _purposes(_read(folder, "apiserver")) == {"serverAuth"}
    assert _purposes(_read(folder, "etcd")) == {"serverAuth", "clientAuth"}


@pytest.mark.parametrize(("name", "authority"), [("front-proxy-client", "front-proxy-ca"), ("etcd-client", "etcd-ca"), ("etcd", "etcd-ca")])
def test_the_front_proxy_and_etcd_have_authorities_of_their_own(folder: Path, name: str, authority: str) -> None:
    _read(folder, name).verify_directly_issued_by(_read(folder, authority))
    assert _read(folder, authority).subject != _read(folder, "ca").subject


def test_a_kubeconfig_can_be_copied_elsewhere(folder: Path) -> None:
    config = yaml.safe_load((folder / "admin.kubeconfig").read_text())
    (cluster,), (user,) = config["clusters"], config["users"]
    assert cluster["cluster"]["server"] == SERVER
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == (folder / "ca.crt").read_bytes()
    assert base64.b64decode(user["user"]["client-key-data"]) == (folder / "admin.key").read_bytes()
    assert config["current-context"] == config["contexts"][0]["name"]


def test_only_the_owner_reads_the_keys(folder: Path) -> None:
    secret = [*folder.glob("*.key"), *folder.glob("*.kubeconfig")]
    assert secret
    assert {path.stat().st_mode & 0o777 for path in (*secret,)} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def _read(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def _attribute(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str | bytes | None:
    found = certificate.subject.get_attributes_for_oid(oid)
    return found[0].value if found else None


def _purposes(certificate: x509.Certificate) -> set[str]:
    return {str(usage._name) for usage in certificate.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value}


def _names(certificate: x509.Certificate) -> set[str]:
    return {str(name.value) for name in certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value}
