"""What a cluster is there for: pods that run, find each other and this machine, and are measured and changed while they run."""

import http.server
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autonomic.cli.embedded.kubernetes import images
from autonomic.cli.embedded.kubernetes.cluster import LocalCluster

ROOT = Path(__file__).parents[3]
TERMINATION_LOG = "/dev/termination-log"
UNTIL_TWO_ANSWERED = """
seen="" count=0
while [ $count -lt 2 ]; do
    name=$(wget -qO- {url}) || exit 1
    case "$seen" in *$name*) sleep 0.1 ;; *) seen="$seen $name" count=$((count + 1)) ;; esac
done
echo $seen > {log}
"""


def test_both_nodes_are_ready_and_neither_hands_out_the_whole_machine(cluster: LocalCluster) -> None:
    nodes = json.loads(cluster.run_kubectl("get", "nodes", "--selector=type!=kwok", "-o", "json"))["items"]
    assert [node["metadata"]["name"] for node in nodes] == ["node1", "node2"]
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    handed_out = [int(node["status"]["allocatable"]["memory"].removesuffix("Ki")) * 1024 for node in nodes]
    assert 0.7 * machine < sum(handed_out) < 0.81 * machine
    assert {node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes} == {"v1.36.3"}


def test_a_deployment_answers_through_its_service_by_name_and_from_this_machine(namespace: Any, wait: Callable[..., Any]) -> None:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    container = {
        "name": "web",
        "image": images.BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", "mkdir /www && hostname > /www/index.html && exec httpd -f -p 8080 -h /www"],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }
    labels = {"app": "web"}
    namespace.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"terminationGracePeriodSeconds": 0, "topologySpreadConstraints": [spread], "containers": [container]},
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    )
    namespace.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    pods = namespace.get("pods")["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node1", "node2"}
    url = f"http://web.{namespace.name}.svc.cluster.local/"
    # a pod that is ready gets requests once every node has heard of it
    namespace.pod("client", "sh", "-c", UNTIL_TWO_ANSWERED.format(url=url, log=TERMINATION_LOG))
    assert set(namespace.message("client").split()) == {pod["metadata"]["name"] for pod in pods}
    address = namespace.get("service", "web")["spec"]["clusterIP"]
    assert wait(lambda: _fetch(f"http://{address}/"), "an answer to this machine").strip() in {pod["metadata"]["name"] for pod in pods}


def test_dns_answers_in_a_pod(namespace: Any, cluster: LocalCluster) -> None:
    namespace.pod("lookup", "sh", "-c", f"nslookup kubernetes.default.svc.cluster.local > {TERMINATION_LOG}")
    api = json.loads(cluster.run_kubectl("get", "service", "kubernetes", "-o", "json"))["spec"]["clusterIP"]
    assert f"Address: {api}" in namespace.message("lookup")


def test_pods_reach_a_server_of_this_machine(namespace: Any, host_server: str) -> None:
    for node in ("node1", "node2"):
        namespace.pod(f"client-{node}", "wget", "-qO", TERMINATION_LOG, host_server, nodeName=node)
    for node in ("node1", "node2"):
        assert namespace.message(f"client-{node}") == "of this machine"


def test_logs_and_exec(namespace: Any, wait: Callable[..., Any]) -> None:
    namespace.pod("talker", "sh", "-c", "echo said; sleep 300")
    namespace.kubectl("wait", "--for=condition=Ready", "pod/talker", "--timeout=120s")
    assert wait(lambda: namespace.kubectl("logs", "talker"), "what it said") == "said\n"
    assert wait(lambda: namespace.kubectl("exec", "talker", "--", "sh", "-c", "echo $((6 * 7))"), "its answer") == "42\n"


def test_a_pod_is_resized_in_place(namespace: Any, wait: Callable[..., Any]) -> None:
    resources = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}
    namespace.pod("growing", "sleep", "300", container={"resources": resources})
    namespace.kubectl("wait", "--for=condition=Ready", "pod/growing", "--timeout=120s")
    patch = {"spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "700m", "memory": "192Mi"}}}]}}
    namespace.kubectl("patch", "pod", "growing", "--subresource=resize", "--patch", json.dumps(patch))

    def status() -> dict[str, Any]:
        return namespace.get("pod", "growing")["status"]["containerStatuses"][0]

    wait(lambda: status()["resources"]["limits"] == {"cpu": "700m", "memory": "192Mi"}, "the new size")
    assert status()["restartCount"] == 0


def test_the_metrics_api_answers_for_nodes_and_pods(cluster: LocalCluster, namespace: Any, wait: Callable[..., Any]) -> None:
    namespace.pod("busy", "sleep", "300")

    def measured(path: str) -> list[dict[str, Any]]:
        done = cluster.run_kubectl("get", "--raw", f"/apis/metrics.k8s.io/v1beta1/{path}")
        return json.loads(done)["items"]

    available = "jsonpath={.status.conditions[?(@.type=='Available')].status}"
    wait(lambda: cluster.run_kubectl("get", "apiservice", "v1beta1.metrics.k8s.io", "-o", available) == "True", "the metrics API")
    wait(lambda: {item["metadata"]["name"] for item in measured("nodes")} == {"node1", "node2"}, "metrics of the nodes")
    (pod,) = wait(lambda: measured(f"namespaces/{namespace.name}/pods"), "metrics of the pod")
    assert pod["containers"][0]["name"] == "main"


def test_a_job_runs_this_machines_python(namespace: Any) -> None:
    folders = {"/usr", "/lib", "/lib64", "/bin", str(Path(sys.base_prefix).resolve()), sys.prefix, str(ROOT)}
    mounts = [{"name": f"m{number}", "mountPath": folder, "readOnly": True} for number, folder in enumerate(sorted(folders))]
    volumes = [{"name": mount["name"], "hostPath": {"path": str(Path(mount["mountPath"]).resolve())}} for mount in mounts]
    code = f"import torch, autonomic; print(torch.ones(2, 2).sum().item(), autonomic.__version__, file=open('{TERMINATION_LOG}', 'w'))"
    container = {
        "name": "main",
        "image": images.HOST,
        "imagePullPolicy": "Never",
        "command": [sys.executable, "-c", code],
        "env": [{"name": "PYTHONPATH", "value": str(ROOT / "src")}, {"name": "OMP_NUM_THREADS", "value": "1"}],
        "volumeMounts": mounts,
    }
    template = {"spec": {"restartPolicy": "Never", "containers": [container], "volumes": volumes}}
    namespace.create(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "python"}, "spec": {"backoffLimit": 0, "template": template}}
    )
    namespace.kubectl("wait", "--for=condition=Complete", "job/python", "--timeout=120s")
    (pod,) = namespace.get("pods")["items"]
    assert namespace.message(pod["metadata"]["name"]).startswith("4.0 ")


def test_an_archive_is_imported_into_every_node(cluster: LocalCluster, namespace: Any, tmp_path: Path) -> None:
    script = tmp_path / "hello"
    script.write_text(f"#!/bin/busybox sh\necho carried > {TERMINATION_LOG}\n")
    busybox = cluster.kubectl.with_name("busybox")
    image = images.Image("example.test/hello:3", files={"bin/busybox": busybox, "hello": script}, entrypoint=["/hello"])
    images.write_archive(image, tmp_path / "hello.tar")
    cluster.load(tmp_path / "hello.tar")
    for node in cluster.nodes:
        entry = {"name": "main", "image": image.name, "imagePullPolicy": "Never"}
        body = {"restartPolicy": "Never", "nodeName": node, "containers": [entry]}
        namespace.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"hello-{node}"}, "spec": body})
    for node in cluster.nodes:
        assert namespace.message(f"hello-{node}") == "carried\n"


@pytest.fixture
def host_server(cluster: LocalCluster) -> Iterator[str]:
    """The address of a web server of this machine, as pods see it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"of this machine")

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    with http.server.ThreadingHTTPServer((cluster.host_address, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{cluster.host_address}:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def _fetch(url: str) -> str:
    import httpx

    try:
        return httpx.get(url, timeout=5, trust_env=False).text
    except httpx.HTTPError:
        return ""
