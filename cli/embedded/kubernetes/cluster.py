"""A handle on a local cluster: start it, make trouble in it, load images into it, stop it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autonomic.cli.embedded.kubernetes import build, node, registry, supervisor
from autonomic.cli.embedded.kubernetes.supervisor import STATE_FILE, UP_LOG, Options
from autonomic.seams.errors import AutonomicError, Permanent
from autonomic.workflows.processes import start_process

_UP_SECONDS = 240.0
_DOWN_SECONDS = 60.0


# by its home, each supervisor that this process has started and has to reap
_children: dict[Path, "subprocess.Popen[bytes]"] = {}


class NotRunning(AutonomicError):
    """No cluster runs in this home."""


@dataclass(frozen=True)
class LocalCluster:
    """A running cluster.

    `host_address` is where its pods reach servers of this machine (that listen there or everywhere), `nodes` the names of
    its real nodes, `kubectl` the program that was built for it.
    """

    home: Path
    index: int
    kubeconfig: Path
    kubectl: Path
    host_address: str
    nodes: tuple[str, ...]
    fake_nodes: int = 0

    @classmethod
    def start(
        cls, home: Path, options: Options | None = None, report: build.Report = lambda part, state: None, *, tied: bool = False
    ) -> "LocalCluster":
        """Starts a cluster in the background and returns when its nodes and its DNS are ready.

        Its programs are built first where they are not there; that takes about ten minutes, once. Where it is `tied`, it stops
        when the calling thread ends, in whatever way.

        Raises:
            registry.AlreadyRunning: the cluster of this home runs.
            Permanent: it did not come up; says why.
        """
        supervisor.check_machine()
        entry = registry.find(home := home.resolve())
        if entry is not None and entry.alive:
            raise registry.AlreadyRunning(f"The cluster of {home} is running already (process {entry.pid}).")
        options = options or Options()
        supervisor.build_all(options, report)
        log = home / "logs" / UP_LOG
        log.unlink(missing_ok=True)
        (home / STATE_FILE).unlink(missing_ok=True)
        tie = ["setpriv", "--pdeathsig", "TERM", "--"] if tied else []
        command = [*tie, sys.executable, "-m", supervisor.__name__, str(home), supervisor.options_as_json(options)]
        _children[home] = process = start_process(command, log)
        told = 0
        deadline = time.monotonic() + _UP_SECONDS
        while not (home / STATE_FILE).exists():
            told = _tell(log, told, report)
            if process.poll() is not None or time.monotonic() > deadline:
                process.terminate()
                _children.pop(home).wait(_DOWN_SECONDS)
                raise Permanent(f"the cluster did not come up. The end of {log}:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)
        _tell(log, told, report)
        return cls.attach(home)

    @classmethod
    def attach(cls, home: Path) -> "LocalCluster":
        """The cluster that runs in `home`.

        Raises:
            NotRunning: there is none, or it is not up yet.
        """
        home = home.resolve()
        entry = registry.find(home)
        if entry is None or not entry.alive:
            left = " What is left of one is removed by `autonomic cluster down`." if entry is not None else ""
            raise NotRunning(f"No cluster runs in {home}. Start one with `autonomic cluster up`.{left}")
        try:
            state = json.loads((home / STATE_FILE).read_text())
        except FileNotFoundError:
            raise NotRunning(f"The cluster of {home} is not up yet; try again when `autonomic cluster up` says so.") from None
        return cls(
            home=home,
            index=state["index"],
            kubeconfig=Path(state["kubeconfig"]),
            kubectl=Path(state["kubectl"]),
            host_address=state["host_address"],
            nodes=tuple(state["nodes"]),
            fake_nodes=state["fake_nodes"],
        )

    def stop(self) -> None:
        """Stops the cluster and removes everything but its logs."""
        stop(self.home)

    def crash(self, node: str) -> None:
        """Kills every process of a node at once, as when its machine loses power."""
        self._order("crash", node)

    def partition(self, node: str) -> None:
        """Cuts a node off from this machine and from the other nodes; what runs on it runs on."""
        self._order("partition", node)

    def heal(self, node: str) -> None:
        """Connects a node again and, after a crash, starts it again."""
        self._order("heal", node)

    def load(self, archive: Path) -> None:
        """Imports the images of an OCI or Docker archive into every node that runs."""
        if not archive.is_file():
            raise Permanent(f"there is no file {archive}; name an archive as `docker save` or `skopeo copy … oci-archive:` write it")
        for pid in self.pids().values():
            if pid is not None:
                node.load(pid, self.kubectl.with_name("ctr"), archive)

    def audited(self) -> Iterator[str]:
        """The lines of the API server's audit log, the oldest first.

        Raises:
            Permanent: it keeps none.
        """
        # a log that is full gets the time into its name
        files = sorted(self.home.glob("logs/audit-*.log")) + sorted(self.home.glob("logs/audit.log"))
        if not files:
            raise Permanent("this cluster keeps no audit log; start it with `autonomic cluster up --audit`")
        for file in files:
            with file.open() as lines:
                yield from lines

    def pids(self) -> dict[str, int | None]:
        """The process on this machine that is the root of each node; None where the node has crashed."""
        return self._order("nodes")

    def run_kubectl(self, *arguments: str, text: str | None = None) -> str:
        """What kubectl prints.

        Raises:
            Permanent: it failed; quotes what it said.
        """
        command = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Permanent(f"`kubectl {' '.join(arguments)}` failed: {done.stderr.strip()}")
        return done.stdout

    def _order(self, what: str, node: str = "") -> Any:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_DOWN_SECONDS)
            try:
                connection.connect(str(registry.socket_path(self.index)))
            except OSError as gone:
                raise NotRunning(f"The supervisor of the cluster of {self.home} does not answer: {gone}") from None
            connection.sendall(json.dumps({"do": what, "node": node}).encode() + b"\n")
            answer = json.loads(connection.makefile().readline())
        if "error" in answer:
            raise Permanent(answer["error"])
        return answer["ok"]


def stop(home: Path) -> bool:
    """Stops the cluster of `home`, or removes what a dead one left; returns whether there was anything.

    Raises:
        Permanent: something does not go away.
    """
    home = home.resolve()
    entry = registry.find(home)
    if entry is not None and entry.alive:
        _end(entry)
    if home in _children:
        _children.pop(home).wait(_DOWN_SECONDS)
    if entry is not None:
        registry.forget(entry.index, supervisor.remove_traces)
    left = entry is not None or (home / "state").exists()
    supervisor.clear(home)
    return left


def _end(entry: registry.Entry) -> None:
    def alive() -> bool:
        found = registry.find(entry.home)
        return found is not None and found.alive

    for number, seconds in ((signal.SIGTERM, _DOWN_SECONDS), (signal.SIGKILL, 5.0)):
        try:
            os.kill(entry.pid, number)
        except ProcessLookupError:
            return
        if _wait(lambda: not alive(), seconds):
            return
    raise Permanent(f"process {entry.pid} holds the cluster of {entry.home} and does not end")


def _wait(ready: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _tell(log: Path, told: int, report: build.Report) -> int:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    for line in lines[told:]:
        part, colon, state = line.partition(": ")
        if colon:
            report(part, state)
    return len(lines)
