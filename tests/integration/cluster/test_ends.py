"""Clusters end without a trace, in whatever way they end."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autonomic.cli.embedded.kubernetes import build, cgroups, registry
from autonomic.cli.embedded.kubernetes.cluster import LocalCluster, NotRunning, stop
from autonomic.cli.embedded.kubernetes.supervisor import Options

pytestmark = pytest.mark.kubernetes

SETTINGS = ("vm.overcommit_memory", "kernel.panic", "kernel.panic_on_oops", "net.ipv4.ip_forward", "net.ipv4.conf.all.route_localnet")

FOLDERS = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/var/log/containers", "/etc/cni", "/opt/cni")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "cluster"
    stop(tmp_path / "cluster")


def test_two_clusters_live_beside_each_other_and_one_ends_without_a_trace(
    cluster: LocalCluster, home: Path, wait: Callable[..., Any]
) -> None:
    before = wait(_machine_at_rest, "the end of what other clusters ended")
    second = LocalCluster.start(home, Options(nodes=1, fake_nodes=3, audit=True, gateway_api=True), tied=True)
    assert second.index != cluster.index
    assert second.host_address != cluster.host_address
    nodes = json.loads(second.run_kubectl("get", "nodes", "-o", "json"))["items"]
    assert {node["metadata"]["name"] for node in nodes} == {"node1", "fake-0", "fake-1", "fake-2"}
    wait(lambda: "fake-0   Ready" in second.run_kubectl("get", "nodes"), "Ready fake nodes")
    assert "httproutes" in second.run_kubectl("api-resources", "--api-group=gateway.networking.k8s.io")
    second.run_kubectl("create", "namespace", "audited")
    audit = (home / "logs" / "audit.log").read_text()
    assert any(entry["verb"] == "create" and entry["objectRef"].get("name") == "audited" for entry in map(json.loads, audit.splitlines()))
    with pytest.raises(registry.AlreadyRunning):
        LocalCluster.start(home)
    second.stop()
    assert _machine() == before
    assert sorted(path.name for path in home.iterdir()) == ["logs"]
    with pytest.raises(NotRunning):
        LocalCluster.attach(home)
    assert cluster.run_kubectl("get", "--raw", "/readyz") == "ok"


def test_a_killed_supervisor_takes_all_processes_along_and_down_removes_the_rest(home: Path, wait: Callable[..., Any]) -> None:
    before = wait(_machine_at_rest, "the end of what other clusters ended")
    second = LocalCluster.start(home, Options(nodes=1), tied=True)
    entry = registry.find(home)
    assert entry is not None
    os.kill(entry.pid, signal.SIGKILL)
    assert "removed by `autonomic cluster down`" in _autonomic(home.parent, "cluster", "status", code=3)
    assert "Stopped." in _autonomic(home.parent, "cluster", "down", code=0)
    assert not cgroups.pids(second.index)
    assert _machine() == before
    _autonomic(home.parent, "cluster", "down", code=3)


def test_an_up_that_is_killed_while_it_starts_leaves_nothing_after_down(home: Path, wait: Callable[..., Any]) -> None:
    before = wait(_machine_at_rest, "the end of what other clusters ended")
    starting = _up(home.parent)
    wait(lambda: (home / "logs" / "kube-apiserver.log").exists(), "the start of the API server")
    starting.kill()
    starting.communicate()
    assert "Stopped." in _autonomic(home.parent, "cluster", "down", code=0)
    assert _machine() == before


def test_ctrl_c_while_it_starts_leaves_nothing(home: Path, wait: Callable[..., Any]) -> None:
    before = wait(_machine_at_rest, "the end of what other clusters ended")
    starting = _up(home.parent)
    wait(lambda: (home / "logs" / "node1.log").exists(), "the start of the node")
    starting.send_signal(signal.SIGINT)
    _, said = starting.communicate(timeout=180)
    assert starting.returncode == 0
    assert b"Traceback" not in said
    assert _machine() == before


def _up(home: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "autonomic.cli.main", "cluster", "up", "--home", str(home), "--nodes", "1"]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def _autonomic(home: Path, *arguments: str, code: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "autonomic.cli.main", *arguments, "--home", str(home)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stderr


def _machine() -> dict[str, Any]:
    """All that clusters change on a machine, without what belongs to those that live: what is left is of the dead."""
    alive = [entry.index for entry in registry.entries() if entry.alive]
    names = [rf"autonomic{index}(?!\d)|172\.30\.{index}\.|10\.(244|96)\.{16 * index}\." for index in alive]
    pods = [rf"10\.244\.{16 * index + number}\." for index in alive for number in range(1, 8)]
    theirs = re.compile("|".join([*names, *pods, *(rf"^{index}\.sock$" for index in alive)]))

    def left(lines: Iterable[str]) -> list[str]:
        return sorted(line for line in lines if not theirs.search(line))

    return {
        # the part of a line that says where it is mounted, and what
        "mounts": left(line.split(" ", 3)[3] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "links": left(path.name for path in Path("/sys/class/net").iterdir()),
        "routes": left(_lines("ip", "route", "show", "table", "all")),
        "namespaces": left(line.split()[0] for line in _lines("ip", "netns", "list")),
        "cgroups": left(str(path) for hierarchy in cgroups.hierarchies() for path in hierarchy.glob("autonomic*")),
        "sockets": left(path.name for path in registry.FOLDER.glob("*.sock")),
        "clusters": [entry for entry in registry.entries() if not entry.alive],
        "settings": [(Path("/proc/sys") / name.replace(".", "/")).read_text() for name in SETTINGS],
        "folders": [name for name in FOLDERS if Path(name).exists()],
        "processes": _processes({pid for index in alive for pid in cgroups.pids(index)}),
    }


def _machine_at_rest() -> dict[str, Any] | None:
    """The machine, None while a container that ended leaves a process for a moment more."""
    return machine if not (machine := _machine())["processes"] else None


def _processes(known: set[int]) -> list[str]:
    """The programs of clusters that run and belong to none that lives."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in known:
            try:
                program = (entry / "cmdline").read_bytes().split(b"\0")[0].decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if program.startswith(str(build.cache_folder())) and Path(program).name != "kubectl":
                found.append(program)
    return sorted(found)


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
