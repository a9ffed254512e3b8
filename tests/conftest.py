"""Fixtures that start the real parts once for all tests that need them."""

import os
import random
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from autonomic.cli.embedded.kubernetes.cluster import LocalCluster
    from autonomic.cli.embedded.mlflow_server import MlflowServer
    from autonomic.cli.embedded.prometheus_server import PrometheusServer
    from autonomic.cli.embedded.ray_cluster import RayCluster
    from autonomic.platforms.kubernetes.platform import KubernetesPlatform
    from autonomic.seams.plan import Change, Outcome

os.environ.setdefault("OMP_NUM_THREADS", "1")
# the tests start some hundred processes, and each would compile all sources anew
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# the same few examples each time; `make chaos` tries many others. A slow machine is no failure
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fixed", _PATIENT, max_examples=25, derandomize=True, database=None)
settings.register_profile("chaos", _PATIENT, max_examples=1000, print_blob=True)
settings.load_profile("fixed")
_BUILD_SECONDS = 3600
LIGHT_MODEL = Path(__file__).parent / "light" / "model"
FEW = 4
"""So many faults by chance are enough where they hit."""


class Chaos(NamedTuple):
    """How long faults by chance go on: a few from a fixed seed, or many from the seed that `make chaos` gives."""

    seed: int
    many: bool

    def draws(self) -> random.Random:
        """What chooses the moments."""
        return random.Random(self.seed)

    def goes_on(self, done: int, most: int, hits: bool) -> bool:
        """Whether another fault follows after `done` ones: a few are enough once they `hit` what they aim at."""
        return done < most and (self.many or done < FEW or not hits)


@pytest.fixture(scope="session")
def chaos() -> Chaos:
    """The seed of this run's faults."""
    given = os.environ.get("AUTONOMIC_CHAOS_SEED", "")
    return Chaos(int(given or 20261123), bool(given))


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    from autonomic.workflows import processes

    return processes.free_port()


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator["RayCluster"]:
    """A real one-node Ray cluster; the environment lets drivers of this process in."""
    from autonomic.cli.embedded.ray_cluster import RayCluster

    cluster = RayCluster.start(tmp_path_factory.mktemp("ray"), cpus=8)
    before = {name: os.environ.get(name) for name in cluster.env}
    os.environ.update(cluster.env)
    yield cluster
    import ray

    ray.shutdown()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    cluster.stop()


class LightHost:
    """The host of a real cluster, whose replicas may serve a model that is none: see tests/light."""

    def __init__(self, home: Path, address: str, mlflow_url: str) -> None:
        from autonomic.platforms.host.client import HostPlatform
        from autonomic.platforms.ray.settings import HostSettings
        from autonomic.platforms.ray.start_host import start_host
        from autonomic.workflows.processes import free_port

        self.settings = HostSettings(
            home=home,
            token="what-the-planner-shows",
            service_token="for-services",
            port=free_port(),
            mlflow_url=mlflow_url,
            server="light_server:serve",
            python_path=(str(Path(__file__).parent / "light"),),
        )
        start_host(self.settings, address)
        self.platform = HostPlatform(self.settings.url, self.settings.token)

    def call(self, method: str, *arguments: Any) -> Any:
        """Calls the actor; while it is being started again, waits for it."""
        import ray

        deadline = time.monotonic() + 60
        while True:
            try:
                return ray.get(getattr(ray.get_actor("autonomic-host", "autonomic"), method).remote(*arguments), timeout=60)
            except ray.exceptions.RayActorError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def kill(self) -> None:
        """Ends the host's process with SIGKILL; Ray starts it again."""
        self.kill_process(self.call("pid"))

    def kill_process(self, pid: int) -> None:
        """Ends the host's process, of which `pid` was asked before."""
        os.kill(pid, signal.SIGKILL)

    def wait(self, within_seconds: float = 60) -> None:
        """Returns when the host answers."""
        import httpx

        deadline = time.monotonic() + within_seconds
        while True:
            try:
                if httpx.get(f"{self.settings.url}/healthz", timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                assert time.monotonic() < deadline, "the host did not come back"
            time.sleep(0.02)

    def model(self, name: str) -> str:
        """The address of a model folder that the light server takes."""
        folder = self.settings.home / "light-models" / name
        shutil.copytree(LIGHT_MODEL, folder, dirs_exist_ok=True)
        return f"file://{folder}"

    def close(self) -> None:
        import ray

        from autonomic.workflows.serving.front import Front

        self.platform.close()
        try:
            self.call("stop")
            ray.kill(ray.get_actor("autonomic-host", "autonomic"))
        finally:
            # HAProxy outlives its host, and may not outlive the tests
            Front(self.settings.folder / "haproxy").stop()


@pytest.fixture(scope="session")
def light_host(ray_cluster: "RayCluster", mlflow_server: "MlflowServer", tmp_path_factory: pytest.TempPathFactory) -> Iterator[LightHost]:
    """A real host on the cluster; tests use workflows of their own in it."""
    host = LightHost(tmp_path_factory.mktemp("light-host"), ray_cluster.address, mlflow_server.url)
    yield host
    host.close()


class LightCluster:
    """An installation in a namespace of its own on a real Kubernetes cluster, whose replicas may serve a model that is none."""

    platform: "KubernetesPlatform"

    def __init__(self, cluster: "Kubernetes", home: Path, **more: Any) -> None:
        from autonomic.cli.embedded.kubernetes import machine_python
        from autonomic.platforms.kubernetes.settings import KubernetesSettings

        self.cluster = cluster
        self.home = home
        self._changes = 0
        namespace = f"{home.name}-{secrets.token_hex(4)}"
        self._run_kubectl("create", "namespace", namespace)
        # pods see this checkout and the tests' files where they are
        root = Path(__file__).parents[1]
        pods = machine_python.pod_settings(home, [root])
        given: dict[str, Any] = {
            **pods,
            "home": home,
            "kubeconfig": str(self._credentials(namespace)),
            "namespace": namespace,
            "python_path": (*pods["python_path"], str(root / "tests" / "light")),
            "data_path": str(home / "data"),
            "front_address": cluster.host_address,
            "server": "light_server:serve",
        }
        (home / "data").mkdir()
        self.settings = KubernetesSettings.model_validate({**given, **more})

    def start(self) -> None:
        """Makes this process the writer."""
        from autonomic.platforms.kubernetes.platform import KubernetesPlatform

        self.platform = KubernetesPlatform(self.settings)

    def _run_kubectl(self, *arguments: str, text: str | None = None) -> str:
        import subprocess

        program = self.cluster.local.kubectl if self.cluster.local else shutil.which("kubectl")
        assert program, "kubectl is not on PATH"
        command = [str(program), f"--kubeconfig={self.cluster.kubeconfig}", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def _credentials(self, namespace: str) -> Path:
        """A kubeconfig with the rights that docs/kubernetes.md says are enough, and no others."""
        import yaml

        text = (Path(__file__).parents[1] / "docs" / "kubernetes.md").read_text()
        role = yaml.safe_load(next(block for block in text.split("```yaml")[1:] if "kind: Role" in block).partition("```")[0])
        role["metadata"]["namespace"] = namespace
        in_namespace = ("--namespace", namespace)
        self._run_kubectl("create", "serviceaccount", "host", *in_namespace)
        self._run_kubectl("apply", "-f", "-", text=yaml.safe_dump(role))
        binding = ("create", "rolebinding", "host", f"--role={role['metadata']['name']}", f"--serviceaccount={namespace}:host")
        self._run_kubectl(*binding, *in_namespace)
        token = self._run_kubectl("create", "token", "host", "--duration=12h", *in_namespace).strip()
        config = yaml.safe_load(self.cluster.kubeconfig.read_text())
        config["users"] = [{**user, "user": {"token": token}} for user in config["users"]]
        path = self.home / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    def change(self, primitive: str, target: str, to: dict[str, Any]) -> "Change":
        """A change under a key of its own."""
        from autonomic.seams.plan import Change

        self._changes += 1
        return Change(key=f"light.{self._changes}", primitive=primitive, target=target, to=to)

    def apply(self, primitive: str, target: str, to: dict[str, Any]) -> "Outcome":
        """What becomes of a change that is asked for now."""
        return self.platform.apply(self.change(primitive, target, to), 1)

    def somebody_else_deploys(self, name: str) -> None:
        """A Deployment that is none of ours, with an HPA: its container may have 64 MiB, and its CPU is kept at 80 %."""
        self.kubectl("create", "deployment", name, "--image=autonomic.local/host:1", "--", "sleep", "600")
        self.kubectl("set", "resources", f"deployment/{name}", "--requests=cpu=1m,memory=16Mi", "--limits=memory=64Mi")
        self.kubectl("autoscale", f"deployment/{name}", "--cpu=80%", "--min=1", "--max=2")

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints, in this installation's namespace."""
        return self._run_kubectl("--namespace", self.settings.namespace, *arguments)

    def restart(self) -> None:
        """The writer ends, and another one comes over the same store."""
        self.platform.close()
        self.start()

    def model(self, name: str) -> str:
        """The address of a model folder that the light server takes."""
        folder = self.home / "light-models" / name
        shutil.copytree(LIGHT_MODEL, folder, dirs_exist_ok=True)
        return f"file://{folder}"

    def close(self) -> None:
        try:
            self.platform.close()
        finally:
            # HAProxy outlives its host, and may not outlive the tests, also where the API server is gone
            self.platform.host.stop_front()
        self.remove()

    def remove(self) -> None:
        """Deletes everything on the cluster."""
        self._run_kubectl("delete", "namespace", self.settings.namespace, "--wait=false")


@pytest.fixture(scope="session")
def installation(kubernetes: "Kubernetes") -> Callable[..., LightCluster]:
    """Makes namespaces of the cluster ready for a writer with this home."""
    return lambda home, **settings: LightCluster(kubernetes, home, **settings)


@pytest.fixture(scope="session")
def light_cluster(kubernetes: "Kubernetes", tmp_path_factory: pytest.TempPathFactory) -> Iterator[LightCluster]:
    """A platform on the cluster, without MLflow; tests use workflows of their own in it."""
    cluster = LightCluster(kubernetes, tmp_path_factory.mktemp("light-cluster"))
    cluster.start()
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["MlflowServer"]:
    """A real MLflow server; tests use names of their own in it."""
    from autonomic.cli.embedded.mlflow_server import MlflowServer

    server = MlflowServer.start(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def metrics_targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose *.json files (Prometheus file_sd) name what the `prometheus` fixture scrapes."""
    return tmp_path_factory.mktemp("targets")


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory, metrics_targets: Path) -> Iterator["PrometheusServer"]:
    """A real Prometheus that scrapes itself and what stands in `metrics_targets`, every 250 ms."""
    from autonomic.cli.embedded.prometheus_server import PrometheusServer
    from autonomic.workflows.processes import free_port

    port = free_port()
    scrape_configs: list[dict[str, object]] = [
        {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
        {"job_name": "tests", "file_sd_configs": [{"files": [f"{metrics_targets}/*.json"]}]},
    ]
    server = PrometheusServer.start(tmp_path_factory.mktemp("prometheus"), scrape_configs, port, "250ms")
    yield server
    server.stop()


class Kubernetes(NamedTuple):
    """A cluster for tests: pods reach servers of this machine at `host_address`; `local` is None where the cluster was given."""

    kubeconfig: Path
    host_address: str
    local: "LocalCluster | None"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that need a cluster, and gives the first that need it or Helm the time to build it."""
    from autonomic.cli.embedded.kubernetes import build, helm

    unbuilt, no_helm = build.built() is None, helm.built() is None
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        # a platform that is a parameter asks for its fixtures later
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if "kubernetes" in fixtures or any(parameters.get(name) == "kubernetes" for name in ("deployed", "real")):
            item.add_marker("kubernetes")
        if (unbuilt and item.get_closest_marker("kubernetes")) or (no_helm and "helm" in fixtures):
            item.add_marker(pytest.mark.timeout(_BUILD_SECONDS))


class Interrupts:
    """Whoever interrupts the tests, also twice, leaves nothing running: what fixtures have started is ended first."""

    def __init__(self) -> None:
        self._ending: pytest.Session | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)

    def _interrupt(self, *_: object) -> None:
        if self._ending is None:
            raise KeyboardInterrupt
        self._ending.shouldstop = "interrupted"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        self._ending = item.session
        try:
            return (yield)
        finally:
            self._ending = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        self._ending = session
        return (yield)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Interrupts())


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    """A real Kubernetes cluster; tests use namespaces of their own in it.

    The one that AUTONOMIC_TEST_KUBECONFIG names (with AUTONOMIC_TEST_HOST_ADDRESS), else a local one.
    """
    given = os.environ.get("AUTONOMIC_TEST_KUBECONFIG")
    if given:
        yield Kubernetes(Path(given), os.environ.get("AUTONOMIC_TEST_HOST_ADDRESS", "127.0.0.1"), None)
        return
    from autonomic.cli.embedded.kubernetes import build, supervisor
    from autonomic.cli.embedded.kubernetes.cluster import LocalCluster
    from autonomic.seams.errors import Permanent

    try:
        supervisor.check_machine()
        if build.built() is None and not build.go_is_enough():
            raise Permanent("Go 1.26.8 or newer is needed to build the local cluster")
    except Permanent as lacking:
        said = f"NO KUBERNETES IS TESTED: {lacking} Or name a cluster with AUTONOMIC_TEST_KUBECONFIG."
        if os.environ.get("CI") == "true":
            pytest.fail(said)
        pytest.skip(said)
    # a fake node takes pods that tolerate it, such as those that ask for GPUs; what is asked of it is compared with the rights
    # that we say are enough: tests/rights
    cluster = LocalCluster.start(tmp_path_factory.mktemp("kubernetes"), supervisor.Options(fake_nodes=1, audit=True), tied=True)
    yield Kubernetes(cluster.kubeconfig, cluster.host_address, cluster)
    cluster.stop()


@pytest.fixture
def healed(kubernetes: Kubernetes) -> Iterator[list[str]]:
    """Nodes that are named here come back in the end."""
    if kubernetes.local is None:
        pytest.skip("NO NODE IS CRASHED: the cluster was given, and is not ours to crash")
    nodes: list[str] = []
    yield nodes
    for node in nodes:
        kubernetes.local.heal(node)
    if nodes:
        kubernetes.local.run_kubectl("wait", "--for=condition=Ready", "node", *nodes, "--timeout=60s")


@pytest.fixture(autouse=True)
def _no_generic_top_level_packages() -> Iterator[None]:
    yield
    generic = {"agents", "cli", "platforms", "primitives", "seams", "signals", "strategies", "workflows"} & set(sys.modules)
    assert not generic, f"imported without the prefix autonomic: {sorted(generic)}"
