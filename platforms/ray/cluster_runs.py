"""Starts, stops and reads runs of batch workflows on the Ray cluster that this process is connected to."""

import shutil
from pathlib import Path
from typing import Any

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autonomic.platforms.ray.replica import NAMESPACE
from autonomic.platforms.ray.run_actor import RUNS, cluster_records, ensure_runs_actor
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.state import RunState
from autonomic.workflows.runs.attempt_logs import read_attempt
from autonomic.workflows.runs.run_records import RunRecords, RunRequest, is_finished
from autonomic.workflows.spec.workflow import BatchSpec

_STOP_SECONDS = 30.0
_TAKEN_SECONDS = 1.0
"""How long an actor may take to say that it drives a run; one that only starts does so later, by itself."""


def start_run(to: dict[str, Any], *, tracking_uri: str, home: Path) -> RunState:
    """Starts the run that the change's `to` describes; one that was started before goes on and is not doubled.

    `to` is {run_id, workflow, spec, parameters, package, cause}, and may hold `parent`, an MLflow run. `tracking_uri` ""
    means no tracking. Logs and working folders stand below `home` on the node of each step.

    Raises:
        Permanent: it is no batch workflow.
    """
    fields = {name: to[name] for name in ("run_id", "parameters", "package", "cause", "parent") if name in to}
    request = RunRequest.model_validate({**fields, "workflow": to["spec"], "tracking_uri": tracking_uri, "home": home.absolute()})
    if not isinstance(request.workflow.spec, BatchSpec):
        raise Permanent(f"{request.workflow.name} is an online workflow; only batch workflows are run")
    records = cluster_records()
    is_new = records.add(request)
    run = records.state(request.run_id)
    assert run is not None
    if not is_finished(run):
        _drive(records, request.run_id)
    for old in records.too_many() if is_new else ():
        records.forget(old.run_id)
        shutil.rmtree(old.home / "runs" / old.run_id, ignore_errors=True)
    return run


def stop_runs(run_ids: list[str], why: str = "stopped on request") -> list[RunState]:
    """Stops runs, and returns them as they are then. One that has ended stays as it is, an unknown one is left out.

    Raises:
        Retryable: a run did not stop within 30 s.
    """
    records = cluster_records()
    for run_id in run_ids:
        run = records.state(run_id)
        if run is None or is_finished(run):
            continue
        records.open(run_id)
        try:
            ray.get(ensure_runs_actor().stop.remote(run_id, why), timeout=_STOP_SECONDS)
        except (exceptions.GetTimeoutError, exceptions.RayActorError) as error:
            if not is_finished(records.state(run_id)):
                raise Retryable(f"the run {run_id} did not stop within {_STOP_SECONDS:g} s: {type(error).__name__}") from None
    return [run for run_id in run_ids if (run := records.state(run_id)) is not None]


def resume_runs(*, tracking_uri: str) -> list[str]:
    """Goes on with the runs that nobody drives, such as after a new start of the cluster; returns those that have not ended.

    What they have still to write goes to the MLflow of now, `tracking_uri`.
    """
    records = cluster_records()
    going = [run.id for run in records.runs() if not is_finished(run)]
    for run_id in going:
        records.move_tracking(run_id, tracking_uri)
        _drive(records, run_id)
    # also where nothing goes on: what drives runs is started ahead of the first one
    ensure_runs_actor()
    return going


def leave_runs() -> None:
    """Ends what drives the runs, once none goes on."""
    try:
        ray.get_actor(RUNS, NAMESPACE).leave.remote()
    except ValueError:
        # nothing was run
        return


def get_run(run_id: str) -> RunState | None:
    """A run, None where it is not known."""
    return cluster_records().state(run_id)


def list_runs(workflow: str | None = None) -> list[RunState]:
    """All runs that are known (of one workflow), the newest first."""
    return cluster_records().runs(workflow)


def read_logs(run_id: str, step: str, attempt: int | None = None) -> dict[int, str | None]:
    """What each attempt of a step has printed, or one of them; of too much, the beginning and the end. None where its node is gone.

    Raises:
        Permanent: there is no such run or step.
    """
    records = cluster_records()
    run = records.state(run_id)
    if run is None:
        raise Permanent(f"there is no run {run_id!r}")
    if step not in run.steps:
        raise Permanent(f"the run {run_id} has no step {step!r}; it has {', '.join(run.steps)}")
    places = records.places(run_id, step)
    return {number: _read_there(place) for number, place in places.items() if attempt in (None, number)}


def _read_there(place: dict[str, Any]) -> str | None:
    # first here: after a restart this node bears another name, and keeps its files
    if place["node"] == ray.get_runtime_context().get_node_id() or Path(place["log"]).parent.is_dir():
        return read_attempt(place["log"])
    if place["node"] not in {node["NodeID"] for node in ray.nodes() if node["Alive"]}:
        return None
    there = NodeAffinitySchedulingStrategy(place["node"], soft=False)
    try:
        return ray.get(ray.remote(read_attempt).options(num_cpus=0, scheduling_strategy=there).remote(place["log"]), timeout=30)
    except exceptions.RayError:
        return None


def _drive(records: RunRecords, run_id: str) -> None:
    # noted first: an actor that is started again goes on with what is open
    records.open(run_id)
    taken = ensure_runs_actor().drive.remote(run_id)
    if ray.wait([taken], timeout=_TAKEN_SECONDS)[0]:
        try:
            ray.get(taken)
        except exceptions.RayActorError:
            # it was about to leave
            ensure_runs_actor().drive.remote(run_id)
