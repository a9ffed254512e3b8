"""The control groups of a local cluster, in either version of the interface: one for its processes, one for each node's pods."""

import os
import signal
import time
from pathlib import Path

from autonomic.seams.errors import Permanent

_KILL_SECONDS = 20.0
_SHARES_PER_CORE = 1024
_WEIGHT_PER_CORE = 100
_MAX_WEIGHT = 10000


def hierarchies(mounts: Path = Path("/proc/self/mounts")) -> list[Path]:
    """Where control groups are mounted: one folder for each controller in version 1, one for all in version 2."""
    fields = (line.split() for line in mounts.read_text().splitlines())
    return [Path(field[1]) for field in fields if field[2] in ("cgroup", "cgroup2")]


def top(index: int) -> str:
    """The name of a cluster's group in every hierarchy."""
    return f"autonomic{index}"


def make(index: int, nodes: int) -> None:
    """Makes the groups `processes` and `node1` … below the cluster's."""
    cores = os.cpu_count() or 1
    mounted = hierarchies()
    for hierarchy in mounted:
        group = hierarchy / top(index)
        group.mkdir(exist_ok=True)
        _fill_cpuset(group)
        _write(group / "cpu.shares", str(_SHARES_PER_CORE * cores))
        _write(group / "cpu.weight", str(min(_WEIGHT_PER_CORE * cores, _MAX_WEIGHT)))
        # beside version 1 the one hierarchy of version 2 counts processes and limits nothing
        if len(mounted) == 1:
            _delegate(hierarchy)
            _delegate(group)
        for name in ("processes", *(f"node{number}" for number in range(1, nodes + 1))):
            (group / name).mkdir(exist_ok=True)
            _fill_cpuset(group / name)


def processes(index: int) -> Path:
    """The group that tells which processes belong to the cluster; it is in one hierarchy only and limits nothing."""
    mounted = hierarchies()
    if not mounted:
        raise Permanent("this machine has no control groups mounted; mount cgroup2 at /sys/fs/cgroup and try again")
    best = next((hierarchy for name in ("systemd", "unified", "pids") for hierarchy in mounted if hierarchy.name == name), mounted[0])
    return best / top(index) / "processes"


def pids(index: int, below: str = "") -> set[int]:
    """Every process of the cluster (control plane, nodes, and the containers of its pods), or of one of its groups."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / top(index) / below):
            try:
                found.update(int(line) for line in (Path(folder) / "cgroup.procs").read_text().split())
            except (FileNotFoundError, OSError):
                continue
    return found


def kill(index: int, below: str = "") -> None:
    """Kills every process of the cluster, or of one of its groups, and waits until they are gone.

    Raises:
        Permanent: one of them does not die.
    """
    deadline = time.monotonic() + _KILL_SECONDS
    while left := pids(index, below):
        if time.monotonic() > deadline:
            raise Permanent(f"these processes do not end: {sorted(left)}. Look at them with `ps`, and run `down` again.")
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def remove(index: int, node: str | None = None) -> None:
    """Removes the cluster's groups, or those of the pods of one node; no process is left in them."""
    for hierarchy in hierarchies():
        group = hierarchy / top(index) / (node or "")
        for folder, _, _ in os.walk(group, topdown=False):
            if node is None or Path(folder) != group:
                _rmdir(Path(folder))


def _rmdir(folder: Path) -> None:
    # the kernel lets go of a group a moment after its last process
    deadline = time.monotonic() + 5
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as busy:
            if time.monotonic() > deadline:
                raise Permanent(f"the control group {folder} could not be removed: {busy}; run `down` again") from None
            time.sleep(0.02)


def _fill_cpuset(group: Path) -> None:
    # in version 1 a new cpuset is empty, and nothing can run in it
    for name in ("cpuset.cpus", "cpuset.mems"):
        own = group / name
        if (group / "cpuset.sched_load_balance").exists() and not own.read_text().strip():
            own.write_text((group.parent / name).read_text())


def _delegate(group: Path) -> None:
    controllers = group / "cgroup.controllers"
    if controllers.exists():
        for controller in controllers.read_text().split():
            _write(group / "cgroup.subtree_control", f"+{controller}")


def _write(file: Path, text: str) -> None:
    # which files there are depends on the version and on the controllers that the machine hands out
    if file.exists():
        try:
            file.write_text(text)
        except OSError:
            return
