"""KEDA in a local cluster scales a Deployment by what a Prometheus says. Not a part of `make test`: KEDA is built for benchmarks only.

.venv/bin/pytest benchmarks/kubernetes
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from autonomic.cli.embedded.kubernetes.cluster import LocalCluster
from autonomic.cli.embedded.kubernetes.supervisor import Options
from autonomic.cli.embedded.prometheus_server import PrometheusServer
from benchmarks.demo.api import wait_for

pytestmark = pytest.mark.timeout(3600)
POD = {"name": "sleep", "image": "autonomic.local/busybox:1", "imagePullPolicy": "Never", "command": ["/bin/sleep", "86400"]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    cluster = LocalCluster.start(tmp_path_factory.mktemp("keda"), Options(keda=True), tied=True)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def prometheus(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    server = PrometheusServer.start(tmp_path_factory.mktemp("prometheus"), [], address=cluster.host_address)
    yield server
    server.stop()


def scaled_object(url: str, query: str) -> dict[str, Any]:
    quickly = {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"name": "web"},
            "pollingInterval": 1,
            "cooldownPeriod": 1,
            "minReplicaCount": 0,
            "maxReplicaCount": 3,
            "advanced": quickly,
            "triggers": [{"type": "prometheus", "metadata": {"serverAddress": url, "query": query, "threshold": "1"}}],
        },
    }


def test_keda_scales_a_deployment_out_and_to_nothing(cluster: LocalCluster, prometheus: PrometheusServer) -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [POD], "terminationGracePeriodSeconds": 0}}
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    web = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    cluster.run_kubectl("apply", "-f", "-", text=json.dumps(web))

    def ready() -> int:
        status = json.loads(cluster.run_kubectl("get", "deployment", "web", "-o", "json")).get("status", {})
        return status.get("readyReplicas", 0) if status.get("replicas", 0) == status.get("readyReplicas", 0) else -1

    wait_for(lambda: ready() == 1, "the Deployment", 60)
    cluster.run_kubectl("apply", "-f", "-", text=json.dumps(scaled_object(prometheus.url, "vector(2.5)")))
    wait_for(lambda: ready() == 3, "three replicas", 120)
    cluster.run_kubectl("apply", "-f", "-", text=json.dumps(scaled_object(prometheus.url, "vector(0)")))
    wait_for(lambda: ready() == 0, "no replica", 120)
