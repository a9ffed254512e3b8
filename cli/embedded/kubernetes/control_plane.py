"""The parts of the cluster that are processes of the machine: what each is started with and how it says that it is ready."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autonomic.cli.embedded.kubernetes.network import Network

API_PORT = 6443
# a node that is silent for so long is NotReady, and so much later its pods are started elsewhere: quicker than the
# 40 s and 300 s of a usual cluster, for nobody waits for a machine in another room
NODE_GRACE_SECONDS = 15
TOLERATION_SECONDS = 10


@dataclass(frozen=True)
class Part:
    """A process and, where it has one, the address that answers 200 when it is ready."""

    name: str
    command: Sequence[str]
    ready_url: str = ""


@dataclass(frozen=True)
class Paths:
    """The folders that the parts use."""

    binaries: Path
    pki: Path
    state: Path
    logs: Path
    data: Path


def server(network: Network) -> str:
    """The address of the API."""
    return f"https://{network.host_address}:{API_PORT}"


def etcd(paths: Paths, network: Network) -> Part:
    """The store; only the API server has a key to it."""
    clients, peers = f"https://{network.loopback}:2379", f"https://{network.loopback}:2380"
    certificate, key, authority = (paths.pki / name for name in ("etcd.crt", "etcd.key", "etcd-ca.crt"))
    return Part(
        "etcd",
        [
            str(paths.binaries / "etcd"),
            *("--name=local", f"--data-dir={paths.state / 'etcd'}", "--log-level=warn"),
            *(f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}"),
            *(f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=local={peers}"),
            *(f"--cert-file={certificate}", f"--key-file={key}", f"--trusted-ca-file={authority}", "--client-cert-auth"),
            *(
                f"--peer-cert-file={certificate}",
                f"--peer-key-file={key}",
                f"--peer-trusted-ca-file={authority}",
                "--peer-client-cert-auth",
            ),
            # what is in it does not outlive the cluster
            "--unsafe-no-fsync",
        ],
    )


def api_server(paths: Paths, network: Network, audit: bool) -> Part:
    """The API server, on the bridge's address of the machine."""
    pki = paths.pki
    logged = [
        f"--audit-policy-file={paths.data / 'audit-policy.yaml'}",
        f"--audit-log-path={paths.logs / 'audit.log'}",
        "--audit-log-maxsize=100",
        "--audit-log-maxbackup=2",
    ]
    return Part(
        "kube-apiserver",
        [
            str(paths.binaries / "kube-apiserver"),
            *(f"--bind-address={network.host_address}", f"--advertise-address={network.host_address}", f"--secure-port={API_PORT}"),
            *(f"--etcd-servers=https://{network.loopback}:2379", f"--etcd-cafile={pki / 'etcd-ca.crt'}"),
            *(f"--etcd-certfile={pki / 'etcd-client.crt'}", f"--etcd-keyfile={pki / 'etcd-client.key'}"),
            *(f"--service-cluster-ip-range={network.services}", "--authorization-mode=Node,RBAC", "--allow-privileged=true"),
            *(f"--client-ca-file={pki / 'ca.crt'}", f"--tls-cert-file={pki / 'apiserver.crt'}"),
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            *("--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={pki / 'service-accounts.pub'}"),
            f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
            f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
            *(f"--kubelet-certificate-authority={pki / 'ca.crt'}", "--kubelet-preferred-address-types=InternalIP,Hostname"),
            *("--enable-admission-plugins=NodeRestriction", "--enable-aggregator-routing=true", "--endpoint-reconciler-type=lease"),
            *(f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}", "--requestheader-allowed-names=front-proxy-client"),
            *("--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group"),
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
            f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
            f"--default-not-ready-toleration-seconds={TOLERATION_SECONDS}",
            f"--default-unreachable-toleration-seconds={TOLERATION_SECONDS}",
            *(logged if audit else []),
        ],
        f"{server(network)}/readyz",
    )


def controller_manager(paths: Paths, network: Network, usual_autoscaling: bool = False) -> Part:
    """The controllers. Fake nodes would take address ranges from real ones, so that nodes have theirs from us.

    The horizontal pod autoscaler looks every 5 s and hesitates 30 s before it scales in; with `usual_autoscaling` every 15 s
    and 5 minutes, as of its own accord.
    """
    quick = [
        *("--horizontal-pod-autoscaler-sync-period=5s", "--horizontal-pod-autoscaler-cpu-initialization-period=30s"),
        *("--horizontal-pod-autoscaler-initial-readiness-delay=5s", "--horizontal-pod-autoscaler-downscale-stabilization=30s"),
    ]
    return Part(
        "kube-controller-manager",
        [
            str(paths.binaries / "kube-controller-manager"),
            *_identity(paths, "kube-controller-manager"),
            *(f"--bind-address={network.loopback}", "--secure-port=10257", "--leader-elect=false"),
            *("--use-service-account-credentials=true", f"--root-ca-file={paths.pki / 'ca.crt'}"),
            f"--service-account-private-key-file={paths.pki / 'service-accounts.key'}",
            *(f"--cluster-signing-cert-file={paths.pki / 'ca.crt'}", f"--cluster-signing-key-file={paths.pki / 'ca.key'}"),
            *("--allocate-node-cidrs=false", f"--service-cluster-ip-range={network.services}"),
            *(f"--node-monitor-grace-period={NODE_GRACE_SECONDS}s", "--node-monitor-period=2s"),
            *([] if usual_autoscaling else quick),
        ],
        f"https://{network.loopback}:10257/healthz",
    )


def scheduler(paths: Paths, network: Network) -> Part:
    """The scheduler."""
    return Part(
        "kube-scheduler",
        [
            str(paths.binaries / "kube-scheduler"),
            *_identity(paths, "kube-scheduler"),
            *(f"--bind-address={network.loopback}", "--secure-port=10259", "--leader-elect=false"),
        ],
        f"https://{network.loopback}:10259/healthz",
    )


def metrics_server(paths: Paths, network: Network) -> Part:
    """The source of the metrics API; the cluster reaches it at the machine's address."""
    return Part(
        "metrics-server",
        [
            str(paths.binaries / "metrics-server"),
            *_identity(paths, "metrics-server"),
            *(f"--bind-address={network.host_address}", "--secure-port=4443"),
            f"--tls-cert-file={paths.pki / 'metrics-server-serving.crt'}",
            f"--tls-private-key-file={paths.pki / 'metrics-server-serving.key'}",
            *(f"--kubelet-certificate-authority={paths.pki / 'ca.crt'}", "--kubelet-preferred-address-types=InternalIP"),
            # the second has to be the smaller one
            *("--metric-resolution=10s", "--kubelet-request-timeout=5s", "--node-selector=type!=kwok"),
        ],
    )


def kwok(paths: Paths, network: Network, stages: Path) -> Part:
    """What plays the kubelets of the fake nodes; it renews their leases well within the grace of a silent node."""
    return Part(
        "kwok",
        [
            str(paths.binaries / "kwok"),
            *(f"--kubeconfig={paths.pki / 'kwok.kubeconfig'}", f"--config={stages}", f"--server-address={network.loopback}:10247"),
            *("--manage-all-nodes=false", "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"),
            *(f"--cidr={network.fake_pods}", f"--node-ip={network.host_address}", "--node-lease-duration-seconds=20"),
        ],
    )


def _identity(paths: Paths, name: str) -> list[str]:
    config = paths.pki / f"{name}.kubeconfig"
    return [f"--kubeconfig={config}", f"--authentication-kubeconfig={config}", f"--authorization-kubeconfig={config}"]
