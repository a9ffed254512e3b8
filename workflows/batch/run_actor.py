"""The detached actor that drives one run on a Ray cluster. All that it needs to go on stands in the cluster's store."""

import threading
from pathlib import Path
from typing import Any

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autonomic.seams.clock import SystemClock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.workflows.batch.cluster_store import ClusterStore
from autonomic.workflows.batch.launcher import Attempt, launch
from autonomic.workflows.batch.packages import code_tags
from autonomic.workflows.batch.run_driver import RunDriver
from autonomic.workflows.batch.run_records import RunRecords
from autonomic.workflows.batch.step_main import failed
from autonomic.workflows.platforms.ray.packages import package_folder
from autonomic.workflows.registry.artifacts import upload
from autonomic.workflows.registry.client import Mlflow
from autonomic.workflows.spec.workflow import Resources, Step

RUNS = "autonomic-runs"
"""Where runs stand in the cluster's store."""
_ARTIFACT_TIMEOUT_SECONDS = 600.0


def cluster_records() -> RunRecords:
    """The runs of the Ray cluster that this process is connected to."""
    return RunRecords(ClusterStore(RUNS))


class RunActor:
    """Drives a run to its end and then ends itself."""

    def __init__(self, run_id: str) -> None:
        self._records = cluster_records()
        request, run = self._records.request(run_id), self._records.state(run_id)
        if request is None or run is None:
            raise Permanent(f"the cluster's store knows no run {run_id!r}")
        self._request = request
        self._tasks: dict[str, ray.ObjectRef[Any]] = {}
        self._ended = threading.Event()
        self._self = ray.get_runtime_context().current_actor
        self._node = ray.get_runtime_context().get_node_id()
        self._driver = RunDriver(
            self._records,
            request,
            run,
            SystemClock(),
            self,
            code_tags=code_tags(request.package, lambda digest: package_folder(digest, request.home / "packages")),
            send_artifact=self._send_artifact,
        )
        threading.Thread(target=self._drive, name="run", daemon=True).start()

    def report(self, kind: str, step: str, attempt: int, data: dict[str, Any]) -> None:
        """What the node that runs a step tells of it."""
        self._driver.hear(kind, step, attempt, data)

    def stop(self, why: str) -> None:
        """Stops the run, and returns when its state says so."""
        self._driver.hear("stop", data={"why": why})
        self._ended.wait()

    def _drive(self) -> None:
        self._driver.drive()
        self._ended.set()
        self._driver.finish()
        ray.kill(self._self)

    def launch(self, step: Step, attempt: Attempt) -> str:
        """See `run_driver.Executor.launch`."""
        task = _as_task(_run_attempt, step).remote(
            attempt.model_dump(mode="json"), self._request.package, str(self._request.home), self._self
        )
        self._tasks[step.name] = task
        task.future().add_done_callback(lambda done: self.report("ended", step.name, attempt.attempt, _result(done)))
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
