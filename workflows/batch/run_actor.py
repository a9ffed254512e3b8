"""The detached actor that drives one run on a Ray cluster. All that it needs to go on stands in the cluster's store."""

import json
import queue
import threading
from pathlib import Path
from typing import Any

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import autonomic
from autonomic.seams.clock import SystemClock
from autonomic.seams.errors import AutonomicError, Permanent, Retryable
from autonomic.seams.state import FINISHED, RunState
from autonomic.seams.word import Word
from autonomic.workflows.batch.cluster_store import ClusterStore
from autonomic.workflows.batch.engine import Dag, Kill, Launch, Order, new_run
from autonomic.workflows.batch.launcher import Attempt, Notes, launch
from autonomic.workflows.batch.packages import ABOUT, git_state, package_folder
from autonomic.workflows.batch.step_main import failed
from autonomic.workflows.batch.tracking import Tracking
from autonomic.workflows.registry.artifacts import upload
from autonomic.workflows.registry.client import Mlflow
from autonomic.workflows.spec.workflow import BatchSpec, Resources, Step, Workflow

CATCH_UP_SECONDS = 600.0
"""How long a run that has ended waits for an MLflow that is away."""
_TRACKING_TIMEOUT_SECONDS = 5.0
_ARTIFACT_TIMEOUT_SECONDS = 600.0


class RunRequest(Word):
    """All that a run was started with. `parent` is the MLflow run that it is a part of."""

    run_id: str
    workflow: Workflow
    parameters: dict[str, Any]
    package: str = ""
    cause: str = ""
    parent: str = ""
    tracking_uri: str = ""
    home: Path

    @property
    def batch(self) -> BatchSpec:
        """The steps; a `RunRequest` is made of batch workflows only."""
        assert isinstance(self.workflow.spec, BatchSpec)
        return self.workflow.spec


class RunRecords:
    """What the cluster's store holds of runs."""

    def __init__(self) -> None:
        self._store = ClusterStore("autonomic-runs")

    def add(self, request: RunRequest) -> bool:
        """Keeps the request of a new run; False where the run is there already."""
        return self._store.put_new(f"request/{request.run_id}", request.model_dump(mode="json", by_alias=True))

    def request(self, run_id: str) -> RunRequest | None:
        return self._store.read(f"request/{run_id}", RunRequest)

    def state(self, run_id: str) -> RunState | None:
        if (state := self._store.read(f"state/{run_id}", RunState)) is not None:
            return state
        request = self.request(run_id)
        return None if request is None else first_state(request)

    def put_state(self, run: RunState) -> None:
        self._store.put(f"state/{run.id}", run.model_dump(mode="json"))

    def ids(self) -> list[str]:
        return [key.removeprefix("request/") for key in self._store.keys("request/")]

    def tracking(self, run_id: str) -> dict[str, Any]:
        return self._store.get(f"tracking/{run_id}") or {}

    def put_tracking(self, run_id: str, value: dict[str, Any]) -> None:
        self._store.put(f"tracking/{run_id}", value)

    def place(self, run_id: str, step: str) -> dict[str, Any] | None:
        """{"node", "log"} of the step's newest attempt."""
        return self._store.get(f"place/{run_id}/{step}")

    def put_place(self, run_id: str, step: str, place: dict[str, Any]) -> None:
        self._store.put(f"place/{run_id}/{step}", place)

    def forget(self, run_id: str) -> None:
        for key in self._store.keys(f"place/{run_id}/"):
            self._store.delete(key)
        for kind in ("tracking", "state", "request"):
            self._store.delete(f"{kind}/{run_id}")


def first_state(request: RunRequest) -> RunState:
    """The state of a run before anything was done."""
    return new_run(request.run_id, request.workflow.name, request.batch, request.parameters, request.cause)


class RunActor:
    """Drives a run to its end and then ends itself."""

    def __init__(self, run_id: str) -> None:
        self._records = RunRecords()
        request, run = self._records.request(run_id), self._records.state(run_id)
        if request is None or run is None:
            raise Permanent(f"the cluster's store knows no run {run_id!r}")
        self._request = request
        self._clock = SystemClock()
        self._dag = Dag(request.batch, run, self._clock)
        self._saved: RunState | None = None
        self._steps = {step.name: step for step in request.batch.steps}
        self._tasks: dict[str, ray.ObjectRef[Any]] = {}
        self._inbox: queue.Queue[dict[str, Any]] = queue.Queue()
        self._ended = threading.Event()
        self._self = ray.get_runtime_context().current_actor
        self._node = ray.get_runtime_context().get_node_id()
        self._tracking = self._start_tracking() if request.tracking_uri else None
        threading.Thread(target=self._drive, name="run", daemon=True).start()

    def report(self, kind: str, step: str, attempt: int, data: dict[str, Any]) -> None:
        """What the node that runs a step tells of it."""
        self._inbox.put({"kind": kind, "step": step, "attempt": attempt, "data": data})

    def stop(self, why: str) -> None:
        """Stops the run, and returns when its state says so."""
        self._inbox.put({"kind": "stop", "data": {"why": why}})
        self._ended.wait()

    def _drive(self) -> None:
        while not self._dag.finished:
            for order in self._dag.advance():
                self._carry_out(order)
            self._save()
            if self._dag.finished:
                break
            wake = self._dag.next_wake()
            try:
                message = self._inbox.get(timeout=None if wake is None else max(0.0, wake - self._clock.now()))
            except queue.Empty:
                continue
            self._hear(message)
        self._save()
        self._ended.set()
        self._close()

    def _hear(self, message: dict[str, Any]) -> None:
        kind, data = message["kind"], message["data"]
        if kind == "stop":
            for order in self._dag.cancel(data["why"]):
                self._carry_out(order)
            return
        step, attempt = message["step"], message["attempt"]
        if kind == "started":
            if self._dag.started(step, attempt):
                self._records.put_place(self._request.run_id, step, data)
        elif kind == "notes":
            self._take_notes(step, attempt, data["notes"])
        elif data["status"] == "succeeded":
            self._dag.succeeded(step, attempt, data["outputs"])
        else:
            self._dag.failed(step, attempt, data["detail"], data["retry"])

    def _take_notes(self, step: str, attempt: int, notes: Notes) -> None:
        for note in notes:
            if "progress" in note:
                self._dag.progressed(step, attempt, f"{note['progress']:.0%} {note['text']}".strip())
        if self._tracking:
            self._tracking.note(step, notes)

    def _carry_out(self, order: Order) -> None:
        if isinstance(order, Kill):
            task = self._tasks.pop(order.step, None)
            if task is not None:
                ray.cancel(task, force=True)
            return
        self._launch(order)

    def _launch(self, order: Launch) -> None:
        step, request = self._steps[order.step], self._request
        parent, child = self._tracking.run_ids(step.name) if self._tracking else ("", "")
        if parent and not self._dag.run.tracking_run:
            self._dag.run = self._dag.run.model_copy(update={"tracking_run": parent})
        if self._tracking:
            self._tracking.note(step.name, [{"time": self._clock.now(), "arguments": order.arguments}])
        attempt = Attempt(
            run_id=request.run_id,
            workflow=request.workflow.name,
            step=step.name,
            attempt=order.attempt,
            run=step.run,
            command=step.command,
            arguments=order.arguments,
            outputs=step.outputs,
            env={**request.batch.env, **step.env},
            timeout_seconds=step.timeout,
            folder=request.home / "runs" / request.run_id / step.name,
            models_cache=request.home / "models",
            tracking_uri=request.tracking_uri,
            tracking_run=child,
        )
        lacking = _lacking(step.resources)
        if lacking:
            self._dag.waiting(step.name, lacking)
        task = _as_task(_run_attempt, step).remote(attempt.model_dump(mode="json"), request.package, str(request.home), self._self)
        self._tasks[step.name] = task
        task.future().add_done_callback(lambda done: self.report("ended", order.step, order.attempt, _result(done)))

    def _save(self) -> None:
        if self._dag.run is not self._saved:
            self._saved = self._dag.run
            self._records.put_state(self._saved)
            if self._tracking:
                self._tracking.observe(self._saved)

    def _start_tracking(self) -> Tracking:
        request = self._request
        return Tracking(
            Mlflow(request.tracking_uri, timeout_seconds=_TRACKING_TIMEOUT_SECONDS),
            self._dag.run,
            self._clock,
            tags=self._code_tags(),
            parent=request.parent,
            known=self._records.tracking(request.run_id),
            on_known=lambda known: self._records.put_tracking(request.run_id, known),
            send_artifact=self._send_artifact,
        )

    def _code_tags(self) -> dict[str, str]:
        if not self._request.package:
            state = git_state(Path(next(iter(autonomic.__path__))).resolve())
        else:
            try:
                about = package_folder(self._request.package, self._request.home / "packages") / ABOUT
                state = json.loads(about.read_text())
            except (AutonomicError, OSError, ValueError):
                state = {}
        tags = {"autonomic.package": self._request.package} if self._request.package else {}
        if state.get("git_commit"):
            tags["mlflow.source.git.commit"] = state["git_commit"]
            tags["autonomic.git_changed"] = str(bool(state.get("git_changed"))).lower()
        return tags

    def _send_artifact(self, step: str, path: str, uri: str) -> None:
        place = self._records.place(self._request.run_id, step) or {"node": self._node}
        arguments = (self._request.tracking_uri, path, uri)
        if place["node"] == self._node:
            away, refused = _upload(*arguments)
        else:
            there = NodeAffinitySchedulingStrategy(place["node"], soft=False)
            task = ray.remote(_upload).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(*arguments)
            try:
                away, refused = ray.get(task, timeout=_ARTIFACT_TIMEOUT_SECONDS)
            except exceptions.RayError as error:
                away, refused = "", f"the artifact {path} on node {place['node']} is lost: {type(error).__name__}"
        if refused:
            raise Permanent(refused)
        if away:
            raise Retryable(away)

    def _close(self) -> None:
        if self._tracking:
            lacking = self._tracking.close(CATCH_UP_SECONDS)
            if lacking:
                run = self._dag.run
                detail = "; ".join(filter(None, [run.detail, f"tracking is incomplete: {lacking}"]))
                self._records.put_state(run.model_copy(update={"detail": detail}))
        ray.kill(self._self)


def _as_task(function: Any, step: Step) -> Any:
    needed = step.resources
    options = {"num_cpus": needed.cpu, "num_gpus": needed.gpu, "memory": needed.memory, "max_retries": 0, "name": f"step {step.name}"}
    return ray.remote(function).options(**{name: value for name, value in options.items() if value is not None})


def _run_attempt(attempt_data: dict[str, Any], package: str, home: str, run: Any) -> dict[str, Any]:
    """On the step's node: brings the code, runs the attempt, reports as it goes."""
    attempt = Attempt.model_validate(attempt_data)
    place = {"node": ray.get_runtime_context().get_node_id(), "log": str(attempt.log)}
    ray.get(run.report.remote("started", attempt.step, attempt.attempt, place))
    try:
        if package:
            attempt = attempt.model_copy(update={"code": str(package_folder(package, Path(home) / "packages"))})
        # the report of an ended step must not overtake its last notes
        return launch(attempt, lambda notes: ray.get(run.report.remote("notes", attempt.step, attempt.attempt, {"notes": notes})))
    except Permanent as error:
        return failed(str(error), retry=False)


def _upload(tracking_uri: str, path: str, uri: str) -> tuple[str, str]:
    """Carries an artifact to MLflow; (why it cannot be now, why it never can)."""
    server = Mlflow(tracking_uri, timeout_seconds=60.0)
    try:
        upload(server, Path(path), uri)
    except Retryable as away:
        return str(away), ""
    except (Permanent, OSError) as refused:
        return "", f"the artifact {path} was not kept: {refused}"
    finally:
        server.close()
    return "", ""


def _result(done: Any) -> dict[str, Any]:
    error = done.exception()
    if error is None:
        return done.result()
    known = {
        exceptions.OutOfMemoryError: "its node ran out of memory and Ray ended it; ask for more with resources.memory",
        exceptions.WorkerCrashedError: "the worker process that ran it died",
        exceptions.NodeDiedError: "the node that ran it died",
        exceptions.TaskCancelledError: "it was cancelled",
    }
    for kind, text in known.items():
        if isinstance(error, kind):
            return failed(text)
    lines = str(error).strip().splitlines()
    return failed(f"Ray could not run it: {type(error).__name__}: {lines[-1] if lines else ''}")


def _lacking(wanted: Resources) -> str:
    there = ray.cluster_resources()
    asked = {"CPU": wanted.cpu, "GPU": wanted.gpu, "memory": float(wanted.memory or 0)}
    lacking = [f"{name} {asked[name]:g} (the cluster has {there.get(name, 0.0):g})" for name in asked if asked[name] > there.get(name, 0.0)]
    return f"waits for resources that are not there: {', '.join(lacking)}" if lacking else ""


def is_finished(run: RunState | None) -> bool:
    """Whether nobody has to drive the run."""
    return run is not None and run.status in FINISHED
