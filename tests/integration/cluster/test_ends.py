"""Clusters end without a trace, in whatever way they end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autonomic.workflows.embedded.kubernetes import cgroups, registry
from autonomic.workflows.embedded.kubernetes.cluster import LocalCluster, NotRunning, stop
from autonomic.workflows.embedded.kubernetes.supervisor import Options

SETTINGS = ("vm.overcommit_memory", "kernel.panic", "kernel.panic_on_oops", "net.ipv4.ip_forward", "net.ipv4.conf.all.route_localnet")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "second"
    stop(tmp_path / "second")


def test_two_clusters_live_beside_each_other_and_one_ends_without_a_trace(
    cluster: LocalCluster, home: Path, wait: Callable[..., Any]
) -> None:
    before = _machine(cluster)
    second = LocalCluster.start(home, Options(nodes=1, fake_nodes=3, audit=True), tied=True)
    assert second.index != cluster.index
    assert second.host_address != cluster.host_address
    nodes = json.loads(second.run_kubectl("get", "nodes", "-o", "json"))["items"]
    assert {node["metadata"]["name"] for node in nodes} == {"node1", "fake-0", "fake-1", "fake-2"}
    wait(lambda: "fake-0   Ready" in second.run_kubectl("get", "nodes"), "Ready fake nodes")
    assert "autonomic.local/pause" not in (home / "logs" / "up.log").read_text()
    second.run_kubectl("create", "namespace", "audited")
    audit = (home / "logs" / "audit.log").read_text()
    assert any(entry["verb"] == "create" and entry["objectRef"].get("name") == "audited" for entry in map(json.loads, audit.splitlines()))
    with pytest.raises(registry.AlreadyRunning):
        LocalCluster.start(home)
    second.stop()
    assert _machine(cluster) == before
    assert sorted(path.name for path in home.iterdir()) == ["logs"]
    with pytest.raises(NotRunning):
        LocalCluster.attach(home)
    assert cluster.run_kubectl("get", "--raw", "/readyz") == "ok"


def test_a_killed_supervisor_takes_all_processes_along_and_down_removes_the_rest(cluster: LocalCluster, home: Path) -> None:
    before = _machine(cluster)
    second = LocalCluster.start(home, Options(nodes=1), tied=True)
    entry = registry.find(home)
    assert entry is not None
    os.kill(entry.pid, signal.SIGKILL)
    _autonomic(home.parent, "cluster", "status", code=3)
    # `down` is asked for the folder that holds `cluster`; this home is not called so
    assert stop(home)
    assert not cgroups.pids(second.index)
    assert _machine(cluster) == before
    assert not stop(home)


def test_an_up_that_is_killed_while_it_starts_leaves_nothing_after_down(
    cluster: LocalCluster, tmp_path: Path, wait: Callable[..., Any]
) -> None:
    before = _machine(cluster)
    starting = subprocess.Popen(
        [sys.executable, "-m", "autonomic.cli.main", "cluster", "up", "--home", str(tmp_path), "--nodes", "1"], stderr=subprocess.PIPE
    )
    home = tmp_path / "cluster"
    wait(lambda: (home / "logs" / "kube-apiserver.log").exists(), "the start of the API server")
    starting.kill()
    starting.communicate()
    assert "removed by `autonomic cluster down`" in _autonomic(tmp_path, "cluster", "status", code=3)
    assert "Stopped." in _autonomic(tmp_path, "cluster", "down", code=0)
    assert _machine(cluster) == before
    _autonomic(tmp_path, "cluster", "down", code=3)


def test_ctrl_c_while_it_starts_leaves_nothing(cluster: LocalCluster, tmp_path: Path, wait: Callable[..., Any]) -> None:
    before = _machine(cluster)
    starting = subprocess.Popen(
        [sys.executable, "-m", "autonomic.cli.main", "cluster", "up", "--home", str(tmp_path), "--nodes", "1"], stderr=subprocess.PIPE
    )
    wait(lambda: (tmp_path / "cluster" / "logs" / "node1.log").exists(), "the start of the node")
    starting.send_signal(signal.SIGINT)
    _, said = starting.communicate(timeout=60)
    assert starting.returncode == 0
    assert b"Traceback" not in said
    assert _machine(cluster) == before


def _autonomic(home: Path, *arguments: str, code: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "autonomic.cli.main", *arguments, "--home", str(home)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stderr


def _machine(other: LocalCluster) -> dict[str, Any]:
    """All that a cluster changes on a machine, without what belongs to `other`, which lives on."""
    own = (f"autonomic{other.index}", f"172.30.{other.index}.", str(other.home), f"10.244.{16 * other.index}.")

    def foreign(lines: list[str]) -> list[str]:
        return sorted(line for line in lines if not any(word in line for word in own))

    mounts = [line.split(" - ")[0].split(" ", 4)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {
        "mounts": foreign(mounts),
        "links": foreign([path.name for path in Path("/sys/class/net").iterdir()]),
        "routes": foreign(_lines("ip", "route", "show", "table", "all")),
        "namespaces": foreign(_lines("ip", "netns", "list")),
        "cgroups": foreign([str(path) for hierarchy in cgroups.hierarchies() for path in hierarchy.glob("autonomic*")]),
        "sockets": foreign([path.name for path in registry.FOLDER.glob("*.sock") if path.stem != str(other.index)]),
        "clusters": [entry for entry in registry.entries() if entry.index != other.index],
        "settings": [(Path("/proc/sys") / name.replace(".", "/")).read_text() for name in SETTINGS],
        "processes": _processes(other),
    }


def _processes(other: LocalCluster) -> list[str]:
    """Commands of the kind that clusters run, which belong to none that lives."""
    known = cgroups.pids(other.index)
    programs = {path.name for path in other.kubectl.parent.iterdir()}
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in known:
            try:
                program = (entry / "cmdline").read_bytes().split(b"\0")[0].decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if Path(program).name in programs and program.startswith(str(other.kubectl.parent)):
                found.append(program)
    return sorted(found)


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
