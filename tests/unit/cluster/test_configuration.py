import json
import tomllib
from pathlib import Path

import pytest
import yaml

from autonomic.cli.embedded.kubernetes import addons, control_plane, images, keda, node
from autonomic.cli.embedded.kubernetes.control_plane import Paths
from autonomic.cli.embedded.kubernetes.network import Network

NETWORK = Network(2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    node.prepare(tmp_path / "node2", tmp_path / "pki", tmp_path / "bin", NETWORK, 2, 2)
    return tmp_path / "node2"


def test_a_node_keeps_to_its_own_addresses_groups_and_folders(folder: Path) -> None:
    kubelet = yaml.safe_load((folder / "kubelet.yaml").read_text())
    assert kubelet["address"] == "172.30.2.12"
    assert kubelet["cgroupRoot"] == "/autonomic2/node2"
    assert kubelet["clusterDNS"] == ["10.96.32.10"]
    assert kubelet["nodeLeaseDurationSeconds"] < control_plane.NODE_GRACE_SECONDS
    containerd = tomllib.loads((folder / "containerd.toml").read_text())
    assert containerd["root"] == "/run/node/containerd"
    assert containerd["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == images.PAUSE
    cni = json.loads((folder / "cni" / "10-pods.conflist").read_text())
    assert cni["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.34.0/24"}]]


def test_no_setting_of_the_whole_machine_is_changed(folder: Path) -> None:
    proxy = yaml.safe_load((folder / "kube-proxy.yaml").read_text())
    assert proxy["conntrack"] == {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    assert proxy["oomScoreAdj"] == 0
    assert yaml.safe_load((folder / "kubelet.yaml").read_text())["makeIPTablesUtilChains"] is False


def test_nodes_together_hand_out_four_fifths_of_the_memory() -> None:
    machine = 10 * 2**30
    assert 2 * (machine - node.reserved_memory(machine, 2)) == pytest.approx(0.8 * machine, abs=4)
    assert machine - node.reserved_memory(machine, 1) == pytest.approx(0.8 * machine, abs=4)


def test_layers_are_copied_where_overlays_cannot_be_stacked(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("overlay / overlay rw 0 0\n/dev/sda /data ext4 rw 0 0\n")
    assert node.snapshotter(Path("/srv/home"), mounts) == "native"
    assert node.snapshotter(Path("/data/home"), mounts) == "overlayfs"


def test_the_api_server_authorizes_by_rbac_and_writes_an_audit_log_on_request() -> None:
    paths = Paths(*(Path(f"/{name}") for name in ("bin", "pki", "state", "logs", "data")))
    quiet, audited = (control_plane.api_server(paths, NETWORK, audit).command for audit in (False, True))
    assert "--authorization-mode=Node,RBAC" in quiet
    assert "--bind-address=172.30.2.1" in quiet
    assert not [argument for argument in quiet if "audit" in argument]
    assert "--audit-log-path=/logs/audit.log" in audited


def test_every_process_listens_on_addresses_of_its_cluster() -> None:
    paths = Paths(*(Path(f"/{name}") for name in ("bin", "pki", "state", "logs", "data")))
    parts = [
        control_plane.etcd(paths, NETWORK),
        control_plane.api_server(paths, NETWORK, False),
        control_plane.controller_manager(paths, NETWORK),
        control_plane.scheduler(paths, NETWORK),
        control_plane.metrics_server(paths, NETWORK),
        control_plane.kwok(paths, NETWORK, Path("/stages.yaml")),
    ]
    listening = ("--bind-address=", "--listen-client-urls=", "--listen-peer-urls=", "--server-address=")
    for part in parts:
        found = [argument for argument in part.command if argument.startswith(listening)]
        assert found, part.name
        assert all(NETWORK.loopback in argument or NETWORK.host_address in argument for argument in found)


def test_what_is_put_into_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("certificate")
    documents = [document for document in yaml.safe_load_all(addons.manifests(NETWORK, tmp_path, 3)) if document]
    named = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    assert named["Service", "kube-dns"]["spec"]["clusterIP"] == "10.96.32.10"
    assert named["EndpointSlice", "metrics-server-host"]["endpoints"][0]["addresses"] == ["172.30.2.1"]
    assert {name for kind, name in named if kind == "Node"} == {"fake-0", "fake-1", "fake-2"}
    assert named["Node", "fake-0"]["spec"]["taints"][0]["effect"] == "NoSchedule"


def test_keda_is_of_one_image_that_no_registry_has_to_give(tmp_path: Path) -> None:
    documents = [document for document in yaml.safe_load_all(keda.manifests(tmp_path)) if document]
    deployments = {document["metadata"]["name"]: document for document in documents if document["kind"] == "Deployment"}
    assert set(deployments) == set(keda.DEPLOYMENTS)
    for deployment in deployments.values():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert (container["image"], container["imagePullPolicy"]) == (keda.IMAGE, "Never")
