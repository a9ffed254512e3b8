"""What a step's function is given when it has a parameter named `context`."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autonomic.seams.text import well_formed_value

REGISTRY_PATIENCE_SECONDS = 60.0


class Context:
    """Progress, metrics, artifacts and models of a running step.

    What is only told (progress, metrics, artifacts, data sets) is noted in a file and sent to MLflow by whoever runs the step, so that
    a step goes on while MLflow is away. `workdir` is the step's own folder; another attempt finds it as the last one left it.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self.run_id: str = request["run_id"]
        self.workflow: str = request["workflow"]
        self.step: str = request["step"]
        self.attempt: int = request["attempt"]
        self.workdir = Path(request["workdir"])
        self.tracking_uri: str = request["tracking_uri"]
        self.tracking_run: str = request["tracking_run"]
        self._notes = Path(request["notes"])
        self._cache = Path(request["models_cache"])

    def progress(self, fraction: float, text: str = "") -> None:
        """Says how far the step is, from 0 to 1, and what it does."""
        self._note(progress=min(1.0, max(0.0, float(fraction))), text=text)

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """A value of a metric; `step` orders the values of one metric."""
        self._note(metric=name, value=float(value), step=int(step))

    def artifact(self, path: str | os.PathLike[str], name: str = "") -> None:
        """Hands a file or folder to MLflow, under its own name or `name`. It has to stay where it is until the run has ended.

        Raises:
            FileNotFoundError: there is nothing at `path`.
        """
        file = Path(path).absolute()
        if not file.exists():
            raise FileNotFoundError(f"the artifact {file} does not exist")
        self._note(artifact=str(file), name=name or file.name)

    def log_dataset(self, name: str, digest: str, source: str = "") -> None:
        """Says which data the step used: their name and a digest of their content."""
        self._note(dataset=name, digest=digest, source=source)

    def register_model(
        self, folder: str | os.PathLike[str], name: str, alias: str | Sequence[str] | None = None, tags: dict[str, str] | None = None
    ) -> str:
        """Registers a model folder (one with a model.json) under an alias or several, and returns its version.

        Raises:
            Permanent: the folder is no model, or there is no MLflow.
            Retryable: MLflow stayed away for a minute.
        """
        from autonomic.workflows.registry.register import register_model

        return register_model(
            self._need_tracking(),
            Path(folder),
            name,
            alias=alias,
            tags=tags or {},
            tracking_run=self.tracking_run,
            experiment=self.workflow,
            patience_seconds=REGISTRY_PATIENCE_SECONDS,
        )

    def download_model(self, uri: str) -> Path:
        """The local folder of a model such as `models:/mnist@champion` or `models:/mnist/3`.

        Raises:
            Permanent: the registry has no such model; names those it has.
            Retryable: MLflow is away.
        """
        from autonomic.workflows.registry.download import download_model

        return download_model(uri, self._cache, self.tracking_uri)

    def _need_tracking(self) -> str:
        from autonomic.seams.errors import Permanent

        if not self.tracking_uri:
            raise Permanent("this run has no MLflow server, so there is no model registry; start one or set AUTONOMIC's mlflow_url")
        return self.tracking_uri

    def _note(self, **fields: Any) -> None:
        # an artifact's path is kept as it is, so that the file is found
        kept = {name: well_formed_value(value) if name != "artifact" else value for name, value in fields.items()}
        line = json.dumps({"time": time.time(), **kept}) + "\n"
        # one write of one line, so that lines of a step's own child processes do not mix
        descriptor = os.open(self._notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
