import ipaddress
import json
from itertools import combinations

import pytest

from autonomic.cli.embedded.kubernetes import network
from autonomic.cli.embedded.kubernetes.network import MAX_CLUSTERS, MAX_NODES, Network

INDICES = range(MAX_CLUSTERS)


def test_clusters_share_no_address() -> None:
    subnets = [ipaddress.ip_network(text) for index in INDICES for text in _subnets(Network(index))]
    assert not [pair for pair in combinations(subnets, 2) if pair[0].overlaps(pair[1])]
    assert len({Network(index).loopback for index in INDICES}) == MAX_CLUSTERS


@pytest.mark.parametrize("index", INDICES)
def test_everything_lies_in_the_networks_of_its_cluster(index: int) -> None:
    net = Network(index)
    machines, pods, services = (ipaddress.ip_network(text) for text in _subnets(net))
    nodes = [ipaddress.ip_address(net.node_address(number)) for number in range(1, MAX_NODES + 1)]
    assert all(address in machines for address in (*nodes, ipaddress.ip_address(net.host_address)))
    assert all(ipaddress.ip_address(address) in services for address in (net.api_service, net.dns_address))
    ranges = [ipaddress.ip_network(text) for text in (net.fake_pods, *(net.pod_subnet(number) for number in range(1, MAX_NODES + 1)))]
    assert all(subnet.subnet_of(pods) for subnet in ranges)
    assert not [pair for pair in combinations(ranges, 2) if pair[0].overlaps(pair[1])]
    assert ipaddress.ip_address(net.loopback).is_loopback


def test_names_of_interfaces_fit_and_differ() -> None:
    names = [name for index in INDICES for name in (Network(index).bridge, *(Network(index).link(number) for number in (1, MAX_NODES)))]
    assert max(map(len, names)) <= 15
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("routes", "addresses", "disturbed"),
    [
        (["default", "192.168.1.0/24"], ["127.0.0.1/8"], None),
        (["10.244.0.0/16"], [], "10.244.0.0/16"),
        (["default"], ["172.30.3.7/16"], "172.30.3.7/16"),
        (["10.96.8.1"], [], "10.96.8.1"),
    ],
)
def test_networks_that_the_machine_uses_are_told(
    monkeypatch: pytest.MonkeyPatch, routes: list[str], addresses: list[str], disturbed: str | None
) -> None:
    def ip(*arguments: str) -> str:
        if "route" in arguments:
            return json.dumps([{"dst": route} for route in routes])
        infos = [dict(zip(("local", "prefixlen"), address.split("/"), strict=True)) for address in addresses]
        return json.dumps([{"addr_info": infos}, {}])

    monkeypatch.setattr(network, "_ip", ip)
    assert network.in_use(Network(0)) == disturbed


def _subnets(net: Network) -> tuple[str, str, str]:
    return net.machines, net.pods, net.services
