"""What is declared is what runs on a real Ray cluster, whoever deletes or changes it by hand."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autonomic.seams.plan import Change, Outcome

# Serve is imported in the tests, and not written for this pydantic
pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments:DeprecationWarning")
NAME = "converging"
KEYS = itertools.count()


def wait_until(condition: Callable[[], bool], within_seconds: float = 120) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_seconds} s"
        time.sleep(0.05)


class World:
    """One service on the host."""

    def __init__(self, host: Any) -> None:
        self.host = host

    def apply(self, primitive: str, target: str, to: dict[str, Any]) -> Outcome:
        return self.host.platform.apply(Change(key=f"{NAME}.{next(KEYS)}", primitive=primitive, target=target, to=to), 1)

    def deploy(self, **service: Any) -> Outcome:
        api = {"name": "api", "model": self.host.model("one"), "replicas": {"min": 1, "max": 3}, "log": False, **service}
        spec = {"type": "online", "services": [api]}
        document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": NAME}, "spec": spec}
        return self.apply("deploy", NAME, {"spec": document, "package": ""})

    def is_ready(self, replicas: int) -> bool:
        state = self.host.platform.observe(f"{NAME}/api")
        return state.service.roles["champion"].ready == replicas and not state.differs

    def apps(self) -> dict[str, Any]:
        from ray import serve

        return {name: app for name, app in serve.status().applications.items() if name.startswith(f"{NAME}--")}

    def notices(self, cursor: int) -> list[str]:
        return [notice.kind for notice in self.host.platform.watch(cursor) if notice.target.startswith(NAME)]


@pytest.fixture
def world(light_host: Any) -> Iterator[World]:
    world = World(light_host)
    outcome = world.deploy()
    assert outcome.status == "done", outcome.detail
    yield world
    assert world.apply("delete", NAME, {}).status in ("done", "unchanged")


def test_what_is_deleted_or_scaled_by_hand_comes_back_as_it_was_declared_and_is_reported(world: World) -> None:
    from ray import serve
    from ray.serve._private.common import DeploymentID
    from ray.serve.context import _get_global_client

    assert world.apply("rescale", f"{NAME}/api", {"role": "champion", "replicas": 2}).status == "done"
    wait_until(lambda: world.is_ready(2))
    cursor = world.host.platform.watch(0)[-1].cursor
    (app,) = world.apps()

    # to wait for its end is to wait for ever: it comes back between two looks
    serve.delete(app, _blocking=False)
    wait_until(lambda: "drifted" in world.notices(cursor))
    wait_until(lambda: world.is_ready(2))
    assert list(world.apps()) == [app]
    wait_until(lambda: "converged" in world.notices(cursor))

    import ray

    controller = _get_global_client()._controller  # pyright: ignore[reportOptionalMemberAccess]
    ray.get(controller.update_deployment_replicas.remote(DeploymentID(name="replica", app_name=app), 1))
    # it may be put right between two looks
    wait_until(lambda: not world.is_ready(2) or world.notices(cursor).count("drifted") > 1)
    wait_until(lambda: world.is_ready(2))


def test_a_change_of_what_does_not_run_makes_it_run_and_is_never_unchanged(world: World) -> None:
    from ray import serve

    for change in (lambda: world.deploy(), lambda: world.apply("rescale", f"{NAME}/api", {"role": "champion", "replicas": 1})):
        (app,) = world.apps()
        serve.delete(app, _blocking=False)
        outcome = change()
        # whichever was first, the change or the loop: what the answer says is there
        assert outcome.status in ("done", "unchanged"), outcome.detail
        assert world.host.platform.observe(f"{NAME}/api").service.roles["champion"].ready == 1


def test_a_service_whose_model_is_gone_says_why_and_comes_back_with_it(world: World) -> None:
    from ray import serve

    folder = Path(world.host.model("one").removeprefix("file://"))
    away = folder.with_name("moved-away")
    folder.rename(away)
    (app,) = world.apps()
    serve.delete(app, _blocking=False)
    wait_until(lambda: any("one" in word for word in world.host.platform.observe(f"{NAME}/api").differs))
    assert world.host.platform.observe(NAME).differs

    away.rename(folder)
    wait_until(lambda: world.is_ready(1))
