"""What a step notes, on its way to MLflow from where the step runs."""

import threading
from collections import deque
from pathlib import Path

from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.workflows.registry.artifacts import upload
from autonomic.workflows.registry.client import Mlflow
from autonomic.workflows.runs.launcher import Notes
from autonomic.workflows.runs.tracking import MAX_WAITING_NOTES, Note, send_notes

PATIENCE_SECONDS = 60.0
"""How long a step that has ended waits for an MLflow that is away."""
_RETRY_SECONDS = 2.0


class StepTracking:
    """Sends metrics, data sets and artifacts to the MLflow run of a step. `note` returns at once.

    Where there is no MLflow (`uri` ""), or it was away when the step began (`run` ""), nothing is sent.
    """

    def __init__(self, uri: str, run: str, clock: Clock) -> None:
        self._server = Mlflow(uri, timeout_seconds=60.0) if uri and run else None
        self._lost = bool(uri) and not run
        self._run = run
        self._clock = clock
        self._waiting: deque[Note] = deque(maxlen=MAX_WAITING_NOTES)
        self._refused: list[str] = []
        self._away = ""
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="step-tracking", daemon=True)
        self._thread.start()

    def note(self, notes: Notes) -> None:
        """Takes what the step noted; progress is for nobody here."""
        self._waiting.extend(note for note in notes if "progress" not in note)
        self._wake.set()

    def close(self) -> str:
        """Waits until MLflow has all, at most a minute; says what it lacks, "" when nothing."""
        noted = bool(self._waiting)
        self._closing.set()
        self._wake.set()
        self._thread.join(PATIENCE_SECONDS)
        lacking = list(self._refused)
        if self._thread.is_alive():
            lacking.append(self._away or "MLflow did not take everything in time")
        if self._lost and noted:
            lacking.append("MLflow was away when the step began, so that it has none of its metrics and artifacts")
        return "; ".join(lacking)

    def _serve(self) -> None:
        while self._server is not None:
            self._wake.clear()
            try:
                self._send(self._server)
                if self._closing.is_set() and not self._waiting:
                    return
                self._wake.wait()
            except Retryable as away:
                self._away = f"MLflow has not everything: {away}"
                self._clock.sleep(_RETRY_SECONDS)

    def _send(self, server: Mlflow) -> None:
        while self._waiting:
            batch = [self._waiting[index] for index in range(min(900, len(self._waiting)))]
            try:
                send_notes(server, self._run, [note for note in batch if "artifact" not in note])
                for note in batch:
                    if "artifact" in note:
                        uri = f"{server.run(self._run)['info']['artifact_uri']}/{note['name']}"
                        upload(server, Path(note["artifact"]), uri)
            except (Permanent, OSError) as refused:
                # one value that MLflow refuses does not keep the others away
                self._refused = [*self._refused, str(refused)][-3:]
            for _ in batch:
                self._waiting.popleft()
