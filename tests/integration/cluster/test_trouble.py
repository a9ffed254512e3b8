"""Nodes that crash and nodes that are cut off."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autonomic.cli.embedded.kubernetes import cgroups
from autonomic.cli.embedded.kubernetes.cluster import LocalCluster
from autonomic.seams.errors import Permanent


def test_a_crash_kills_all_containers_of_a_node_and_healing_brings_it_back(
    cluster: LocalCluster, namespace: Any, wait: Callable[..., Any]
) -> None:
    staying = {"restartPolicy": "Always", "tolerations": [{"operator": "Exists", "effect": "NoExecute"}]}
    namespace.pod("here", "sleep", "300", nodeName="node1", **staying)
    namespace.pod("there", "sleep", "300", nodeName="node2", **staying)
    namespace.kubectl("wait", "--for=condition=Ready", "pod/here", "pod/there", "--timeout=120s")
    assert _commands(cluster, "node2").count("sleep 300") == 1
    cluster.crash("node2")
    assert _commands(cluster, "node2") == []
    assert _commands(cluster, "node1").count("sleep 300") == 1
    assert cluster.pids()["node2"] is None
    wait(lambda: not _ready(cluster, "node2"), "NotReady")
    cluster.heal("node2")
    wait(lambda: _ready(cluster, "node2"), "node2")
    wait(lambda: _commands(cluster, "node2").count("sleep 300") == 1, "the pod's container")
    assert _ready(cluster, "node1")


def test_a_partitioned_node_goes_on_working_and_is_missed_until_it_is_healed(
    cluster: LocalCluster, namespace: Any, wait: Callable[..., Any]
) -> None:
    tolerations = [{"operator": "Exists", "effect": "NoExecute"}]
    namespace.pod("there", "sleep", "301", nodeName="node2", tolerations=tolerations)
    namespace.kubectl("wait", "--for=condition=Ready", "pod/there", "--timeout=120s")
    cluster.partition("node2")
    wait(lambda: not _ready(cluster, "node2"), "NotReady")
    assert _commands(cluster, "node2").count("sleep 301") == 1
    cluster.heal("node2")
    wait(lambda: _ready(cluster, "node2"), "node2")
    (status,) = namespace.get("pod", "there")["status"]["containerStatuses"]
    assert status["restartCount"] == 0


def test_a_control_plane_that_dies_is_started_again(cluster: LocalCluster, wait: Callable[..., Any]) -> None:
    scheduler = wait(lambda: _pid_of(cluster, "kube-scheduler"), "the scheduler")
    os.kill(scheduler, 9)
    wait(lambda: (_pid_of(cluster, "kube-scheduler") or scheduler) != scheduler, "another scheduler")


def test_a_node_that_is_none_is_told_with_those_that_are(cluster: LocalCluster) -> None:
    with pytest.raises(Permanent, match="there is no node 'node9'; there are node1, node2"):
        cluster.crash("node9")


def _ready(cluster: LocalCluster, node: str) -> bool:
    conditions = json.loads(cluster.run_kubectl("get", "node", node, "-o", "json"))["status"]["conditions"]
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _commands(cluster: LocalCluster, node: str) -> list[str]:
    """What runs in the containers of a node."""
    return [command for pid in cgroups.pids(cluster.index, node) if (command := _command(pid))]


def _pid_of(cluster: LocalCluster, program: str) -> int | None:
    return next((pid for pid in cgroups.pids(cluster.index, "processes") if _command(pid).split(" ")[0].endswith(f"/{program}")), None)


def _command(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
