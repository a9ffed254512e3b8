"""Where the demo runs: Ray on this machine, or a Kubernetes cluster of its own on this machine."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import psutil

from autonomic.agents.settings import Settings
from autonomic.cli.embedded.kubernetes import build, helm
from autonomic.cli.embedded.kubernetes.cluster import LocalCluster
from autonomic.cli.system import System
from benchmarks.demo.api import Api
from benchmarks.demo.release import NAMESPACE, Release

Report = Callable[[str, str], None]
_CPUS = 4


class DemoPlatform(Protocol):
    """What the demo asks of the platform that it runs on."""

    name: str

    def prepare(self) -> None:
        """Makes once, for all demos, what takes long."""
        ...

    def start(self) -> Settings:
        """Starts everything, and returns where the parts answer."""
        ...

    def kill_champion(self, api: Api, target: str) -> int:
        """Kills every replica of a service's champion at once, and returns how many those were."""
        ...

    def stop(self) -> None:
        """Stops everything that was started; safe to call at any time."""
        ...


class OnRay:
    """Ray, as `autonomic up` starts it."""

    name = "Ray"

    def __init__(self, home: Path, report: Report) -> None:
        self._system = System(home, cpus=_CPUS, report=report)

    def prepare(self) -> None:
        return

    def start(self) -> Settings:
        return self._system.start()

    def kill_champion(self, api: Api, target: str) -> int:
        ports = api.replica_ports(target, "champion")
        pids = {
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.pid and connection.status == psutil.CONN_LISTEN and ports.intersection(connection.laddr[1:2])
        }
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return len(pids)

    def stop(self) -> None:
        self._system.stop()


class OnKubernetes:
    """A local cluster of two nodes, whose pods run this machine's Python; the agents and the host run in pods of it too."""

    name = "Kubernetes"

    def __init__(self, home: Path, report: Report, readable: tuple[Path, ...] = ()) -> None:
        self._home = home
        self._report = report
        self._readable = readable
        self._cluster: LocalCluster | None = None
        self._release: Release | None = None

    def prepare(self) -> None:
        build.ensure(self._report)
        helm.ensure(self._report)

    def start(self) -> Settings:
        self._cluster = LocalCluster.start(self._home / "cluster", report=self._report, tied=True)
        self._release = Release(self._home, self._cluster, self._report, self._readable)
        return self._release.install()

    def kill_champion(self, api: Api, target: str) -> int:
        assert self._cluster is not None
        workflow, _, service = target.partition("/")
        chosen = f"autonomic.dev/workflow={workflow},autonomic.dev/service={service},autonomic.dev/role=champion"
        found = self._cluster.run_kubectl("--namespace", NAMESPACE, "get", "pods", "-l", chosen, "-o", "json")
        pods = {item["metadata"]["uid"]: item["metadata"]["name"] for item in json.loads(found)["items"]}
        for pid in psutil.pids():
            if any(uid in _cgroups(pid) for uid in pods):
                os.kill(pid, signal.SIGKILL)
        # and nothing of them is left to start again: whatever comes back is made, placed and loaded anew
        self._cluster.run_kubectl("--namespace", NAMESPACE, "delete", "pods", "--force", "--grace-period=0", *pods.values())
        return len(pods)

    def stop(self) -> None:
        if self._release is not None:
            self._release.stop()
        if self._cluster is not None:
            self._cluster.stop()


def _cgroups(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""
