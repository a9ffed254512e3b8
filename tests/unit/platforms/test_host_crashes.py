"""The host's process may end between any two of its operations: whatever was begun is finished once, by the next one.

The intents, the services and the effects are the real ones; the store is in memory, and Serve, the front and the runs are
small worlds in memory that outlive the host, as the real ones do.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autonomic.platforms.host.apps import AppSpec, AppState
from autonomic.platforms.host.effects import HostEffects
from autonomic.platforms.host.intents import KEEP_SECONDS, Intents
from autonomic.platforms.host.metrics import exposition
from autonomic.platforms.host.notices import Notices
from autonomic.platforms.host.records import ReplicaRecord, ServiceRecord
from autonomic.platforms.host.routes import Load
from autonomic.platforms.host.services import Services
from autonomic.platforms.host.store import MemoryStore
from autonomic.platforms.ray.abilities import ABILITIES
from autonomic.seams.clock import VirtualClock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.state import RunState


class Killed(BaseException):
    """The process ends here: nothing of the product may catch it."""


class World:
    """What outlives the host. `operations` counts; at `deadly` the host dies, before or after the operation is done."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = VirtualClock()
        self.apps: dict[str, int] = {}
        self.created: list[str] = []
        self.routed: dict[str, dict[str, list[str]]] = {}
        self.runs: dict[str, str] = {}
        self.operations = 0
        self.deadly: tuple[int, bool] | None = None
        self.host: Host

    def operation(self, do: Callable[[], Any]) -> Any:
        self.operations += 1
        number, after = self.deadly or (0, False)
        if self.operations == number and not after:
            raise Killed
        result = do()
        if self.operations == number and after:
            raise Killed
        return result


class DyingStore:
    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self._world.operation(lambda: getattr(self._world.store, name)(*arguments))


class WorldApps:
    """Serve: its replicas are there at once and announce themselves."""

    def __init__(self, world: World, services: Callable[[], Services]) -> None:
        self._world, self._services = world, services

    def create(self, name: str, spec: AppSpec, replicas: int) -> None:
        def do() -> None:
            if name not in self._world.apps:
                self._world.created.append(name)
            self._world.apps[name] = replicas

        self._world.operation(do)
        self._announce(name, replicas)

    def scale(self, name: str, replicas: int) -> None:
        self._world.operation(lambda: self._world.apps.update({name: replicas}))
        self._announce(name, replicas)

    def delete(self, names: Any) -> None:
        for name in names:
            self._world.operation(lambda name=name: self._world.apps.pop(name, None))

    def state(self, name: str) -> AppState | None:
        return AppState(status="RUNNING", target=self._world.apps[name]) if name in self._world.apps else None

    def _announce(self, name: str, replicas: int) -> None:
        for number in range(replicas):
            replica = ReplicaRecord(id=f"{name}-{number}", app=name, host="h", port=1, pid=1, node="n", started_at=float(number))
            self._services().register(replica)


class WorldRoutes:
    def __init__(self, world: World) -> None:
        self._world = world

    def update(self, workflow: str, record: ServiceRecord, replicas: dict[str, list[ReplicaRecord]]) -> None:
        seen = {role: [replica.app for replica in members] for role, members in replicas.items()}
        self._world.operation(lambda: self._world.routed.update({f"{workflow}/{record.spec.name}": seen}))

    def remove(self, workflow: str, service: str) -> None:
        self._world.operation(lambda: self._world.routed.pop(f"{workflow}/{service}", None))

    def loads(self) -> dict[tuple[str, str], Load]:
        return {(target.split("/")[0], target.split("/")[1]): Load() for target in self._world.routed}

    def load(self, workflow: str, service: str) -> Load:
        return Load()

    def url(self, workflow: str, service: str) -> str:
        return f"http://front/{workflow}/{service}"


class WorldRuns:
    def __init__(self, world: World) -> None:
        self._world = world

    def start(self, to: dict[str, Any]) -> None:
        self._world.operation(lambda: self._world.runs.setdefault(to["run_id"], to["workflow"]))

    def stop(self, run_ids: list[str]) -> None:
        raise AssertionError("not asked for here")

    def list(self, workflow: str | None = None) -> list[RunState]:
        return [RunState(id=run, workflow=name, status="running") for run, name in self._world.runs.items() if workflow in (None, name)]


class Folders:
    def resolve(self, uri: str) -> str:
        if "missing" in uri:
            raise Permanent(f"{uri} is not there")
        if "away" in uri:
            raise Retryable("the registry is away")
        return uri

    def fetch(self, uri: str) -> Path:
        return Path(uri.removeprefix("file://"))


class Host:
    """One process of the host."""

    def __init__(self, world: World) -> None:
        world.host = self
        store: Any = DyingStore(world)
        self.notices = Notices(store, world.clock)
        self.services = Services(
            store,
            WorldApps(world, lambda: world.host.services),
            WorldRoutes(world),
            Folders(),
            world.clock,
            self.notices.tell,
            lambda *_: {},
        )
        self.intents = Intents(
            store,
            HostEffects(self.services, WorldRuns(world), lambda name, service: Path(f"/logs/{name}--{service}.db"), ABILITIES),
            world.clock,
        )


def online(**service: Any) -> dict[str, Any]:
    api = {"name": "api", "model": "file:///models/1", "backup": "file:///models/0", "replicas": {"min": 1, "max": 4}, **service}
    return document("web", {"type": "online", "services": [api]})


def document(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}


def change(key: str, primitive: str, to: dict[str, Any], target: str = "web/api", expect: int | None = None) -> Change:
    return Change(key=key, primitive=primitive, target=target, to=to, expect=expect)


JOB = document("job", {"type": "batch", "steps": [{"name": "work", "command": ["true"]}]})
CHANGES = {
    "rescale": change("plan-1.0", "rescale", {"role": "champion", "replicas": 3}, expect=1),
    "reroute": change("plan-1.0", "reroute", {"weights": {"champion": 80, "backup": 20}}, expect=1),
    "upgrade": change("plan-1.0", "upgrade", {"models": {"champion": "file:///models/2", "canary": "file:///models/3"}}, expect=1),
    "remove": change("plan-1.0", "upgrade", {"models": {"backup": ""}}, expect=1),
    "deploy": change("plan-1.0", "deploy", {"spec": online(max_in_flight=8), "package": ""}, "web", expect=1),
    "delete": change("plan-1.0", "delete", {}, "web", expect=1),
    "run": change("plan-1.0", "run", {"run_id": "run-1", "workflow": "job", "spec": JOB, "parameters": {}}, "job", expect=0),
}


def deployed_world() -> World:
    world = World()
    host = Host(world)
    assert host.intents.apply(change("plan-0.0", "deploy", {"spec": online(), "package": ""}, "web"), 5).status == "done"
    world.operations = 0
    return world


def settled(world: World) -> dict[str, Any]:
    """The world and what the store says of it, but for times and the order of notices."""
    services = world.host.services.workflows()
    records = {
        name: {service: (record.roles, record.weights) for service, record in workflow.services.items()}
        for name, workflow in services.items()
    }
    revisions = {target: world.host.intents.revision(target) for target in ("web", "web/api", "job")}
    routed = {target: {role: sorted(apps) for role, apps in roles.items()} for target, roles in world.routed.items()}
    open_intents = world.store.keys("intent/")
    return {"records": records, "revisions": revisions, "apps": world.apps, "runs": world.runs, "routed": routed, "open": open_intents}


def essence(outcome: Outcome | None) -> Any:
    assert outcome is not None
    return outcome.model_dump(exclude={"started_at", "finished_at"})


@pytest.mark.parametrize("name", CHANGES)
def test_a_host_killed_at_any_operation_loses_and_doubles_nothing(name: str) -> None:
    wanted = CHANGES[name]
    calm = deployed_world()
    expected_outcome = essence(calm.host.intents.apply(wanted, 6))
    assert expected_outcome["status"] == "done"
    operations = calm.operations
    expected, created = settled(calm), list(calm.created)
    assert operations > 8

    for number in range(1, operations + 1):
        for after in (False, True):
            world = deployed_world()
            world.deadly = (number, after)
            with pytest.raises(Killed):
                world.host.intents.apply(wanted, 6)
            world.deadly = None
            begun = bool(world.store.keys("intent/"))
            epoch = world.host.intents.epoch
            host = Host(world)
            host.services.route_all()
            recovered = host.intents.recover()
            assert host.intents.epoch > epoch
            assert bool(recovered) == (begun and world.store.get("outcome/plan-1.0")["epoch"] == host.intents.epoch)
            # the planner does not know how far it came and sends the change again
            assert essence(host.intents.apply(wanted, 6)) == expected_outcome
            assert essence(host.intents.lookup(wanted.key)) == expected_outcome
            assert settled(world) == expected
            assert world.created == created
            # a writer that was overtaken stays out
            stale = wanted.model_copy(update={"key": "stale.0", "expect": None})
            assert host.intents.apply(stale, 5).status == "refused"


def test_an_open_intent_is_settled_before_the_next_change() -> None:
    world = deployed_world()
    world.deadly = (world.operations + 10, False)
    with pytest.raises(Killed):
        world.host.intents.apply(CHANGES["rescale"], 6)
    assert world.store.keys("intent/") == ["intent/web/plan-1.0"]
    world.deadly = None
    host = Host(world)
    # no recover(): the next change finds it
    outcome = host.intents.apply(change("plan-2.0", "rescale", {"role": "champion", "replicas": 2}), 7)
    assert outcome.before == {"role": "champion", "replicas": 3}
    assert essence(host.intents.lookup("plan-1.0"))["status"] == "done"
    assert host.intents.revision("web/api") == 3


def test_a_host_that_was_replaced_writes_nothing_more() -> None:
    world = deployed_world()
    replaced = world.host
    newer = Host(world)
    with pytest.raises(Retryable, match="taken over"):
        replaced.intents.apply(CHANGES["rescale"], 6)
    assert newer.intents.apply(CHANGES["rescale"], 6).status == "done"
    assert len([app for app in world.apps if "champion" in app]) == 1


def test_a_refused_change_may_come_again_with_a_higher_fence() -> None:
    world = deployed_world()
    rescale = change("plan-3.0", "rescale", {"role": "champion", "replicas": 2})
    assert world.host.intents.apply(change("plan-2.0", "rescale", {"role": "champion", "replicas": 3}), 9).status == "done"
    assert world.host.intents.apply(rescale, 8).status == "refused"
    assert world.host.intents.apply(rescale, 9).status == "done"


def test_a_deploy_that_never_gets_ready_fails_and_takes_back_what_it_made() -> None:
    world = deployed_world()
    apps, records = dict(world.apps), settled(world)["records"]
    host = world.host
    host.services._ready_seconds = 2.0
    world_apps: Any = host.services._apps
    world_apps._announce = lambda name, replicas: None
    outcome = host.intents.apply(CHANGES["upgrade"], 6)
    assert outcome.status == "failed"
    assert "0 of 1 replicas were ready" in outcome.detail
    assert world.apps == apps
    assert settled(world)["records"] == records
    # it is remembered as tried, and not tried again
    assert host.intents.apply(CHANGES["upgrade"], 6) == outcome


def test_a_registry_that_is_away_leaves_nothing_half_done() -> None:
    world = deployed_world()
    before = settled(world)
    upgrade = change("plan-1.0", "upgrade", {"models": {"champion": "file:///away"}})
    with pytest.raises(Retryable, match="registry is away"):
        world.host.intents.apply(upgrade, 6)
    assert settled(world) == before
    assert world.host.intents.lookup("plan-1.0") is None


def test_changes_of_one_workflow_run_one_at_a_time() -> None:
    import threading

    world = deployed_world()
    outcomes: list[Outcome] = []

    def rescale(number: int) -> None:
        to = {"role": "champion", "replicas": 1 + number % 4}
        outcomes.append(world.host.intents.apply(change(f"many.{number}", "rescale", to), 6))

    threads = [threading.Thread(target=rescale, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [outcome for outcome in outcomes if outcome.status == "done"]
    assert {outcome.status for outcome in outcomes} <= {"done", "unchanged"}
    assert world.host.intents.revision("web/api") == 1 + len(done)
    # each began where the one before it ended
    chain = {outcome.before["replicas"] for outcome in done} | {outcome.after["replicas"] for outcome in done}
    assert chain <= {1, 2, 3, 4}
    assert world.host.services.workflows()["web"].services["api"].roles["champion"].replicas == next(
        target for app, target in world.apps.items() if "champion" in app
    )


def test_a_retraining_gets_the_prediction_log_of_the_service_it_names() -> None:
    world = deployed_world()
    to = {"run_id": "run-1", "workflow": "job", "spec": JOB, "parameters": {"points": "web/api"}}
    assert world.host.intents.apply(change("plan-1.0", "retrain", to, "job"), 1).status == "done"
    record = world.store.get("outcome/plan-1.0")
    assert record["change"]["to"]["parameters"] == {"points": "file:///logs/web--api.db"}

    world.runs.clear()
    other = {**to, "run_id": "run-2", "parameters": {"points": "web/strange"}}
    refused = world.host.intents.apply(change("plan-2.0", "retrain", other, "job"), 1)
    assert refused.status == "refused"
    assert "web/strange" in refused.detail
    assert world.runs == {}


def test_an_application_that_somebody_deletes_while_it_starts_fails_the_deploy_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    # no replica ever announces itself
    monkeypatch.setattr(WorldApps, "_announce", lambda *_: None)
    deploy = change("plan-0.0", "deploy", {"spec": online(), "package": ""}, "web")
    for deleted_after, words, least, most in (
        (20.0, "was deleted by somebody else", 20, 30),
        (None, "0 of 1 replicas were ready", 60, 600),
    ):
        world = World()
        host = Host(world)
        began = world.clock.now()
        if deleted_after is not None:
            world.clock.call_at(began + deleted_after, world.apps.clear)
        outcome = host.intents.apply(deploy, 5)
        assert (outcome.status, words in outcome.detail) == ("failed", True), outcome.detail
        assert least <= world.clock.now() - began <= most
        assert (host.services.workflows(), world.apps) == ({}, {})


@pytest.mark.parametrize(
    ("primitive", "to", "target"),
    [("rescale", {"role": "champion", "replicas": 1}, "web/api"), ("deploy", {"spec": online(), "package": ""}, "web")],
)
def test_replicas_of_a_deleted_application_do_not_count_for_the_one_that_is_made_again(
    primitive: str, to: dict[str, Any], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    host = Host(world)
    assert host.intents.apply(change("plan-0.0", "deploy", {"spec": online(), "package": ""}, "web"), 5).status == "done"
    began = world.clock.now()
    monkeypatch.setattr(WorldApps, "_announce", lambda *_: None)
    world.apps.clear()

    def announce() -> None:
        for app in world.apps:
            host.services.register(ReplicaRecord(id=f"{app}-new", app=app, host="h", port=1, pid=1, node="n", started_at=began))

    world.clock.call_at(began + 30, announce)
    outcome = host.intents.apply(change("plan-1.0", primitive, to, target), 5)
    assert outcome.status == "done", outcome.detail
    assert world.clock.now() - began >= 30
    service = host.services.observe("web", "api")
    assert service is not None
    assert service.roles["champion"].ready == 1


def test_a_deploy_waits_while_a_quota_leaves_no_room_and_says_so_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    why = "FailedCreate: exceeded quota: none"
    monkeypatch.setattr(WorldApps, "_announce", lambda *_: None)
    monkeypatch.setattr(WorldApps, "state", lambda self, name: AppState(status="RUNNING", message=why, target=1))
    world = World()
    host = Host(world)
    said: list[str] = []

    def make_room() -> None:
        said.extend(host.services.waiting("web"))
        for app in world.apps:
            host.services.register(ReplicaRecord(id=f"{app}-0", app=app, host="h", port=1, pid=1, node="n", started_at=0.0))

    for seconds in (20.0, 40.0):
        world.clock.call_at(world.clock.now() + seconds, make_room)
    outcome = host.intents.apply(change("plan-0.0", "deploy", {"spec": online(), "package": ""}, "web"), 5)
    assert outcome.status == "done", outcome.detail
    assert said
    assert all(one.startswith("web--api--") and one.endswith(f"waits: {why}") for one in said)
    assert host.services.waiting("web") == host.services.waiting("web/api") == []


def test_outcomes_are_forgotten_after_a_week_and_what_is_in_service_is_not() -> None:
    world = deployed_world()
    world.host.intents.apply(CHANGES["rescale"], 6)
    before = settled(world)
    world.clock.advance(KEEP_SECONDS - 10)
    world.host.intents.apply(change("plan-2.0", "rescale", {"role": "champion", "replicas": 2}), 6)
    between = settled(world)
    assert between != before
    world.host.intents.forget_old()
    assert world.host.intents.lookup("plan-1.0") is not None
    world.clock.advance(3600)
    overtaken = world.host.intents
    Host(world)
    with pytest.raises(Retryable, match="Another host has taken over"):
        overtaken.forget_old()
    assert world.store.keys("outcome/") == ["outcome/plan-0.0", "outcome/plan-1.0", "outcome/plan-2.0"]
    world.host.intents.forget_old()
    assert world.store.keys("outcome/") == ["outcome/plan-2.0"]
    assert settled(world) == between
    # a change that was planned before is known by the revision that it expects
    assert world.host.intents.apply(CHANGES["rescale"], 6).status == "refused"


def test_what_the_host_says_of_one_workflow_is_what_it_says_of_it_among_all() -> None:
    world = deployed_world()
    other = {**online(), "metadata": {"name": "other"}}
    world.host.intents.apply(change("plan-3.0", "deploy", {"spec": other, "package": ""}, "other"), 5)
    routes = WorldRoutes(world)
    everything = exposition(world.host.services, routes).splitlines()
    alone = exposition(world.host.services, routes, "web").splitlines()
    assert alone == [line for line in everything if 'workflow="other"' not in line]
    assert len(alone) < len(everything)
    assert [line for line in exposition(world.host.services, routes, "nobody").splitlines() if not line.startswith("#")] == []


def test_replicas_that_nobody_declared_are_counted_and_say_who_asked_for_them() -> None:
    world = deployed_world()
    host = world.host
    record = host.services.record("web", "api")
    assert record is not None
    app = record.roles["champion"].app
    before = host.services.observe("web", "api")
    assert before is not None
    wanted = before.roles["champion"].wanted
    assert (before.roles["champion"].surplus, before.roles["champion"].why) == (0, "")
    world.apps[app] = wanted + 1
    for number in range(wanted + 1):
        replica = ReplicaRecord(id=f"{app}-{number}", app=app, host="h", port=1, pid=1, node="n", started_at=float(number))
        host.services.register(replica)
    seen = host.services.observe("web", "api")
    assert seen is not None
    champion = seen.roles["champion"]
    assert (champion.ready, champion.wanted, champion.surplus) == (wanted, wanted, 1)
    assert champion.why == f"{wanted + 1} replicas run, {wanted} declared: scaled by somebody else to {wanted + 1}"
