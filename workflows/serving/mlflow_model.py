"""What `mlflow.pytorch.log_model` writes: the folder's `MLmodel` read as a `ModelFile`. Needs no mlflow.

Served is an exported program (`serialization_format="pt2"`, MLflow's default), with the model's signature as its inputs and outputs.
An input or output without a name is `input` or `output`, of several `input_0`, `input_1`, …. The logged metadata
`{"autonomic": {"postprocess": "classifier"}}` makes it a classifier.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from autonomic.seams.errors import Permanent
from autonomic.workflows.serving.oip import DATATYPES

MLMODEL = "MLmodel"
WAY_OUT = (
    "Log it as an exported program, mlflow.pytorch.log_model(model, name=…, input_example=TWO_ROWS_OR_MORE, registered_model_name=…), "
    "or register a model folder with autonomic's register_model"
)


def read_mlmodel(folder: Path) -> dict[str, Any]:
    """The fields of a `ModelFile` that the folder's `MLmodel` describes.

    Raises:
        Permanent: it is not valid, or it is no model that can be served; says how it can be logged instead.
    """
    path = folder / MLMODEL
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Permanent(f"{path} cannot be read: {error}") from error
    flavors = document.get("flavors") if isinstance(document, dict) else None
    if not isinstance(flavors, dict):
        raise Permanent(f"{path} names no flavors, so it is not an {MLMODEL} that MLflow wrote")
    if "pytorch" not in flavors:
        named = ", ".join(sorted(name for name in flavors if name != "python_function")) or "python_function"
        raise Permanent(f"{folder} was logged as {named}; models of PyTorch are served, others are not yet. {WAY_OUT}")
    data = str(flavors["pytorch"].get("model_data", "data"))
    program = Path(data) / "model.pt2"
    if not (folder / program).is_file():
        raise Permanent(f"{folder} was logged as a pickle, which may run any code when it is loaded, and is not served. {WAY_OUT}")
    signature = document.get("signature")
    if not isinstance(signature, dict) or not signature.get("inputs") or not signature.get("outputs"):
        raise Permanent(f"{folder} was logged without a signature of its inputs and outputs. {WAY_OUT}")
    return {
        "format": "export",
        "weights": program.as_posix(),
        "inputs": _tensors(folder, "input", signature["inputs"]),
        "outputs": _tensors(folder, "output", signature["outputs"]),
        "postprocess": _own(document).get("postprocess"),
    }


def _own(document: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = document.get("metadata")
    own = metadata.get("autonomic") if isinstance(metadata, dict) else None
    return own if isinstance(own, dict) else {}


def _tensors(folder: Path, kind: str, text: str) -> list[dict[str, Any]]:
    try:
        columns = json.loads(text)
        specs = [(column.get("name"), column["tensor-spec"]) for column in columns if column["type"] == "tensor"]
        tensors = [
            {
                "name": name or (kind if len(columns) == 1 else f"{kind}_{index}"),
                "datatype": _DATATYPES.get(np.dtype(spec["dtype"]), str(spec["dtype"])),
                "shape": spec["shape"],
            }
            for index, (name, spec) in enumerate(specs)
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Permanent(
            f"the signature of {folder} has {kind}s that cannot be read ({type(error).__name__}: {error}). {WAY_OUT}"
        ) from error
    if len(tensors) < len(columns):
        raise Permanent(f"the signature of {folder} has {kind}s that are columns of a table; served are tensors. {WAY_OUT}")
    return tensors


_DATATYPES = {dtype: name for name, dtype in DATATYPES.items()}
