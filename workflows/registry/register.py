"""Registers a model folder as a version of a model, with the signature that MLflow knows."""

import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from autonomic.seams.clock import Clock, SystemClock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.workflows.registry.artifacts import upload
from autonomic.workflows.registry.client import Mlflow
from autonomic.workflows.serving.model import load_model
from autonomic.workflows.serving.probe import check_answers

# names of datatypes: Open Inference Protocol v2 -> numpy, which MLflow's signatures use
_DTYPES = {
    **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "BOOL": "bool",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}


def register_model(
    tracking_uri: str,
    folder: Path,
    name: str,
    *,
    alias: str | Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
    tracking_run: str = "",
    experiment: str = "models",
    patience_seconds: float = 60.0,
    clock: Clock | None = None,
) -> str:
    """Uploads `folder` as an artifact of the run, makes a version of it, and returns the version.

    The model is loaded first, and has to answer its input example, or plain numbers where it has none: what cannot be served is not
    registered, and what may not answer is warned of.

    Without `tracking_run` a run is made for it in `experiment`. The aliases (one or several) are set last, so that they never name a
    version that is not whole.

    Raises:
        Permanent: the folder is no model, or the model does not load or does not answer.
        Retryable: MLflow stayed away for `patience_seconds`.
    """
    clock = clock or SystemClock()
    aliases = (alias,) if isinstance(alias, str) else tuple(alias or ())
    description = read_description(folder)
    if warning := check_answers(load_model(folder)):
        warnings.warn(f"{folder}: {warning}", stacklevel=2)
    server = Mlflow(tracking_uri, timeout_seconds=60.0)
    deadline = clock.monotonic() + patience_seconds
    try:
        while True:
            try:
                return _register(server, folder, description, name, aliases, tags or {}, tracking_run, experiment)
            except Retryable as away:
                if clock.monotonic() + away.delay_seconds > deadline:
                    raise
                clock.sleep(away.delay_seconds)
    finally:
        server.close()


def read_description(folder: Path) -> dict[str, Any]:
    """The model.json of a model folder.

    Raises:
        Permanent: there is none, or it is no JSON object.
    """
    path = folder / "model.json"
    try:
        description = json.loads(path.read_text())
    except FileNotFoundError:
        there = ", ".join(sorted(file.name for file in folder.iterdir())) if folder.is_dir() else "nothing"
        raise Permanent(f"{folder} is not a model folder: it has no model.json (it holds {there})") from None
    except ValueError as error:
        raise Permanent(f"{path} is not JSON: {error}") from None
    if not isinstance(description, dict):
        raise Permanent(f"{path} holds a {type(description).__name__}, not an object")
    return description


def signature(description: Mapping[str, Any]) -> dict[str, str | None]:
    """MLflow's signature of the inputs and outputs that a model.json declares."""
    return {"inputs": _tensors(description.get("inputs", [])), "outputs": _tensors(description.get("outputs", [])), "params": None}


def _register(
    server: Mlflow,
    folder: Path,
    description: dict[str, Any],
    name: str,
    aliases: Sequence[str],
    tags: Mapping[str, str],
    tracking_run: str,
    experiment: str,
) -> str:
    run = server.run(tracking_run) if tracking_run else server.create_run(server.experiment(experiment), f"register-{name}", {})
    run_id = run["info"]["run_id"]
    source = f"{run['info']['artifact_uri']}/models/{name}-{time.time_ns()}"
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "model"
        shutil.copytree(folder, copy)
        (copy / "MLmodel").write_text(_mlmodel(description, run_id))
        upload(server, copy, source)
    server.create_model(name)
    version = server.create_version(name, source, run_id, tags)
    for alias in aliases:
        server.set_alias(name, alias, version)
    if not tracking_run:
        server.end_run(run_id, "FINISHED", time.time())
    return version


def _tensors(declared: Any) -> str | None:
    tensors = [
        {
            "type": "tensor",
            "name": tensor["name"],
            "tensor-spec": {"dtype": _DTYPES.get(tensor["datatype"], "object"), "shape": list(tensor["shape"])},
        }
        for tensor in declared
    ]
    return json.dumps(tensors) if tensors else None


def _mlmodel(description: Mapping[str, Any], run_id: str) -> str:
    flavor = {key: description[key] for key in ("format", "architecture") if key in description}
    return yaml.safe_dump(
        {
            "flavors": {"autonomic": {"model_json": "model.json", **flavor}},
            "run_id": run_id,
            "signature": signature(description),
            "utc_time_created": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        },
        sort_keys=False,
    )
