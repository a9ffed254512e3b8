"""A cluster that knows workflows and strategies, and real planners over a namespace of it."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from autonomic.agents.auth import Tokens
from autonomic.agents.journal import SqlJournal
from autonomic.agents.settings import Settings
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.strategies.crds.definitions import files
from autonomic.workflows.processes import free_port

if TYPE_CHECKING:
    from conftest import Kubernetes  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[3]
WORLD = ROOT / "tests" / "support" / "planner_world.py"
HEAD = {"apiVersion": "autonomic.dev/v1alpha1"}


class Cluster:
    """kubectl in a namespace of its own, with the rights of an administrator."""

    def __init__(self, cluster: "Kubernetes", namespace: str) -> None:
        program = cluster.local.kubectl if cluster.local else shutil.which("kubectl")
        assert program, "kubectl is not on PATH"
        self.cluster, self.namespace = cluster, namespace
        self.program = str(program)

    def run(self, *arguments: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
        command = [self.program, f"--kubeconfig={self.cluster.kubeconfig}", "--namespace", self.namespace, *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False)

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        done = self.run(*arguments, text=text)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def apply(self, *documents: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(documents))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return yaml.safe_load(self.kubectl("get", kind, name, "-o", "yaml"))

    def condition(self, kind: str, name: str, wanted: str) -> dict[str, Any]:
        """A condition of an object as it was judged in its present generation; empty before."""
        item = self.get(kind, name)
        found = next((one for one in item.get("status", {}).get("conditions", []) if one["type"] == wanted), {})
        return found if found.get("observedGeneration") == item["metadata"]["generation"] else {}


@pytest.fixture(scope="session")
def defined(kubernetes: "Kubernetes") -> "Kubernetes":
    """The cluster, after it was told of our kinds."""
    cluster = Cluster(kubernetes, "default")
    cluster.kubectl("apply", "--server-side", "-f", "-", text="---\n".join(files().values()))
    names = ["crd/workflows.autonomic.dev", "crd/strategies.autonomic.dev"]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=120s", *names)
    return kubernetes


@pytest.fixture(scope="module")
def cluster(defined: "Kubernetes", request: pytest.FixtureRequest) -> Iterator[Cluster]:
    made = Cluster(defined, f"crd-{request.module.__name__.rpartition('.')[2].replace('_', '-')}-{os.getpid()}")
    made.kubectl("create", "namespace", made.namespace)
    yield made
    made.kubectl("delete", "namespace", made.namespace, "--wait=false")


class Way:
    """The way of a planner to the API server, which can be closed."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.port = free_port()
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Nobody comes through any more, and who was on the way is cut off."""
        with self._lock:
            everyone = [*self._sockets, *([self._listener] if self._listener else [])]
            self._sockets.clear()
            self._listener = None
        for one in everyone:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._to)
            with self._lock:
                if self._listener is not listener:
                    near.close()
                    far.close()
                    return
                self._sockets |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        with self._lock:
            self._sockets -= {one, other}
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class Planner:
    """A planner process with the rights that the documentation asks for, beside a world (host and monitor) that the test moves."""

    def __init__(self, home: Path, cluster: Cluster, *, own_world: bool = True) -> None:
        world, planner, tuner, host = (f"http://127.0.0.1:{free_port()}" for _ in range(4))
        settings = Settings(
            home=home,
            monitor_url=world,
            planner_url=planner,
            tuner_url=tuner,
            host_url=world if own_world else host,
            platform="kubernetes",
            custom_resources=True,
        )
        settings.save()
        address = urlsplit(yaml.safe_load(cluster.cluster.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
        self.way = Way(str(address.hostname), address.port or 443)
        self.cluster = cluster
        kubeconfig = _credentials(home, cluster, f"https://127.0.0.1:{self.way.port}", str(address.hostname))
        written = KubernetesSettings(home=home, image="none", namespace=cluster.namespace, kubeconfig=str(kubeconfig))
        (home / "kubernetes.json").write_text(written.model_dump_json(exclude={"home"}))
        self.home, self.log = home, home / "planner.log"
        token = Tokens.load(settings.tokens_path)["admin"]
        self.client = httpx.Client(base_url=planner, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False)
        self.world = httpx.Client(base_url=world, timeout=60, trust_env=False)
        self._world = subprocess.Popen([sys.executable, str(WORLD), world.rpartition(":")[2], "x"])
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            environment = {**os.environ, "AUTONOMIC_HOME": str(self.home)}
            self.process = subprocess.Popen([sys.executable, "-m", "autonomic.agents.planner"], env=environment, stderr=log)
        self.until(lambda: self.client.get("/readyz").status_code == 200)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def until(self, true: Callable[[], Any], seconds: float = 120) -> Any:
        end = time.monotonic() + seconds
        while True:
            try:
                if value := true():
                    return value
            except httpx.TransportError:
                pass
            assert time.monotonic() < end, f"not true within {seconds} s; {self.log.read_text()[-3000:]}"
            time.sleep(0.05)

    def get(self, path: str) -> Any:
        answer = self.client.get(path)
        return answer.json() if answer.status_code == 200 else None

    def applied(self) -> list[dict[str, str]]:
        """Every change of the documents in force, in its order, by the journal."""
        journal = SqlJournal(f"sqlite:///{self.home / 'planner.db'}")
        try:
            return [change for record in journal.read(kinds=["specs.applied"], limit=10_000) for change in record.data["changes"]]
        finally:
            journal.close()

    def close(self) -> None:
        for process in filter(None, (self.process, self._world)):
            process.kill()
            process.wait()
        self.client.close()
        self.world.close()
        self.way.close()


def _credentials(home: Path, cluster: Cluster, server: str, name: str) -> Path:
    """A kubeconfig with the rights that docs/custom-resources.md says are enough, and no others."""
    text = (ROOT / "docs" / "custom-resources.md").read_text()
    role = yaml.safe_load(next(block for block in text.split("```yaml")[1:] if "kind: Role" in block).partition("```")[0])
    role["metadata"]["namespace"] = cluster.namespace
    cluster.kubectl("create", "serviceaccount", "planner")
    cluster.kubectl("apply", "-f", "-", text=yaml.safe_dump(role))
    binding = ("create", "rolebinding", "planner", f"--role={role['metadata']['name']}", f"--serviceaccount={cluster.namespace}:planner")
    cluster.kubectl(*binding)
    token = cluster.kubectl("create", "token", "planner", "--duration=12h").strip()
    config = yaml.safe_load(cluster.cluster.kubeconfig.read_text())
    config["users"] = [{**user, "user": {"token": token}} for user in config["users"]]
    config["clusters"] = [{**one, "cluster": {**one["cluster"], "server": server, "tls-server-name": name}} for one in config["clusters"]]
    path = home / "planner.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def bare_planner(defined: "Kubernetes") -> Callable[..., Planner]:
    """Makes planners that were not started, over a namespace that is there."""
    return lambda home, namespace, **options: Planner(home, Cluster(defined, namespace), **options)


@pytest.fixture(scope="module")
def planner(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    made = Planner(tmp_path_factory.mktemp("planner"), cluster)
    made.start()
    yield made
    made.close()
