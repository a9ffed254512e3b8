"""A node: what its kubelet, containerd and kube-proxy are told, and how it is started."""

import os
import resource
import subprocess
from collections.abc import Mapping
from pathlib import Path
from string import Template

from autonomic.cli.embedded.kubernetes import cgroups, images
from autonomic.cli.embedded.kubernetes.build import DATA
from autonomic.cli.embedded.kubernetes.network import Network
from autonomic.seams.errors import Permanent

_MOST_OPEN_FILES = 1_000_000
# what the control plane and everything beside the cluster may keep for themselves
_RESERVED_SHARE = 0.2


def prepare(folder: Path, pki: Path, binaries: Path, network: Network, number: int, nodes: int) -> None:
    """Writes the configuration of node `number` of `nodes` into its `folder`."""
    for name in ("cni", "kubelet"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    values = {
        "node": f"node{number}",
        "node_address": network.node_address(number),
        "pod_subnet": network.pod_subnet(number),
        "pods": network.pods,
        "dns_address": network.dns_address,
        "pki": str(pki),
        "binaries": str(binaries),
        "cgroup": f"/{cgroups.top(network.index)}/node{number}",
        "pause_image": images.PAUSE,
        "snapshotter": snapshotter(folder),
        "open_files": str(min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], _MOST_OPEN_FILES)),
        "reserved_memory": f"{reserved_memory(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'), nodes) >> 20}Mi",
    }
    for name, target in (
        ("containerd.toml", "containerd.toml"),
        ("kubelet.yaml", "kubelet.yaml"),
        ("kube-proxy.yaml", "kube-proxy.yaml"),
        ("cni.conflist", "cni/10-pods.conflist"),
    ):
        (folder / target).write_text(render(DATA / "node" / name, values))
    (folder / "resolv.conf").write_text(f"nameserver {network.dns_address}\n")


def command(network: Network, number: int) -> list[str]:
    """Starts a node in namespaces of its own. Whoever kills the process that this becomes kills all of the node.

    `ip netns exec` would do the first part, but it mounts /sys anew and loses the control groups below it.
    """
    return [
        *("nsenter", f"--net=/run/netns/{network.namespace(number)}"),
        *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("/bin/sh", str((DATA / "node" / "init.sh").resolve())),
    ]


def environment(folder: Path, logs: Path, pki: Path, binaries: Path, archives: Path, network: Network, number: int) -> dict[str, str]:
    """What the node's first process reads."""
    return {
        "NODE": f"node{number}",
        "FOLDER": str(folder),
        "LOGS": str(logs),
        "BINARIES": str(binaries),
        "IMAGES": str(archives),
        "KUBECONFIG": str(pki / f"node{number}.kubeconfig"),
        "ADDRESS": network.node_address(number),
    }


def load(pid: int, ctr: Path, archive: Path) -> None:
    """Imports the images of an archive into the node whose process on this machine is `pid`.

    Raises:
        Permanent: containerd does not take it; quotes what it said.
    """
    command = ["nsenter", f"--target={pid}", "--mount", str(ctr), "--namespace=k8s.io", "images", "import", "-"]
    with archive.open("rb") as content:
        done = subprocess.run(command, stdin=content, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Permanent(f"{archive} could not be imported: {done.stderr.strip() or done.stdout.strip()}")


def reserved_memory(machine_bytes: int, nodes: int) -> int:
    """What each node keeps back of the machine's memory, which all of them see whole: together they hand out four fifths of it."""
    return int(machine_bytes - machine_bytes * (1 - _RESERVED_SHARE) / nodes)


def snapshotter(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """How containerd keeps layers below `folder`: an overlay cannot lie on an overlay, and copies are made there."""
    best, kind = "", ""
    for line in mounts.read_text().splitlines():
        _, point, this = line.split()[:3]
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, this
    return "native" if kind == "overlay" else "overlayfs"


def render(template: Path, values: Mapping[str, str]) -> str:
    """The text of a template of data/, with its $names filled in."""
    return Template(template.read_text()).substitute(values)
