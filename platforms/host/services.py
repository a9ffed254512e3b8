"""Online workflows: what each change does to applications and to the front, and what is there now."""

import threading
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlparse

from autonomic.platforms.host import records
from autonomic.platforms.host.apps import FAILED, FAILED_FOR_GOOD, Apps, AppSpec, AppState
from autonomic.platforms.host.intents import Prepared, Refused
from autonomic.platforms.host.planning import SHAPING, prepare_online, wanted_record
from autonomic.platforms.host.records import ReplicaRecord, RoleRecord, ServiceRecord, WorkflowRecord
from autonomic.platforms.host.routes import Routes
from autonomic.platforms.host.store import Store
from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent
from autonomic.seams.plan import Change
from autonomic.seams.state import RoleState, ServiceState
from autonomic.workflows.spec.workflow import Service

_POLL_SECONDS = 0.05
_FIRST_ASK_SECONDS = 0.2
_ASK_SECONDS = 1.0
# an application that was there is not told of for so long: it is no gap in what is told
_GONE_SECONDS = 3.0
_LONGEST_WHY = 800
# one that was made is told of within this, unless it was deleted at once
_NEVER_TOLD_SECONDS = 10.0
_DONE = {
    "deploy": "deployed",
    "delete": "deleted",
    "rescale": "rescaled",
    "reroute": "rerouted",
    "upgrade": "upgraded",
    "resize": "resized",
    "reschedule": "rescheduled",
}
Tell = Callable[[str, str, dict[str, Any]], None]


class ModelFolders(Protocol):
    """Where models come from; see `models.Models`."""

    def resolve(self, uri: str) -> str: ...

    def fetch(self, uri: str) -> Any: ...


class Services:
    """The online workflows of a cluster.

    `server_config` makes what a replica is started with. `ready_seconds` is how long a deploy or an upgrade may take.
    With `mounts_volumes`, a model below the mount of a volume of its service is looked for by the replicas only.
    `replica_store` keeps the replicas that announced themselves; it is `store` where nobody else can tell them after a restart.
    """

    def __init__(
        self,
        store: Store,
        apps: Apps,
        routes: Routes,
        models: ModelFolders,
        clock: Clock,
        tell: Tell,
        server_config: Callable[[str, WorkflowRecord, ServiceRecord, str], dict[str, Any]],
        ready_seconds: float = 180.0,
        replica_store: Store | None = None,
        mounts_volumes: bool = False,
    ) -> None:
        self._store = store
        self._replica_store = replica_store or store
        self._apps = apps
        self._routes = routes
        self._models = models
        self._clock = clock
        self._tell = tell
        self._server_config = server_config
        self._ready_seconds = ready_seconds
        self._mounts_volumes = mounts_volumes
        self._replicas_lock = threading.RLock()
        # one at a time for each service: the front may take a while, and what several services ask of it at once it does at once
        self._routing: dict[tuple[str, str], threading.Lock] = {}
        self._replicas: dict[str, ReplicaRecord] = {
            key: ReplicaRecord.model_validate(self._replica_store.get(f"replica/{key}")) for key in _names(self._replica_store, "replica/")
        }
        self._of_app: dict[str, dict[str, ReplicaRecord]] = {}
        for replica in self._replicas.values():
            self._of_app.setdefault(replica.app, {})[replica.id] = replica
        # by application what one that is being deployed waits for, in the platform's words
        self._awaited: dict[str, str] = {}
        self._workflows: dict[str, WorkflowRecord] = {}
        # the workflow, service and role of each application in service
        self._owners: dict[str, tuple[str, str, str]] = {}
        for name in _names(store, "workflow/"):
            self._hold(name, WorkflowRecord.model_validate(store.get(f"workflow/{name}")))

    # -- changes

    def prepare(self, change: Change) -> Prepared:
        """See `intents.Effects.prepare`."""
        name, _, service = change.target.partition("/")
        prepared = prepare_online(change, self._workflows.get(name), self._available, self._clock.now())
        if prepared.unchanged and change.primitive != "delete" and self._lacks(name, service):
            # what is recorded does not run: the change makes it run
            return prepared.model_copy(update={"unchanged": False})
        return prepared

    def _lacks(self, name: str, service: str = "") -> bool:
        for step, record in self._workflows[name].services.items():
            for entry in record.roles.values() if service in ("", step) else ():
                state = self._apps.state(entry.app)
                if state is None or state.status in FAILED_FOR_GOOD or len(self.registered(entry.app)) < entry.replicas:
                    return True
        return False

    def _available(self, uri: str, service: Service) -> str:
        if self._mounts_volumes and _in_volume(uri, service):
            # only its replicas see it, and say so where it is not there
            return uri
        try:
            resolved = self._models.resolve(uri)
            self._models.fetch(resolved)
            return resolved
        except Permanent as missing:
            raise Refused(str(missing)) from missing

    def perform(self, change: Change) -> dict[str, Any]:
        """See `intents.Effects.perform`."""
        name, _, service = change.target.partition("/")
        current = self._workflows.get(name)
        wanted = wanted_record(change, current, self._clock.now())
        if change.primitive == "delete":
            self._remove(name)
        elif wanted is None:
            raise Permanent(f"{change.target} is not deployed any more")
        elif change.primitive == "rescale":
            self._rescale(name, wanted, service, change.to["role"])
        elif current is not None and change.primitive in SHAPING:
            self._vary(current, wanted)
            self._put(name, wanted)
        else:
            self._converge(name, current, wanted)
        self._tell(_DONE[change.primitive], change.target, {} if change.primitive in ("deploy", "delete") else change.to)
        return change.to

    def _rescale(self, name: str, wanted: WorkflowRecord, service: str, role: str) -> None:
        # nothing but what it takes: a surge waits for this
        record = wanted.services[service]
        is_missing = self._make_or_scale(name, wanted, record, role)
        self._put(name, wanted)
        self._route(name, service)
        if is_missing:
            self._wait_ready(record.roles[role].app, record.roles[role].replicas)

    def _make_or_scale(self, name: str, workflow: WorkflowRecord, record: ServiceRecord, role: str) -> bool:
        """Whether it was not there."""
        entry = record.roles[role]
        state = self._apps.state(entry.app)
        if state is not None and state.status not in FAILED_FOR_GOOD:
            self._apps.scale(entry.app, records.serve_target(record.spec, role, entry.replicas))
            return False
        if state is None:
            # they go with it, and must not count as replicas of the one that is made now
            for replica in self.registered(entry.app):
                self.unregister(replica.id, "its application was deleted")
        self._create(name, workflow, record, role)
        return state is None

    def _create(self, name: str, workflow: WorkflowRecord, record: ServiceRecord, role: str) -> None:
        entry = record.roles[role]
        target = records.serve_target(record.spec, role, entry.replicas)
        self._store.put(f"app/{entry.app}", {"workflow": name, "service": record.spec.name, "role": role})
        self._apps.create(entry.app, self._app_spec(name, workflow, record, role), target)

    def _vary(self, current: WorkflowRecord, wanted: WorkflowRecord) -> None:
        # the applications that stay, where how much they get or where they run changes
        done: list[tuple[dict[str, int], dict[str, Any]]] = []
        for service, record in wanted.services.items():
            before = current.services.get(service)
            if before is None or before.variation == record.variation:
                continue
            staying = {entry.app for entry in before.roles.values()}
            entries = [(role, entry) for role, entry in record.roles.items() if entry.app in staying]
            replicas = {entry.app: records.serve_target(record.spec, role, entry.replicas) for role, entry in entries}
            try:
                self._apps.vary(replicas, record.variation)
            except Permanent:
                for undo in done:
                    self._apps.vary(*undo)
                raise
            done.append((replicas, before.variation))

    def _converge(self, name: str, current: WorkflowRecord | None, wanted: WorkflowRecord) -> None:
        old = {role.app for record in current.services.values() for role in record.roles.values()} if current else set[str]()
        fresh: list[str] = []
        awaited: list[RoleRecord] = []
        try:
            for record in wanted.services.values():
                for role, entry in record.roles.items():
                    if entry.app in old:
                        if self._make_or_scale(name, wanted, record, role) or current == wanted:
                            awaited.append(entry)
                        continue
                    fresh.append(entry.app)
                    awaited.append(entry)
                    self._create(name, wanted, record, role)
            for entry in awaited:
                self._wait_ready(entry.app, entry.replicas)
            if current is not None:
                self._vary(current, wanted)
        except Permanent:
            self._drop(fresh)
            raise
        self._put(name, wanted)
        for service in wanted.services:
            self._route(name, service)
        for service in set(current.services) - set(wanted.services) if current else ():
            self._routes.remove(name, service)
        self._drop_others(name, wanted)

    def _app_spec(self, name: str, workflow: WorkflowRecord, record: ServiceRecord, role: str) -> AppSpec:
        return AppSpec(
            server=self._server_config(name, workflow, record, role),
            resources=record.resources,
            placement=record.spec.placement,
            volumes=record.spec.volumes,
            drain_seconds=record.spec.timeout + 5,
            override=record.variation["placement"],
        )

    def waiting(self, target: str) -> list[str]:
        """What the applications of a workflow or a service that are being deployed wait for, in the platform's words."""
        found = [(self._owner(app), app, why) for app, why in list(self._awaited.items())]
        return [f"{app} waits: {why}" for owner, app, why in found if why and owner and target in (owner[0], f"{owner[0]}/{owner[1]}")]

    def _wait_ready(self, app: str, replicas: int) -> None:
        try:
            self._await(app, replicas)
        finally:
            self._awaited.pop(app, None)

    def _await(self, app: str, replicas: int) -> None:
        asked = made = self._clock.monotonic()
        deadline = made + self._ready_seconds
        seen: float | None = None
        why = ""
        while len(self.registered(app)) < replicas:
            now = self._clock.monotonic()
            if now > deadline:
                raise Permanent(
                    f"{app}: {len(self.registered(app))} of {replicas} replicas were ready after {self._ready_seconds:g} s{why}"
                )
            if now - asked > (_FIRST_ASK_SECONDS if seen is None else _ASK_SECONDS):
                asked = now
                state = self._apps.state(app)
                if state is not None and state.status in FAILED:
                    raise Permanent(f"{app} does not start: {state.message.strip()[-_LONGEST_WHY:]}")
                if state is not None:
                    seen, why = now, f": {state.message.strip()[-_LONGEST_WHY:]}" if state.message else ""
                    self._awaited[app] = state.message.strip()[-_LONGEST_WHY:]
                elif now - seen > _GONE_SECONDS if seen is not None else now - made > _NEVER_TOLD_SECONDS:
                    raise Permanent(f"{app} was deleted by somebody else before its replicas were ready; deploy it again")
            self._clock.sleep(_POLL_SECONDS)

    def _remove(self, name: str) -> None:
        current = self._workflows.get(name)
        for service in current.services if current else ():
            self._routes.remove(name, service)
        self._store.delete(f"workflow/{name}")
        self._hold(name, None)
        self._drop_others(name, None)

    def _drop_others(self, name: str, wanted: WorkflowRecord | None) -> None:
        keep = {role.app for record in wanted.services.values() for role in record.roles.values()} if wanted else set[str]()
        made = [app for app in _names(self._store, "app/") if app not in keep]
        self._drop([app for app in made if (self._store.get(f"app/{app}") or {}).get("workflow") == name])

    def _drop(self, apps: list[str]) -> None:
        self._apps.delete(apps)
        for app in apps:
            self._store.delete(f"app/{app}")

    def _put(self, name: str, record: WorkflowRecord) -> None:
        self._store.put(f"workflow/{name}", record.model_dump(mode="json", by_alias=True))
        self._hold(name, record)

    def _hold(self, name: str, record: WorkflowRecord | None) -> None:
        before = self._workflows.get(name)
        if record is None:
            self._workflows.pop(name, None)
        else:
            self._workflows[name] = record
        owners = _owners(name, record)
        self._owners.update(owners)
        for app in _owners(name, before).keys() - owners.keys():
            self._owners.pop(app, None)

    # -- what runs against what is recorded

    def made(self) -> dict[str, str]:
        """By name the applications that were made, and the `workflow/service` that each was made for."""
        found = {app: self._store.get(f"app/{app}") for app in _names(self._store, "app/")}
        return {app: f"{made['workflow']}/{made['service']}" for app, made in found.items() if made}

    def restore(self, app: str) -> None:
        """Makes one application what the records say now: created, scaled or deleted. May return before its replicas are ready.

        Raises:
            Permanent: its model or its code is not there, or it cannot be made.
            Retryable: what it needs cannot be asked now.
        """
        owner = self._owners.get(app)
        if owner is None:
            self._drop([app])
            return
        name, service, role = owner
        workflow = self._workflows[name]
        record = workflow.services[service]
        self._make_or_scale(name, workflow, record, role)

    # -- replicas

    def register(self, replica: ReplicaRecord) -> bool:
        """A replica serves from now on. False where its application is not ours any more."""
        owner = self._owner(replica.app)
        if owner is None:
            return False
        with self._replicas_lock:
            known = self._replicas.get(replica.id)
            if known == replica:
                return True
            self._replica_store.put(f"replica/{replica.id}", replica.model_dump(mode="json"))
            self._forget(replica.id)
            self._replicas[replica.id] = replica
            self._of_app.setdefault(replica.app, {})[replica.id] = replica
        self._route(owner[0], owner[1])
        self._tell("replica_ready", f"{owner[0]}/{owner[1]}", {"replica": replica.id, "role": owner[2]})
        return True

    def unregister(self, replica_id: str, why: str) -> None:
        """No new request is sent to a replica when this returns."""
        with self._replicas_lock:
            replica = self._forget(replica_id)
            if replica is None:
                return
            self._replica_store.delete(f"replica/{replica_id}")
        owner = self._owner(replica.app)
        if owner:
            self._route(owner[0], owner[1])
            self._tell("replica_lost", f"{owner[0]}/{owner[1]}", {"replica": replica_id, "role": owner[2], "why": why})

    def _forget(self, replica_id: str) -> ReplicaRecord | None:
        replica = self._replicas.pop(replica_id, None)
        if replica is not None:
            of_app = self._of_app[replica.app]
            del of_app[replica_id]
            if not of_app:
                del self._of_app[replica.app]
        return replica

    def registered(self, app: str) -> list[ReplicaRecord]:
        """The replicas of an application that announced themselves, the oldest first."""
        with self._replicas_lock:
            return sorted(self._of_app.get(app, {}).values(), key=lambda replica: replica.started_at)

    def all_registered(self) -> list[tuple[ReplicaRecord, str, str, str]]:
        """Every registered replica with its workflow, service and role."""
        with self._replicas_lock:
            replicas = list(self._replicas.values())
        owners = [(replica, self._owner(replica.app)) for replica in replicas]
        return [(replica, *owner) for replica, owner in owners if owner]

    def _owner(self, app: str) -> tuple[str, str, str] | None:
        owner = self._owners.get(app)
        if owner is not None:
            return owner
        made = self._store.get(f"app/{app}")
        return (made["workflow"], made["service"], made["role"]) if made else None

    def _route(self, name: str, service: str) -> None:
        with self._routing.setdefault((name, service), threading.Lock()):
            workflow = self._workflows.get(name)
            record = workflow.services.get(service) if workflow else None
            if record is None:
                return
            # standby replicas are those beyond the wanted number: the front gets the oldest ones
            servers = {role: self.registered(entry.app)[: entry.replicas] for role, entry in record.roles.items()}
            self._routes.update(name, record, servers)

    def route_all(self) -> None:
        """Makes the front what the records say, after a restart."""
        for name, workflow in list(self._workflows.items()):
            for service in workflow.services:
                self._route(name, service)

    # -- what is there

    def workflows(self) -> dict[str, WorkflowRecord]:
        """The workflows that are deployed."""
        return dict(self._workflows)

    def record(self, name: str, service: str) -> ServiceRecord | None:
        """A service as it is wanted, None where there is none."""
        workflow = self._workflows.get(name)
        return workflow.services.get(service) if workflow else None

    def observe(self, name: str, service: str) -> ServiceState | None:
        """A service as it is now, None where there is none."""
        record = self.record(name, service)
        if record is None:
            return None
        load = self._routes.load(name, service)
        roles = {role: self._role_state(record, role, load.down) for role in record.roles}
        return ServiceState(
            roles=roles,
            weights=record.weights,
            min_replicas=record.spec.replicas.min,
            max_replicas=record.spec.replicas.max,
            queued=load.queued,
            in_flight=load.in_flight,
        )

    def _role_state(self, record: ServiceRecord, role: str, down: frozenset[str]) -> RoleState:
        entry = record.roles[role]
        answering = sum(replica.id not in down for replica in self.registered(entry.app))
        ready, asked = min(entry.replicas, answering), records.serve_target(record.spec, role, entry.replicas)
        surplus, why = max(0, answering - asked), ""
        if ready < entry.replicas or surplus:
            state = self._apps.state(entry.app)
            why = f"{entry.app} is not there" if state is None else state.message.strip()[-_LONGEST_WHY:]
            if state is not None and surplus:
                why = f"{_replicas(answering)} run, {asked} declared: {_who_asked(state, asked)}"
        return RoleState(model=entry.model, wanted=entry.replicas, ready=ready, surplus=surplus, why=why)


def _who_asked(state: AppState, declared: int) -> str:
    if state.target <= declared:
        return "the others are being stopped"
    return f"scaled by {state.scaled_by or 'somebody else'} to {state.target}"


def _replicas(count: int) -> str:
    return f"{count} replica{'' if count == 1 else 's'}"


def _in_volume(uri: str, service: Service) -> bool:
    path = PurePosixPath(unquote(urlparse(uri).path))
    return uri.startswith("file://") and ".." not in path.parts and any(path.is_relative_to(volume.mount) for volume in service.volumes)


def _owners(name: str, record: WorkflowRecord | None) -> dict[str, tuple[str, str, str]]:
    services = record.services.items() if record else ()
    return {entry.app: (name, service, role) for service, one in services for role, entry in one.roles.items()}


def _names(store: Store, prefix: str) -> list[str]:
    return [key.removeprefix(prefix) for key in store.keys(prefix)]
