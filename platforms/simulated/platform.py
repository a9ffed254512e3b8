"""The simulated platform: the contract of `seams.platform` over queues and scripted runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autonomic.platforms.host import records
from autonomic.platforms.host.intents import Intents, Prepared, Refused
from autonomic.platforms.host.notices import Notices
from autonomic.platforms.host.planning import (
    BATCH,
    SHAPING,
    check_known,
    prepare_batch,
    prepare_online,
    wanted_record,
)
from autonomic.platforms.host.records import ServiceRecord, WorkflowRecord
from autonomic.platforms.host.store import MemoryStore
from autonomic.platforms.simulated.abilities import ABILITIES
from autonomic.platforms.simulated.queueing import Line, Load, QueueingService
from autonomic.platforms.simulated.registry import SimulatedRegistry
from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.platform import Notice
from autonomic.seams.state import FINISHED, RoleState, RunState, ServiceState, State
from autonomic.seams.target import Target
from autonomic.workflows.spec.workflow import Service


@dataclass(frozen=True, slots=True)
class Batch:
    """How a batch workflow goes: after `seconds` it ends with `outputs`, or fails where `fails` says why.

    `outputs` may be a function of the run, so that a training can register a model.
    """

    seconds: float = 60.0
    outputs: Mapping[str, Any] | Callable[[RunState], Mapping[str, Any]] = field(default_factory=dict[str, Any])
    fails: str = ""


class SimulatedPlatform:
    """Services are queues (`loads` by `workflow/service`), runs take their time (`batches` by workflow).

    A new model is in service at once, where a real platform keeps the old one until the new one is ready. It can be
    unreachable for a while (`lose`), its replicas can die (`kill`), and effects can fail (`fail`).
    """

    def __init__(
        self,
        clock: Clock,
        registry: SimulatedRegistry | None = None,
        loads: Mapping[str, Load] | None = None,
        batches: Mapping[str, Batch] | None = None,
    ) -> None:
        self._clock = clock
        self._store = MemoryStore()
        self._intents = Intents(self._store, self, clock)
        self._notices = Notices(self._store, clock)
        self._loads = dict(loads or {})
        self._batches = dict(batches or {})
        self._workflows: dict[str, WorkflowRecord] = {}
        self._services: dict[str, QueueingService] = {}
        self._runs: dict[str, RunState] = {}
        self._lost_until = 0.0
        self._failures: dict[str, list[str]] = {}
        self.registry = registry or SimulatedRegistry(clock)

    # -- the contract

    def capabilities(self) -> frozenset[str]:
        return ABILITIES.primitives

    def apply(self, change: Change, fence: int) -> Outcome:
        self._reach()
        return self._intents.apply(change, fence)

    def lookup(self, key: str) -> Outcome | None:
        self._reach()
        return self._intents.lookup(key)

    def observe(self, target: str) -> State:
        self._reach()
        name, step = Target.parse(target)
        revision = self._intents.revision(target)
        workflow = self._workflows.get(name)
        runs = tuple(run for run in self.runs() if run.workflow == name)
        if step:
            if workflow is None or step not in workflow.services:
                return State(target=target, kind="absent", revision=revision)
            record = workflow.services[step]
            spec = records.seen(record)
            return State(target=target, kind="online", revision=revision, spec=spec, service=self._observe_service(target, record))
        if workflow is not None:
            return State(target=target, kind="online", revision=revision, spec=workflow.spec)
        return State(target=target, kind="batch" if runs or name in self._batches else "absent", revision=revision, runs=runs)

    def runs(self, workflow: str | None = None) -> list[RunState]:
        self._reach()
        return [run for run in reversed(self._runs.values()) if workflow in (None, run.workflow)]

    def watch(self, cursor: int) -> list[Notice]:
        self._reach()
        return self._notices.watch(cursor)

    # -- the world

    def service(self, target: str) -> QueueingService:
        """The queue of a deployed service, computed up to now."""
        found = self._services[target]
        found.advance(self._clock.now())
        return found

    def service_state(self, target: str) -> ServiceState | None:
        """What `observe` says of a service, None where it is not deployed."""
        self._reach()
        name, step = Target.parse(target)
        workflow = self._workflows.get(name)
        record = workflow.services.get(step) if workflow else None
        return self._observe_service(target, record) if record else None

    def services(self) -> list[str]:
        """The targets of all deployed services."""
        return sorted(self._services)

    def kill(self, target: str, role: str = "champion") -> None:
        """All replicas of a role die; they start anew."""
        self.service(target).kill(role)
        self._notices.tell("replicas_lost", target, {"role": role})

    def lose(self, seconds: float) -> None:
        """For so long nobody reaches the platform; services go on."""
        self._lost_until = self._clock.now() + seconds

    def fail(self, primitive: str, *reasons: str) -> None:
        """The next effects of a primitive fail, one for each reason."""
        self._failures.setdefault(primitive, []).extend(reasons)

    def _reach(self) -> None:
        now = self._clock.now()
        if now < self._lost_until:
            raise Retryable("the simulated platform is unreachable", self._lost_until - now)

    def _observe_service(self, target: str, record: ServiceRecord) -> ServiceState:
        queue = self.service(target)
        return ServiceState(
            roles={
                role: RoleState(model=entry.model, wanted=entry.replicas, ready=queue.ready(role)) for role, entry in record.roles.items()
            },
            weights=record.weights,
            min_replicas=record.spec.replicas.min,
            max_replicas=record.spec.replicas.max,
            queued=queue.queued(),
            in_flight=queue.in_flight(),
        )

    # -- effects; see `intents.Effects`

    def prepare(self, change: Change) -> Prepared:
        """Looks at a change and touches nothing."""
        check_known(change, ABILITIES)
        if change.primitive in BATCH:
            return prepare_batch(change, [run for run in self._runs.values() if run.workflow == change.target])
        name = Target.parse(change.target).workflow
        if change.primitive in SHAPING and name in self._batches:
            raise Refused(f"{change.primitive}: the steps of {name} are simulated, and have neither size nor place")
        return prepare_online(change, self._workflows.get(name), self._resolve, self._clock.now())

    def _resolve(self, uri: str, service: Service) -> str:
        resolved = self.registry.resolve(uri)
        if resolved is None:
            raise Refused(f"The model {uri} is not in the registry")
        return resolved

    def perform(self, change: Change, before: dict[str, Any]) -> dict[str, Any]:
        """Makes the simulated world as `change.to` says."""
        if self._failures.get(change.primitive):
            raise Permanent(self._failures[change.primitive].pop(0))
        if change.primitive in ("run", "retrain"):
            self._start_run(change.to)
            return {"run_ids": [change.to["run_id"]]}
        if change.primitive == "stop":
            for run_id in change.to["run_ids"]:
                self._end_run(run_id, "stopped")
            return change.to
        name = Target.parse(change.target).workflow
        wanted = wanted_record(change, self._workflows.get(name), self._clock.now())
        if wanted is None and change.primitive != "delete":
            raise Permanent(f"{change.target} is not deployed any more")
        self._converge(name, wanted)
        self._notices.tell(change.primitive, change.target, change.to if change.primitive not in ("deploy", "delete") else {})
        return change.to

    def _converge(self, name: str, wanted: WorkflowRecord | None) -> None:
        now = self._clock.now()
        self._workflows.pop(name, None)
        if wanted is not None:
            self._workflows[name] = wanted
        services = {f"{name}/{service}": record for service, record in wanted.services.items()} if wanted else {}
        for target in [target for target in self._services if target.startswith(f"{name}/") and target not in services]:
            del self._services[target]
        for target, record in services.items():
            fresh = target not in self._services
            if fresh:
                load = self._loads.get(target, Load())
                self._services[target] = QueueingService(load, now, {}, {})
            queue = self.service(target)
            queue.weights = dict(record.weights)
            for role in [role for role in queue.lines if role not in record.roles]:
                del queue.lines[role]
            for role, entry in record.roles.items():
                standby = record.spec.replicas.standby if role == "champion" else 0
                if role not in queue.lines:
                    queue.lines[role] = Line(wanted=0, standby=standby, slots=record.spec.max_in_flight)
                    queue.lines[role].wanted = entry.replicas
                    queue.lines[role].start(now, 0.0)
                queue.rescale(role, entry.replicas)

    # -- runs

    def _start_run(self, to: dict[str, Any]) -> None:
        if to["run_id"] in self._runs:
            return
        now = self._clock.now()
        run = RunState(
            id=to["run_id"],
            workflow=to["workflow"],
            status="running",
            parameters=to["parameters"],
            cause=to.get("cause", ""),
            started_at=now,
        )
        self._runs[run.id] = run
        self._notices.tell("run_started", run.workflow, {"run": run.id})
        self._clock.call_at(now + self._batches.get(run.workflow, Batch()).seconds, lambda: self._end_run(run.id, "succeeded"))

    def _end_run(self, run_id: str, status: str) -> None:
        run = self._runs.get(run_id)
        if run is None or run.status in FINISHED:
            return
        script = self._batches.get(run.workflow, Batch())
        update: dict[str, Any] = {"status": status, "finished_at": self._clock.now()}
        if status == "succeeded" and script.fails:
            update |= {"status": "failed", "detail": script.fails}
        elif status == "succeeded":
            update["outputs"] = dict(script.outputs(run) if callable(script.outputs) else script.outputs)
        self._runs[run_id] = run.model_copy(update=update)
        self._notices.tell("run_finished", run.workflow, {"run": run_id, "status": update["status"]})
