"""What is put into a new cluster: rights of kube-proxy, CoreDNS, the metrics API, and fake nodes."""

import base64
import json
from pathlib import Path

from autonomic.cli.embedded.kubernetes import images
from autonomic.cli.embedded.kubernetes.build import DATA
from autonomic.cli.embedded.kubernetes.network import Network
from autonomic.cli.embedded.kubernetes.node import render

_MANIFESTS = ("kube-proxy", "coredns", "metrics-server")


def manifests(network: Network, pki: Path, fake_nodes: int) -> str:
    """Everything as one stream of YAML documents."""
    values = {
        "coredns_image": images.COREDNS,
        "dns_address": network.dns_address,
        "host_address": network.host_address,
        "ca": base64.b64encode((pki / "ca.crt").read_bytes()).decode(),
    }
    documents = [render(DATA / "manifests" / f"{name}.yaml", values) for name in _MANIFESTS]
    return "\n---\n".join([*documents, *(json.dumps(fake_node(number)) for number in range(fake_nodes))])


def fake_node(number: int) -> dict[str, object]:
    """A node that only kwok plays; its taint keeps every pod away that does not tolerate it."""
    name = f"fake-{number}"
    resources = {"cpu": "32", "memory": "256Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"type": "kwok", "kubernetes.io/hostname": name},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": resources, "capacity": resources},
    }
