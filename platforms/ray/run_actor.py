"""The detached actor that drives the runs of a Ray cluster. All that it needs to go on stands in the cluster's store.

Ray keeps idle worker processes for the tasks of one detached actor, and for nobody else. So all runs share this actor: the worker
that ran the last step is warm for the next one, whichever run that belongs to.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autonomic.platforms.ray.cluster_store import ClusterStore
from autonomic.platforms.ray.drivers import ensure_driver
from autonomic.platforms.ray.packages import package_folder
from autonomic.seams.clock import SystemClock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.state import RunState
from autonomic.workflows.registry.artifacts import upload
from autonomic.workflows.registry.client import Mlflow
from autonomic.workflows.runs.launcher import Attempt, launch
from autonomic.workflows.runs.packages import code_tags
from autonomic.workflows.runs.run_driver import RunDriver
from autonomic.workflows.runs.run_records import RunRecords, RunRequest
from autonomic.workflows.runs.step_main import failed
from autonomic.workflows.spec.workflow import Resources, Step

RUNS = "autonomic-runs"
"""Where runs stand in the cluster's store, and the name of the actor that drives them."""
_ARTIFACT_TIMEOUT_SECONDS = 600.0
_THREADS = 32
_log = logging.getLogger(__name__)


def cluster_records() -> RunRecords:
    """The runs of the Ray cluster that this process is connected to."""
    return RunRecords(ClusterStore(RUNS))


def ensure_runs_actor() -> Any:
    """The actor that drives the runs of this cluster; made where there is none. Ray starts it again whenever its process ends."""
    return ensure_driver(RunsActor, RUNS, threads=_THREADS)


class RunsActor:
    """Drives each run to its end, in a thread of its own. After a restart it goes on with all that were left open."""

    def __init__(self) -> None:
        self._records = cluster_records()
        self._self = ray.get_runtime_context().current_actor
        self._lock = threading.Lock()
        self._driven: dict[str, _DrivenRun] = {}
        self._leaves = False
        _warm_nodes()
        for run_id in self._records.open_ids():
            try:
                self.drive(run_id)
            except (Permanent, ValueError) as unreadable:
                # one run that cannot be read never holds up the others
                _log.error("the run %s cannot be driven: %s", run_id, unreadable)

    def drive(self, run_id: str) -> None:
        """Drives a run to its end; one that is driven already goes on.

        Raises:
            Permanent: the cluster's store does not hold the run.
        """
        with self._lock:
            self._leaves = False
            if run_id in self._driven:
                return
            request, run = self._records.request(run_id), self._records.state(run_id)
            if request is None or run is None:
                raise Permanent(f"the cluster's store knows no run {run_id!r}")
            self._driven[run_id] = _DrivenRun(self._records, request, run, self._self, self._closed)

    def report(self, run_id: str, kind: str, step: str, attempt: int, data: dict[str, Any]) -> None:
        """What the node that runs a step reports of it."""
        driven = self._driven.get(run_id)
        if driven is not None:
            driven.driver.hear(kind, step, attempt, data)

    def stop(self, run_id: str, why: str) -> None:
        """Stops the run, and returns when its state says so.

        Raises:
            Permanent: the cluster's store does not hold the run.
        """
        self.drive(run_id)
        driven = self._driven.get(run_id)
        if driven is not None:
            driven.driver.hear("stop", data={"why": why})
            driven.ended.wait()

    def leave(self) -> None:
        """Ends this actor once it drives nothing any more."""
        with self._lock:
            self._leaves = True
            self._end_if_idle()

    def _closed(self, run_id: str) -> None:
        with self._lock:
            self._records.close(run_id)
            del self._driven[run_id]
            self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._leaves and not self._driven:
            ray.kill(self._self)


class _DrivenRun:
    """One run, and what carries its orders out: see `run_driver.Executor`. `closed` is called when nothing is left to do for it."""

    def __init__(self, records: RunRecords, request: RunRequest, run: RunState, actor: Any, closed: Callable[[str], None]) -> None:
        self._records = records
        self._request = request
        self._actor = actor
        self._closed = closed
        self._tasks: dict[str, ray.ObjectRef[Any]] = {}
        self._node = ray.get_runtime_context().get_node_id()
        self.ended = threading.Event()
        self.driver = RunDriver(
            records,
            request,
            run,
            SystemClock(),
            self,
            code_tags=code_tags(request.package, lambda digest: package_folder(digest, request.home / "packages")),
            send_artifact=self._send_artifact,
        )
        threading.Thread(target=self._drive, name=f"run-{request.run_id}", daemon=True).start()

    def _drive(self) -> None:
        self.driver.drive()
        self.ended.set()
        self.driver.finish()
        self.driver.close()
        self._closed(self._request.run_id)

    def launch(self, step: Step, attempt: Attempt) -> str:
        """See `run_driver.Executor.launch`."""
        task = _as_task(_run_attempt, step).remote(
            attempt.model_dump(mode="json"), self._request.package, str(self._request.home), self._actor
        )
        self._tasks[step.name] = task
        task.future().add_done_callback(lambda done: self.driver.hear("ended", step.name, attempt.attempt, _result(done)))
        return _lacking(step.resources)

    def kill(self, step: str, attempt: int) -> None:
        """See `run_driver.Executor.kill`."""
        task = self._tasks.pop(step, None)
        if task is not None:
            ray.cancel(task, force=True)

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


def _as_task(function: Any, step: Step) -> Any:
    needed = step.resources
    options = {"num_cpus": needed.cpu, "num_gpus": needed.gpu, "memory": needed.memory, "max_retries": 0, "name": f"step {step.name}"}
    return ray.remote(function).options(**{name: value for name, value in options.items() if value is not None})


def _run_attempt(attempt_data: dict[str, Any], package: str, home: str, actor: Any) -> dict[str, Any]:
    """On the step's node: brings the code, runs the attempt, reports as it goes."""
    attempt = Attempt.model_validate(attempt_data)

    def report(kind: str, data: dict[str, Any]) -> None:
        # awaited, so that the report of an ended step does not overtake what came before
        ray.get(actor.report.remote(attempt.run_id, kind, attempt.step, attempt.attempt, data))

    place = {"node": ray.get_runtime_context().get_node_id(), "log": str(attempt.log)}
    report("started", place)
    try:
        if package:
            attempt = attempt.model_copy(update={"code": str(package_folder(package, Path(home) / "packages"))})
        return launch(attempt, lambda notes: report("notes", {"notes": notes}))
    except Permanent as error:
        return failed(str(error), retry=False)


def _warm_nodes() -> None:
    """Starts a worker on every node, so that the first step of each need not wait for one."""
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ray.remote(_warm).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote()


def _warm() -> None:
    """Receiving this function has imported what a step's worker needs."""


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
