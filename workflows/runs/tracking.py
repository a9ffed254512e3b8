"""The projection of one run into MLflow: a parent run for the workflow's run, a child for each step.

MLflow is told, never asked: the run goes on while it is away, what it missed is kept here and sent when it is back.
"""

import importlib.metadata
import json
import platform
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.state import FINISHED, RunState, StepState
from autonomic.workflows.registry.artifacts import upload
from autonomic.workflows.registry.client import Mlflow

MAX_WAITING_NOTES = 100_000
_RETRY_SECONDS = 2.0
_STATUS = {"pending": "RUNNING", "running": "RUNNING", "succeeded": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}

Note = dict[str, Any]
SendArtifact = Callable[[str, str, str], None]
"""(step, path on the step's node, artifact address): carries one artifact over, raises Retryable while it cannot."""


class Tracking:
    """Mirrors a run. `observe` and `note` return at once; a thread of its own speaks with MLflow.

    `known` are the ids of MLflow runs kept from before a restart ({"": parent, step: child}); `on_known` is called
    with them when they change, to be kept.
    """

    def __init__(
        self,
        server: Mlflow,
        run: RunState,
        clock: Clock,
        *,
        tags: dict[str, str],
        parent: str = "",
        known: dict[str, str] | None = None,
        on_known: Callable[[dict[str, str]], None] = lambda known: None,
        send_artifact: SendArtifact,
    ) -> None:
        self._server = server
        self._clock = clock
        self._tags = tags
        self._parent = parent
        self._known = dict(known or {})
        # a run that was made but whose id was lost is looked for before another is made
        self._looked_for_lost = not run.started_at
        self._on_known = on_known
        self._send_artifact = send_artifact
        self._artifact_uris: dict[str, str] = {}
        self._wanted = run
        self._sent: dict[str, Any] = {}
        self._notes: deque[tuple[str, Note]] = deque()
        self._artifacts: deque[tuple[str, Note]] = deque()
        self._dropped = 0
        self._refused: list[str] = []
        self._away = ""
        self._given_up = False
        self._lock = threading.Lock()
        # two threads may want the same run of MLflow at once
        self._making = threading.RLock()
        self._experiment = ""
        self._wake = threading.Event()
        self._closing = False
        self._left = False
        self._thread = threading.Thread(target=self._serve, name="tracking", daemon=True)
        self._thread.start()

    def run_ids(self, step: str) -> tuple[str, str]:
        """MLflow's run ids of the workflow's run and of a step, made now; "" for what cannot be made now."""
        if not self._away and not self._given_up:
            self._attempt(lambda: self._child(step))
        return self._known.get("", ""), self._known.get(step, "")

    def observe(self, run: RunState) -> None:
        """The state to mirror from now on."""
        self._wanted = run
        self._wake.set()

    def note(self, step: str, notes: list[Note]) -> None:
        """What a step said."""
        with self._lock:
            for note in notes:
                if "progress" in note:
                    continue
                if "artifact" in note:
                    self._artifacts.append((step, note))
                elif len(self._notes) < MAX_WAITING_NOTES:
                    self._notes.append((step, note))
                else:
                    self._dropped += 1
        self._wake.set()

    def close(self, within_seconds: float) -> str:
        """Waits until MLflow has all; says what it lacks, "" when nothing."""
        deadline = self._clock.monotonic() + within_seconds
        self._closing = True
        self._wake.set()
        self._thread.join(max(0.0, deadline - self._clock.monotonic()))
        lacking = list(self._refused)
        if self._thread.is_alive():
            lacking.append(self._away or "MLflow did not take everything in time")
        if self._dropped:
            lacking.append(f"{self._dropped} metrics were dropped while MLflow was away")
        return "; ".join(lacking)

    def leave(self) -> None:
        """Ends after what is being sent; the run goes on, and another process mirrors it."""
        self._left = True
        self._wake.set()
        self._thread.join(_RETRY_SECONDS + 1)

    def _serve(self) -> None:
        done = False
        while not self._left:
            self._wake.clear()
            run, closing = self._wanted, self._closing
            # a step that begins waits for its own run of MLflow only
            for action in (self._describe, lambda run=run: self._mirror(run), self._send_artifacts):
                done = self._attempt(action)
                if not done or self._given_up:
                    break
            if done and (self._given_up or (closing and run is self._wanted and not self._notes and not self._artifacts)):
                return
            if not done:
                self._clock.sleep(_RETRY_SECONDS)
            elif not self._wake.is_set():
                self._wake.wait()

    def _attempt(self, action: Callable[[], object]) -> bool:
        try:
            action()
        except Retryable as away:
            self._away = f"MLflow has not everything: {away}"
            return False
        except Permanent as refused:
            self._given_up = True
            self._refused.append(str(refused))
        self._away = ""
        return True

    def _tolerate(self, action: Callable[[], object]) -> None:
        # one value that MLflow refuses, such as a metric with a strange name, does not keep the others away
        try:
            action()
        except Permanent as refused:
            self._refused = [*self._refused, str(refused)][-3:]

    def _mirror(self, run: RunState) -> None:
        for name, state in run.steps.items():
            if state.attempt:
                self._mirror_step(name, state)
        self._send_notes()
        if run.status in FINISHED:
            self._end("", run.status, run.finished_at, run.detail, run.outputs)

    def _mirror_step(self, name: str, state: StepState) -> None:
        child = self._child(name)
        if self._sent.get(f"attempt {name}") != state.attempt:
            self._server.log(child, tags={"autonomic.attempt": str(state.attempt)})
            self._sent[f"attempt {name}"] = state.attempt
        if state.status in FINISHED:
            self._send_notes(name)
            self._end(name, state.status, state.finished_at, state.detail, state.outputs)

    def _end(self, name: str, status: str, finished_at: float | None, detail: str, outputs: dict[str, Any]) -> None:
        if self._sent.get(f"end {name}") == status:
            return
        run_id = self._known[name]
        numbers = {key: value for key, value in outputs.items() if isinstance(value, int | float) and not isinstance(value, bool)}
        time_ms = int((finished_at or self._clock.now()) * 1000)
        points = [{"key": f"outputs.{key}", "value": float(value), "timestamp": time_ms, "step": 0} for key, value in numbers.items()]
        tags = {f"autonomic.outputs.{key}": json.dumps(value) for key, value in outputs.items() if key not in numbers}
        if detail:
            tags["autonomic.detail"] = detail
        self._tolerate(lambda: self._server.log(run_id, metrics=points))
        self._tolerate(lambda: self._server.log(run_id, tags=tags))
        self._server.end_run(run_id, _STATUS[status], finished_at)
        self._sent[f"end {name}"] = status

    def _describe(self) -> None:
        parent = self._ensure_parent()
        if not self._sent.get("start"):
            self._log_parameters(parent, self._wanted.parameters)
            self._upload_environment()
            self._sent["start"] = True

    def _ensure_parent(self) -> str:
        run = self._wanted
        with self._making:
            if "" not in self._known:
                tags = {**self._tags, "autonomic.workflow": run.workflow, "autonomic.run_id": run.id}
                if run.cause:
                    tags["autonomic.cause"] = run.cause
                if self._parent:
                    tags["mlflow.parentRunId"] = self._parent
                self._remember("", self._find_or_create("", run.id, tags))
            return self._known[""]

    def _child(self, step: str) -> str:
        with self._making:
            parent = self._ensure_parent()
            if step not in self._known:
                tags = {
                    "mlflow.parentRunId": parent,
                    "autonomic.workflow": self._wanted.workflow,
                    "autonomic.run_id": self._wanted.id,
                    "autonomic.step": step,
                }
                self._remember(step, self._find_or_create(step, step, tags))
            return self._known[step]

    def _find_or_create(self, step: str, name: str, tags: dict[str, str]) -> str:
        experiment = self._experiment = self._experiment or self._server.experiment(self._wanted.workflow)
        if not self._looked_for_lost:
            found = self._server.search_runs([experiment], f"tags.`autonomic.run_id` = '{self._wanted.id}'")
            for run in found:
                lost = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
                self._known.setdefault(lost.get("autonomic.step", ""), run["info"]["run_id"])
            self._looked_for_lost = True
            if step in self._known:
                return self._known[step]
        try:
            return self._server.create_run(experiment, name, tags, self._clock.now())["info"]["run_id"]
        except Retryable:
            # the answer may have been lost, not the request
            self._looked_for_lost = False
            raise

    def _remember(self, step: str, run_id: str) -> None:
        self._known[step] = run_id
        self._on_known(dict(self._known))

    def _send_notes(self, only: str = "") -> None:
        with self._lock:
            batch = [entry for entry in self._notes if not only or entry[0] == only][:900]
        while batch:
            for step in dict.fromkeys(step for step, _ in batch):
                self._send_step_notes(step, [note for of, note in batch if of == step])
            with self._lock:
                sent = {id(note) for _, note in batch}
                self._notes = deque(entry for entry in self._notes if id(entry[1]) not in sent)
                batch = [entry for entry in self._notes if not only or entry[0] == only][:900]

    def _send_step_notes(self, step: str, notes: list[Note]) -> None:
        child = self._child(step)
        send_notes(self._server, child, notes, self._tolerate)
        for note in notes:
            if "arguments" in note:
                self._log_parameters(child, note["arguments"])

    def _send_artifacts(self) -> None:
        while self._artifacts:
            step, note = self._artifacts[0]
            self._child(step)
            uri = f"{self._artifact_uri(step)}/{note['name']}"
            self._tolerate(lambda step=step, note=note, uri=uri: self._send_artifact(step, note["artifact"], uri))
            with self._lock:
                self._artifacts.popleft()

    def _log_parameters(self, run_id: str, parameters: dict[str, Any]) -> None:
        self._tolerate(lambda: self._server.log(run_id, parameters={key: _text(value) for key, value in parameters.items()}))

    def _artifact_uri(self, step: str) -> str:
        if step not in self._artifact_uris:
            self._artifact_uris[step] = self._server.run(self._known[step])["info"]["artifact_uri"]
        return self._artifact_uris[step]

    def _upload_environment(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "environment.json"
            path.write_text(json.dumps(environment(), indent=1))
            upload(self._server, path, f"{self._artifact_uri('')}/environment.json")


def _call(function: Callable[[], object]) -> None:
    function()


def send_notes(server: Mlflow, run_id: str, notes: Sequence[Note], tolerate: Callable[[Callable[[], object]], None] = _call) -> None:
    """Sends the metrics and data sets among `notes` to a run; `tolerate` calls what sends, and may bear that it is refused."""
    points = [
        {"key": note["metric"], "value": note["value"], "timestamp": int(note["time"] * 1000), "step": note["step"]}
        for note in notes
        if "metric" in note
    ]
    if points:
        tolerate(lambda: server.log(run_id, metrics=points))
    for note in notes:
        if "dataset" in note:
            tolerate(lambda note=note: server.log_dataset(run_id, note["dataset"], note["digest"], note["source"]))


def environment() -> dict[str, Any]:
    """What the run's process is made of: Python, the system, and every installed distribution with its version."""
    packages = {found.name: found.version for found in importlib.metadata.distributions() if found.name}
    return {
        "python": sys.version,
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
