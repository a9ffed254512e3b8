"""The process that holds a cluster: starts it, takes orders, starts again what dies, and leaves nothing behind.

Every process of the cluster is its child and is killed by the kernel when it dies, however it dies.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autonomic.cli.embedded.kubernetes import (
    addons,
    build,
    cgroups,
    control_plane,
    gateway_api,
    keda,
    limits,
    network,
    node,
    pki,
    registry,
    tools,
)
from autonomic.cli.embedded.kubernetes.api import Api
from autonomic.cli.embedded.kubernetes.control_plane import Part, Paths
from autonomic.seams.errors import AutonomicError, Permanent
from autonomic.workflows.processes import start_process, wait_until

STATE_FILE = "cluster.json"
UP_LOG = "up.log"
_PARTS_SECONDS = 90.0
_POLL_SECONDS = 0.5
_RESTART_SECONDS = 1.0


@dataclass(frozen=True)
class Options:
    """How a cluster is to be; `usual_autoscaling`: see `control_plane.controller_manager`."""

    nodes: int = 2
    fake_nodes: int = 0
    audit: bool = False
    keda: bool = False
    gateway_api: bool = False
    usual_autoscaling: bool = False


class Stopped(BaseException):
    """Somebody asked the supervisor to end; no error handler may swallow it."""


class Supervisor:
    """The cluster of `home`. `run()` returns when it has been stopped, with everything removed."""

    def __init__(self, home: Path, options: Options, report: build.Report = lambda part, state: None) -> None:
        if not 1 <= options.nodes <= network.MAX_NODES:
            raise Permanent(f"{options.nodes} nodes were asked for; a local cluster has 1 to {network.MAX_NODES}")
        self.home = home.resolve()
        self.options = options
        self._report = report
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._parts: dict[str, tuple[Part, float]] = {}
        self._stopping = False

    def run(self, when_ready: Callable[[], None] = lambda: None) -> None:
        """Starts the cluster, calls `when_ready()`, and holds it until SIGTERM or SIGINT.

        Raises:
            registry.AlreadyRunning: another process holds the cluster of this home.
            Permanent: a part did not come up; what was started has been removed again.
        """
        check_machine()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        slot: registry.Slot | None = None
        try:
            programs = build_all(self.options, self._report)
            limits.check_inotify(self.options.nodes)
            slot = registry.claim(self.home, remove_traces, lambda index: network.in_use(network.Network(index)))
            self._start(slot.index, programs)
            self._serve(slot.index, when_ready)
        except Stopped:
            return
        finally:
            self._stopping = True
            if slot is not None:
                self._remove(slot)

    def _on_signal(self, *_: object) -> None:
        if not self._stopping:
            self._stopping = True
            raise Stopped

    def _start(self, index: int, programs: build.Programs) -> None:
        started = time.monotonic()
        clear(self.home)
        self._network = net = network.Network(index)
        self._programs = programs
        state, logs = self.home / "state", self.home / "logs"
        self._paths = paths = Paths(programs.binaries, state / "pki", state, logs, build.DATA.resolve())
        for folder in (state, logs):
            folder.mkdir(parents=True, exist_ok=True)
        for old in set(logs.iterdir()) - {logs / UP_LOG}:
            old.unlink()
        cgroups.make(index, self.options.nodes)
        network.make(net, self.options.nodes)
        pki.make(paths.pki, net, self.options.nodes, control_plane.server(net))
        shutil.copy(paths.pki / "admin.kubeconfig", self.home / "kubeconfig")
        api = Api(control_plane.server(net), paths.pki)
        self._report("network", f"{net.machines}, this machine is {net.host_address}")
        self._start_part(control_plane.etcd(paths, net))
        self._start_part(server := control_plane.api_server(paths, net, self.options.audit))
        for number in range(1, self.options.nodes + 1):
            node.prepare(self._folder(number), paths.pki, paths.binaries, net, number, self.options.nodes)
            self._start_node(number)
        self._wait(lambda: api.answers(server.ready_url) and api.get("/api/v1/namespaces/kube-system") is not None, server.name)
        self._report("API server", control_plane.server(net))
        others = [control_plane.controller_manager(paths, net, self.options.usual_autoscaling), control_plane.scheduler(paths, net)]
        for part in others:
            self._start_part(part)
        for number in range(1, self.options.nodes + 1):
            (self._folder(number) / "go").touch()
        if self.options.fake_nodes:
            self._start_part(control_plane.kwok(paths, net, programs.stages))
        self._apply(addons.manifests(net, paths.pki, self.options.fake_nodes))
        # it ends where it has no rights yet
        self._start_part(control_plane.metrics_server(paths, net))
        for part in others:
            self._wait(lambda part=part: api.answers(part.ready_url), part.name)
        names = {f"node{number}" for number in range(1, self.options.nodes + 1)}
        self._wait(lambda: names <= api.ready_nodes(), "node1")
        fake = f", and {self.options.fake_nodes} fake ones" if self.options.fake_nodes else ""
        self._report("nodes", f"{', '.join(sorted(names))} Ready{fake}")
        if self.options.gateway_api:
            self._apply(gateway_api.definitions())
            self._report("Gateway API", f"{gateway_api.version()}: its kinds, without a controller")
        if self.options.keda:
            self._add_keda(api)
        self._wait(lambda: api.available("kube-system", "coredns"), "node1-kubelet")
        self._report("CoreDNS", f"{net.dns_address}; everything is up after {time.monotonic() - started:.1f} s")

    def _folder(self, number: int) -> Path:
        return self.home / "state" / f"node{number}"

    def _start_part(self, part: Part) -> None:
        self._parts[part.name] = (part, time.monotonic())
        self._processes[part.name] = self._spawn(part.command, self._paths.logs / f"{part.name}.log")

    def _start_node(self, number: int) -> None:
        paths, folder = self._paths, self._folder(number)
        environment = node.environment(
            folder, paths.logs, paths.pki, paths.binaries, self._programs.images.resolve(), self._network, number
        )
        log = paths.logs / f"node{number}.log"
        self._processes[f"node{number}"] = self._spawn(node.command(self._network, number), log, environment)

    def _spawn(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        # killed with this process, and counted to the cluster before it starts anything
        group = cgroups.processes(self._network.index)
        join = ["setpriv", "--pdeathsig", "KILL", "--", "/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")]
        return start_process([*join, *command], log, env=env)

    def _wait(self, ready: Callable[[], bool], name: str) -> None:
        wait_until(ready, name, _PARTS_SECONDS, self._paths.logs / f"{name}.log", self._processes.get(name))

    def _add_keda(self, api: Api) -> None:
        built = keda.ensure()
        for number in range(1, self.options.nodes + 1):
            node.load(self._processes[f"node{number}"].pid, self._paths.binaries / "ctr", built / "keda.tar")
        self._apply((built / "definitions.yaml").read_text())
        self._apply(keda.manifests(self._paths.pki))
        self._wait(lambda: all(api.available(keda.NAMESPACE, name) for name in keda.DEPLOYMENTS), "node1-kubelet")
        self._report("KEDA", f"{keda.version()}, in the namespace {keda.NAMESPACE}")

    def _apply(self, documents: str) -> None:
        kubectl = [str(self._paths.binaries / "kubectl"), f"--kubeconfig={self.home / 'kubeconfig'}", "create", "-f", "-"]
        done = subprocess.run(kubectl, input=documents, capture_output=True, text=True, check=False, start_new_session=True)
        if done.returncode:
            raise Permanent(f"`{' '.join(kubectl)}` failed: {done.stderr.strip()}")

    def _write_state(self) -> None:
        state = {
            "index": self._network.index,
            "host_address": self._network.host_address,
            "kubeconfig": str(self.home / "kubeconfig"),
            "kubectl": str(self._paths.binaries / "kubectl"),
            "nodes": [f"node{number}" for number in range(1, self.options.nodes + 1)],
            "fake_nodes": self.options.fake_nodes,
            "pid": os.getpid(),
        }
        partial = self.home / f"{STATE_FILE}.partial"
        partial.write_text(json.dumps(state, indent=2))
        partial.rename(self.home / STATE_FILE)

    def _serve(self, index: int, when_ready: Callable[[], None]) -> None:
        path = registry.socket_path(index)
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            listener.settimeout(_POLL_SECONDS)
            self._write_state()
            when_ready()
            while True:
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    self._revive()
                    continue
                with connection:
                    self._answer(connection)

    def _revive(self) -> None:
        for name, (part, started) in list(self._parts.items()):
            if self._processes[name].poll() is not None and time.monotonic() - started > _RESTART_SECONDS:
                self._report(name, f"ended with code {self._processes[name].returncode} and is started again")
                self._start_part(part)

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(_POLL_SECONDS)
        try:
            order = json.loads(connection.makefile().readline())
            answer = {"ok": self._obey(order)}
        except AutonomicError as refused:
            answer = {"error": str(refused)}
        except (OSError, ValueError, KeyError) as broken:
            answer = {"error": f"not an order: {broken!r}"}
        try:
            connection.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            return

    def _obey(self, order: dict[str, Any]) -> Any:
        if order["do"] == "nodes":
            return {name: self._pid(name) for name in self._processes if name.startswith("node")}
        name = order["node"]
        nodes = [known for known in self._processes if known.startswith("node")]
        if name not in nodes:
            raise Permanent(f"there is no node {name!r}; there are {', '.join(nodes)}")
        number = int(name.removeprefix("node"))
        if order["do"] == "crash":
            self._processes[name].kill()
            self._processes[name].wait()
            cgroups.kill(self._network.index, name)
            # no group outlives the crash of a machine, and a kubelet that finds one looks for its container for a while
            cgroups.remove(self._network.index, name)
        elif order["do"] == "partition":
            network.set_cable(self._network, number, plugged=False)
        elif order["do"] == "heal":
            network.set_cable(self._network, number, plugged=True)
            if self._pid(name) is None:
                self._start_node(number)
        else:
            raise Permanent(f"unknown order {order['do']!r}")
        return None

    def _pid(self, name: str) -> int | None:
        process = self._processes[name]
        return process.pid if process.poll() is None else None

    def _remove(self, slot: registry.Slot) -> None:
        for process in self._processes.values():
            process.kill()
        remove_traces(slot.index)
        for process in self._processes.values():
            process.wait()
        clear(self.home)
        slot.release()


def build_all(options: Options, report: build.Report) -> build.Programs:
    """Builds all that a cluster with these options needs and that is not built yet."""
    if options.keda:
        keda.ensure(report)
    if options.gateway_api:
        gateway_api.definitions()
    return build.ensure(report)


def remove_traces(index: int) -> None:
    """Removes everything that a cluster has on this machine outside its home, whether its supervisor lives or not."""
    cgroups.kill(index)
    network.remove(network.Network(index))
    cgroups.remove(index)
    registry.socket_path(index).unlink(missing_ok=True)


def clear(home: Path) -> None:
    """Removes what a cluster keeps in its home, except for its logs."""
    for name in (STATE_FILE, "kubeconfig"):
        (home / name).unlink(missing_ok=True)
    if (home / "state").exists():
        shutil.rmtree(home / "state")


def check_machine() -> None:
    """Raises Permanent where this machine or user cannot hold a cluster; says what is lacking."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Permanent("a local cluster needs Linux and root: it makes namespaces, control groups and a bridge. Run it with sudo.")
    lacking = {package for tool, package in tools.NEEDED.items() if not shutil.which(tool)}
    if lacking:
        raise Permanent(f"these packages are needed: {', '.join(sorted(lacking))}. Install them, and run `cluster up` again.")


def main(arguments: Sequence[str]) -> None:
    """Holds the cluster of a home, with options as JSON; prints what goes on."""
    home, options = Path(arguments[0]), Options(**json.loads(arguments[1]))
    try:
        Supervisor(home, options, lambda part, state: print(f"{part}: {state}", flush=True)).run()
    except AutonomicError as failed:
        sys.exit(f"Error: {failed}")


def options_as_json(options: Options) -> str:
    """What `main` reads."""
    return json.dumps(asdict(options))


if __name__ == "__main__":
    main(sys.argv[1:])
