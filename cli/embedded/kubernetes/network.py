"""The addresses and names of one local cluster, and the bridge, namespaces and routes that carry them.

Everything follows from the cluster's index, so that several clusters live beside each other and what is left of a dead one
can be removed by anybody who knows its index.
"""

import contextlib
import ipaddress
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from autonomic.seams.errors import Permanent

MAX_CLUSTERS = 16
MAX_NODES = 7
_NAMESPACES = Path("/run/netns")


@dataclass(frozen=True)
class Network:
    """What the cluster of `index` (0 to 15) uses. Nodes count from 1; their pods get a /24 each."""

    index: int

    @property
    def bridge(self) -> str:
        return f"autonomic{self.index}"

    @property
    def host_address(self) -> str:
        """Where nodes and pods reach servers of the machine, and where the API server listens."""
        return f"172.30.{self.index}.1"

    @property
    def loopback(self) -> str:
        """A loopback address of this cluster's own: every cluster has the same ports there."""
        return f"127.30.{self.index}.1"

    @property
    def machines(self) -> str:
        return f"172.30.{self.index}.0/24"

    @property
    def pods(self) -> str:
        return f"10.244.{16 * self.index}.0/20"

    @property
    def fake_pods(self) -> str:
        return f"10.244.{16 * self.index + 8}.0/21"

    @property
    def services(self) -> str:
        return f"10.96.{16 * self.index}.0/20"

    @property
    def api_service(self) -> str:
        return f"10.96.{16 * self.index}.1"

    @property
    def dns_address(self) -> str:
        return f"10.96.{16 * self.index}.10"

    def node_address(self, number: int) -> str:
        return f"172.30.{self.index}.{10 + number}"

    def pod_subnet(self, number: int) -> str:
        return f"10.244.{16 * self.index + number}.0/24"

    def namespace(self, number: int) -> str:
        """The network namespace of a node, as `ip netns` lists it."""
        return f"autonomic{self.index}-node{number}"

    def link(self, number: int) -> str:
        """The machine's end of a node's cable. Names of interfaces have 15 characters at most."""
        return f"autonomic{self.index}-n{number}"


def in_use(network: Network) -> str | None:
    """The route or address of this machine that the cluster's networks would overlap, or None."""
    ours = [ipaddress.ip_network(subnet) for subnet in (network.machines, network.pods, network.services)]
    routes = [route["dst"] for route in json.loads(_ip("-json", "-4", "route", "show")) if route["dst"] != "default"]
    addresses = [
        f"{info['local']}/{info['prefixlen']}"
        for link in json.loads(_ip("-json", "-4", "address", "show"))
        for info in link.get("addr_info", [])
    ]
    for taken in (*routes, *addresses):
        if any(ipaddress.ip_network(taken, strict=False).overlaps(subnet) for subnet in ours):
            return taken
    return None


def make(network: Network, nodes: int) -> None:
    """Makes the bridge, a namespace for each node with a cable to the bridge, and the routes between nodes, pods and machine."""
    _ip("link", "add", network.bridge, "type", "bridge")
    _ip("address", "add", f"{network.host_address}/24", "dev", network.bridge)
    _ip("link", "set", network.bridge, "up")
    numbers = range(1, nodes + 1)
    for number in numbers:
        namespace, link = network.namespace(number), network.link(number)
        _ip("netns", "add", namespace)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", link, "master", network.bridge, "up")
        inside = [
            f"address add {network.node_address(number)}/24 dev eth0",
            "link set eth0 up",
            "link set lo up",
            f"route add default via {network.host_address}",
            *(f"route add {network.pod_subnet(other)} via {network.node_address(other)}" for other in numbers if other != number),
        ]
        _ip("-netns", namespace, "-batch", "-", text="\n".join(inside))
        _run("nsenter", f"--net={_NAMESPACES / namespace}", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        _ip("route", "add", network.pod_subnet(number), "via", network.node_address(number))
    _ip("route", "add", network.services, "via", network.node_address(1))


def remove(network: Network) -> None:
    """Removes all of it; what is not there is no error. The routes go with the bridge."""
    for number in range(1, MAX_NODES + 1):
        if (_NAMESPACES / network.namespace(number)).exists():
            _ip("netns", "delete", network.namespace(number))
        _delete_link(network.link(number))
    _delete_link(network.bridge)
    # which the first `ip netns add` of a machine makes and mounts
    if _NAMESPACES.exists() and not any(_NAMESPACES.iterdir()):
        subprocess.run(["umount", _NAMESPACES], capture_output=True, check=False)
        with contextlib.suppress(OSError):
            _NAMESPACES.rmdir()


def set_cable(network: Network, number: int, plugged: bool) -> None:
    """Cuts a node off from the machine and from the other nodes, or connects it again."""
    _ip("link", "set", network.link(number), "up" if plugged else "down")


def _delete_link(name: str) -> None:
    if Path(f"/sys/class/net/{name}").exists():
        # a cable vanishes by itself a moment after its namespace
        subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)
    if Path(f"/sys/class/net/{name}").exists():
        raise Permanent(f"the interface {name} could not be removed; look at it with `ip link show {name}` and run `down` again")


def _ip(*arguments: str, text: str | None = None) -> str:
    return _run("ip", *arguments, text=text)


def _run(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Permanent(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
