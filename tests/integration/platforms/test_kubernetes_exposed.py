"""What a service can ask of a real cluster: a Service of its own, TLS, a model in a volume; and what a rolling change costs."""

import datetime
import ipaddress
import json
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from autonomic.seams.plan import Change, Outcome


class Web:
    """An online workflow `exposed` with the service `api`."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster

    def apply(self, primitive: str, target: str, to: dict[str, Any]) -> Outcome:
        return self.cluster.apply(primitive, target, to)

    def deploy(self, **words: Any) -> Outcome:
        api = {"name": "api", "model": self.cluster.model("shown"), "replicas": {"min": 1, "max": 3}, "log": False, **words}
        head = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "exposed"}}
        return self.apply("deploy", "exposed", {"spec": {**head, "spec": {"type": "online", "services": [api]}}, "package": ""})

    def service(self) -> dict[str, Any] | None:
        found = json.loads(self.cluster.kubectl("get", "services", "-l", "app.kubernetes.io/component=front", "-o", "json"))["items"]
        return next((each for each in found if each["metadata"]["name"] == "exposed-api"), None)

    def deployment(self) -> str:
        chosen = "autonomic.dev/workflow=exposed,autonomic.dev/role=champion"
        (name,) = self.cluster.kubectl("get", "deployments", "-l", chosen, "-o", "jsonpath={.items[*].metadata.name}").split()
        return name

    def champions(self) -> list[dict[str, Any]]:
        """The pods of the champion that are there to stay."""
        found = json.loads(self.cluster.kubectl("get", "pods", "-l", f"autonomic.dev/app={self.deployment()}", "-o", "json"))["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready(self) -> int:
        return self.cluster.platform.observe("exposed/api").service.roles["champion"].ready


@pytest.fixture(scope="module")
def web(light_cluster: Any) -> Iterator[Web]:
    if light_cluster.settings.front_address == "127.0.0.1":
        pytest.skip("NOTHING IS EXPOSED: the cluster that was given does not reach this machine")
    web = Web(light_cluster)
    yield web
    assert web.apply("delete", "exposed", {}).status in ("done", "unchanged")


def wait_until(condition: Callable[[], Any], within_seconds: float = 100) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_seconds:g} s"
        time.sleep(0.05)


def ask(url: str, verify: Any = True, **headers: str) -> httpx.Response:
    return httpx.post(f"{url}/v2/models/api/infer", json={}, headers=headers, verify=verify, trust_env=False, timeout=30)


def answers(url: str, verify: Any = True) -> bool:
    """Whether a request is answered; nodes learn of a Service, and workers of a certificate, a moment later."""
    try:
        return ask(url, verify).status_code == 200
    except httpx.HTTPError:
        return False


def certificate(names: list[str]) -> tuple[bytes, bytes]:
    """A certificate for names and addresses that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name)) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(*form)


def secret(web: Web, folder: Path, names: list[str]) -> ssl.SSLContext:
    """Makes the Secret `web-tls`, or makes it anew; who trusts it."""
    for file, data in zip(("tls.crt", "tls.key"), certificate(names), strict=True):
        (folder / file).write_bytes(data)
    given = (f"--cert={folder}/tls.crt", f"--key={folder}/tls.key", "--dry-run=client", "-o", "json")
    (folder / "secret.json").write_text(web.cluster.kubectl("create", "secret", "tls", "web-tls", *given))
    web.cluster.kubectl("apply", "-f", str(folder / "secret.json"))
    return ssl.create_default_context(cafile=str(folder / "tls.crt"))


def test_a_service_is_exposed_by_each_type_and_hidden_again(kubernetes: Any, web: Web) -> None:
    web.cluster.kubectl("create", "service", "clusterip", "exposed-api", "--tcp=80:80")
    refused = web.deploy(expose="ClusterIP")
    assert refused.status == "refused"
    assert "somebody else's" in refused.detail
    web.cluster.kubectl("delete", "service", "exposed-api")
    assert web.deploy(expose="ClusterIP").status == "done"
    found = web.service()
    assert found is not None
    assert found["spec"]["type"] == "ClusterIP"
    # the way of a pod, by name
    web.cluster.kubectl(
        *("run", "asks", "--image=autonomic.local/busybox:1", "--image-pull-policy=Never", "--restart=Never", "--command", "--"),
        *("/bin/sh", "-c", "until wget -qO /dev/termination-log --post-data={} http://exposed-api/v2/models/api/infer; do sleep 0.2; done"),
    )
    web.cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/asks", "--timeout=100s")
    said = web.cluster.kubectl("get", "pod/asks", "-o", "jsonpath={.status.containerStatuses[0].state.terminated.message}")
    assert json.loads(said)["role"] == "champion"
    for kind in ("NodePort", "LoadBalancer"):
        assert web.deploy(expose=kind).status == "done"
        found = web.service()
        assert found is not None
        assert found["spec"]["type"] == kind
    (port,) = found["spec"]["ports"]
    nodes = json.loads(web.cluster.kubectl("get", "nodes", "--selector=type!=kwok", "-o", "json"))["items"]
    (node, *_) = [each["address"] for each in nodes[0]["status"]["addresses"] if each["type"] == "InternalIP"]
    wait_until(lambda: answers(f"http://{node}:{port['nodePort']}"))
    # the front has one port for each, which stays over a restart of the writer
    endpoints = web.cluster.kubectl("get", "endpointslice", "exposed-api-front", "-o", "jsonpath={.ports[0].port}")
    web.cluster.restart()
    assert web.cluster.kubectl("get", "endpointslice", "exposed-api-front", "-o", "jsonpath={.ports[0].port}") == endpoints
    assert answers(f"http://{node}:{port['nodePort']}")
    assert web.deploy().status == "done"
    wait_until(lambda: web.service() is None)
    assert ask(web.cluster.platform.urls()["exposed/api"]).status_code == 200


def test_with_tls_nothing_else_is_answered_and_a_renewed_certificate_takes_over(web: Web, tmp_path: Path) -> None:
    refused = web.deploy(tls={"secret": "web-tls"})
    assert refused.status == "refused"
    assert "there is no Secret web-tls" in refused.detail
    address = web.cluster.settings.front_address
    plain = web.cluster.platform.urls()["exposed/api"]
    trusting = secret(web, tmp_path, [address])
    outcome = web.deploy(tls={"secret": "web-tls"})
    assert outcome.status == "done", outcome.detail
    url = web.cluster.platform.urls()["exposed/api"]
    assert url.startswith(f"https://{address}:")
    wait_until(lambda: answers(url, trusting))
    assert ask(plain).status_code == 404
    with pytest.raises(httpx.HTTPError):
        ask(url.replace("https:", "http:"))
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(url)
    renewed = secret(web, tmp_path, [address, "127.0.0.1"])
    web.cluster.restart()
    wait_until(lambda: answers(url, renewed) and not answers(url, trusting))
    folder = web.cluster.settings.folder / "certificates"
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, *folder.iterdir())] == ["0o700", "0o600"]
    assert web.deploy().status == "done"
    assert ask(plain).status_code == 200


@pytest.mark.usefixtures("volume")
def test_a_model_is_served_from_a_claim_that_only_pods_see(web: Web) -> None:
    volumes = [{"mount": "/models", "claim": "models", "read_only": True}]
    missing = web.deploy(model="file:///models/none", volumes=volumes)
    assert missing.status == "failed"
    assert "/models/none" in missing.detail
    outcome = web.deploy(model="file:///models/deep/one", volumes=volumes)
    assert outcome.status == "done", outcome.detail
    assert ask(web.cluster.platform.urls()["exposed/api"]).json()["model"] == "file:///models/deep/one"
    # elsewhere, a path is one of this machine
    elsewhere = web.deploy(model="file:///modelsx/one", volumes=volumes)
    assert elsewhere.status == "refused"
    assert web.deploy().status == "done"


@pytest.fixture
def volume(web: Web) -> Iterator[None]:
    folder = web.cluster.home / "models-volume"
    shutil.copytree(Path(__file__).parents[2] / "light" / "model", folder / "deep" / "one")
    name, size = f"{web.cluster.settings.namespace}-models", {"storage": "1Gi"}
    shared = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    documents = [
        {
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {**shared, "capacity": size, "hostPath": {"path": str(folder), "type": "Directory"}},
        },
        {
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models"},
            "spec": {**shared, "volumeName": name, "resources": {"requests": size}},
        },
    ]
    path = web.cluster.home / "models.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", **each} for each in documents]}))
    web.cluster.kubectl("apply", "-f", str(path))
    yield
    web.cluster.kubectl("delete", "pvc/models", f"pv/{name}", "--wait=false")


def test_no_request_is_lost_while_pods_are_rolled_and_evicted(web: Web, load: Any) -> None:
    assert web.deploy(replicas={"min": 2, "max": 3}, device_time="10ms").status == "done"
    with load(web.cluster.platform.urls()["exposed/api"]) as sent:
        sent.wait(50)
        before = {pod["metadata"]["name"] for pod in web.champions()}
        name = web.deployment()
        web.cluster.kubectl("rollout", "restart", f"deployment/{name}")
        web.cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=100s")
        wait_until(lambda: before.isdisjoint(pod["metadata"]["name"] for pod in web.champions()) and web.ready() == 2)
        # as when a node is drained
        web.cluster.kubectl("wait", "--for=jsonpath={.status.disruptionsAllowed}=1", f"pdb/{name}", "--timeout=100s")
        (pod, *_) = web.champions()
        meta = {key: pod["metadata"][key] for key in ("name", "namespace")}
        path = web.cluster.home / "evict.json"
        path.write_text(json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}))
        web.cluster.kubectl("create", "--raw", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction", "-f", str(path))
        wait_until(lambda: meta["name"] not in [pod["metadata"]["name"] for pod in web.champions()] and web.ready() == 2)
        sent.wait(50)
    assert set(sent.answers) == {"200"}, sent.answers


def test_what_is_done_to_a_deployment_is_told_on_it_once(web: Web) -> None:
    assert web.deploy(device_time="20ms").status == "done"
    name = web.deployment()
    change = Change(key="exposed.told", primitive="rescale", target="exposed/api", to={"role": "champion", "replicas": 3})
    for _ in range(2):
        assert web.cluster.platform.apply(change, 1).status == "done"

    def told() -> list[tuple[str, str]]:
        chosen = f"--field-selector=involvedObject.kind=Deployment,involvedObject.name={name}"
        found = json.loads(web.cluster.kubectl("get", "events", chosen, "-o", "json"))["items"]
        return [(each["reason"], each["message"]) for each in found if each["source"].get("component") == "autonomic-host"]

    wait_until(lambda: ("Rescale", "champion of api: 3 replicas (change exposed.told)") in told())
    assert sorted(reason for reason, _ in told()) == ["Deploy", "Rescale"]
    labels = json.loads(web.cluster.kubectl("get", "deployment", name, "-o", "json"))["metadata"]["labels"]
    for label in ("name", "instance", "version", "component", "part-of", "managed-by"):
        assert labels[f"app.kubernetes.io/{label}"]
    for label in ("installation", "app", "workflow", "service", "role"):
        assert labels[f"autonomic.dev/{label}"]
