"""The folder in which a model is kept: `model.json` and its weights, or what MLflow logs; never a pickle.

    {"format": "safetensors" | "state_dict" | "export", "architecture": "package.module:Class", "kwargs": {},
     "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 28, 28]}], "outputs": [...], "postprocess": "classifier" | null}

`architecture` is imported and called with `kwargs`; a `torch.export` program brings its own. Shapes begin with -1, the batch.
In a folder without `model.json` the `MLmodel` of an exported program says the same (see `mlflow_model`).
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from autonomic.seams.errors import Permanent
from autonomic.seams.word import Word
from autonomic.workflows.serving.exported import export_program, fixed_batch, load_program
from autonomic.workflows.serving.mlflow_model import MLMODEL, WAY_OUT, read_mlmodel
from autonomic.workflows.serving.oip import DATATYPES

if TYPE_CHECKING:
    from torch import Tensor, nn

Format = Literal["safetensors", "state_dict", "export"]
WEIGHTS: dict[str, str] = {"safetensors": "weights.safetensors", "state_dict": "weights.pt", "export": "model.pt2"}
EXAMPLE = "serving_input_example.json"
"""`{"inputs": …}` as MLflow writes it: by name, or of a single input the values alone."""


class TensorSpec(Word):
    """One input or output; `shape` begins with -1, the batch, and another -1 stands for any size."""

    name: str = Field(min_length=1)
    datatype: str
    shape: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _sensible(self) -> "TensorSpec":
        if self.datatype not in DATATYPES:
            raise ValueError(f"datatype {self.datatype!r} is none of {', '.join(DATATYPES)}")
        if self.datatype == "BYTES":
            raise ValueError(
                f"{self.name!r} is BYTES, which no tensor of torch holds; declare numbers (such as INT64 token ids, or UINT8 for the bytes "
                "of a text) and encode text before it is sent"
            )
        if self.shape[0] != -1 or any(size != -1 and size < 0 for size in self.shape):
            raise ValueError(f"shape {list(self.shape)} of {self.name!r} must begin with -1 (the batch) and has sizes >= 0 or -1 after it")
        return self


class ModelFile(Word):
    """`model.json`. A "classifier" returns logits `[n, classes]` and is served as `probabilities` and `label`.

    `weights` is the file in the folder that holds them, by default that of the format (`WEIGHTS`).
    """

    format: Format
    architecture: str = ""
    kwargs: dict[str, Any] = {}
    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)
    postprocess: Literal["classifier"] | None = None
    weights: str = ""

    @model_validator(mode="after")
    def _complete(self) -> "ModelFile":
        if self.format != "export" and ":" not in self.architecture:
            raise ValueError(f"architecture {self.architecture!r} must be package.module:Class for the format {self.format!r}")
        if self.postprocess == "classifier" and len(self.outputs) != 1:
            raise ValueError(f"a classifier has one output, its logits, not {len(self.outputs)}")
        place = PurePosixPath(self.weights)
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(f"weights {self.weights!r} must be a file in the model's folder")
        return self

    @property
    def weights_file(self) -> str:
        """Where the weights are in the folder."""
        return self.weights or WEIGHTS[self.format]

    @property
    def served_outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs as callers see them."""
        if self.postprocess != "classifier":
            return self.outputs
        logits = self.outputs[0]
        return (
            TensorSpec(name="probabilities", datatype="FP32", shape=logits.shape),
            TensorSpec(name="label", datatype="INT64", shape=(-1,)),
        )


class LoadedModel:
    """A model in memory, in evaluation mode; `example` are inputs that it was stored with."""

    def __init__(self, file: ModelFile, module: "nn.Module", example: Mapping[str, np.ndarray] | None = None) -> None:
        self.file = file
        self.module = module
        self.example = example

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The served outputs of a batch; `inputs` are arrays by name, in the shapes and types of the file."""
        return self.served(self.forward(inputs))

    def forward(self, inputs: Mapping[str, np.ndarray]) -> Any:
        """What the module itself returns."""
        import torch

        with torch.inference_mode():
            return self.module(*(_tensor(inputs[spec.name]) for spec in self.file.inputs))

    def served(self, answer: Any) -> dict[str, np.ndarray]:
        """The served outputs of what the module returned."""
        import torch

        with torch.inference_mode():
            if self.file.postprocess == "classifier":
                probabilities = torch.softmax(answer.float(), dim=-1)
                return {"probabilities": probabilities.numpy(), "label": probabilities.argmax(dim=-1).numpy()}
            return _outputs(self.file.outputs, answer)


def save_model(
    module: "nn.Module",
    folder: Path | str,
    *,
    architecture: str = "",
    kwargs: Mapping[str, Any] | None = None,
    inputs: Sequence[TensorSpec | Mapping[str, Any]],
    outputs: Sequence[TensorSpec | Mapping[str, Any]],
    format: Format = "safetensors",
    postprocess: Literal["classifier"] | None = None,
    example: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Writes `module` into `folder` (made where it is missing) and returns the folder.

    `architecture` ("package.module:Class") called with `kwargs` must give a module with the same weights; the format
    "export" needs neither. `example` are inputs by name, by which it is tried before it is served; else it is tried by zeros and the like.

    Raises:
        Permanent: the description is not valid, or the module cannot be stored in this format.
    """
    import torch

    try:
        file = ModelFile.model_validate(
            {
                "format": format,
                "architecture": architecture,
                "kwargs": dict(kwargs or {}),
                "inputs": [dict(each) for each in inputs],
                "outputs": [dict(each) for each in outputs],
                "postprocess": postprocess,
            }
        )
    except ValidationError as error:
        raise Permanent(f"the model cannot be saved: {_said(error)}") from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS[format]
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}
    if format == "safetensors":
        from safetensors.torch import save_file

        save_file(state, weights)
    elif format == "state_dict":
        torch.save(state, weights)
    else:
        export_program(module, file.inputs, weights)
    described = folder / "model.json"
    described.write_text(file.model_dump_json(indent=2, exclude={"weights"}) + "\n")
    if example is not None:
        (folder / EXAMPLE).write_text(json.dumps({"inputs": {name: np.asarray(array).tolist() for name, array in example.items()}}) + "\n")
    # safetensors writes for the owner only; who serves it may be somebody else
    weights.chmod(described.stat().st_mode)
    return folder


def read_model_file(folder: Path | str) -> ModelFile:
    """What a folder says of its model, without loading it: its `model.json`, else its `MLmodel`.

    Raises:
        Permanent: it is no model that can be served; says why, and what to do.
    """
    folder = Path(folder)
    path = folder / "model.json"
    try:
        if path.is_file():
            return ModelFile.model_validate(json.loads(path.read_text()))
        if (folder / MLMODEL).is_file():
            path = folder / MLMODEL
            return ModelFile.model_validate(read_mlmodel(folder))
    except OSError as error:
        raise Permanent(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise Permanent(f"{path} is not valid: {_said(error)}") from error
    except ValueError as error:
        raise Permanent(f"{path} is not JSON: {error}") from error
    holds = ", ".join(sorted(file.name for file in folder.iterdir())[:10]) if folder.is_dir() else ""
    raise Permanent(f"{folder} is no model folder: it has neither model.json nor {MLMODEL} (it holds {holds or 'nothing'})")


def check_model_folder(folder: Path | str) -> ModelFile:
    """Like `read_model_file`; also looks, without torch, whether the weights are there and take more than one number of rows.

    Raises:
        Permanent: it is no model that can be served; says why, and what to do.
    """
    file = read_model_file(folder)
    weights = Path(folder) / file.weights_file
    if not weights.is_file():
        raise Permanent(f"{folder} has no {file.weights_file}, which its format {file.format!r} asks for")
    if file.format == "export" and (rows := fixed_batch(weights)) is not None:
        raise Permanent(
            f"{weights} was exported for batches of exactly {rows} (an example of one row does that); any number of rows must do. {WAY_OUT}"
        )
    return file


def load_model(folder: Path | str) -> LoadedModel:
    """Loads a model folder; nothing stored there is executed as a pickle.

    Raises:
        Permanent: the folder is incomplete, the architecture cannot be imported, or the weights do not fit it.
    """
    file = check_model_folder(folder)
    weights = Path(folder) / file.weights_file
    if file.format == "export":
        return LoadedModel(file, load_program(weights), read_example(folder, file))
    module = _build(file)
    state = _load_state(file.format, weights)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise Permanent(f"the weights of {weights} do not fit {file.architecture}: {error}") from error
    return LoadedModel(file, module.eval(), read_example(folder, file))


def read_example(folder: Path | str, file: ModelFile) -> dict[str, np.ndarray] | None:
    """The inputs that a model was stored with (MLflow's `input_example` is such), None where there are none that fit its inputs."""
    try:
        given = json.loads((Path(folder) / EXAMPLE).read_text())["inputs"]
        by_name = given if isinstance(given, dict) else {file.inputs[0].name: given}
        found = {spec.name: np.asarray(by_name[spec.name], DATATYPES[spec.datatype]) for spec in file.inputs}
    except (OSError, ValueError, LookupError, TypeError, OverflowError):
        return None
    fits = all(found[spec.name].ndim == len(spec.shape) and len(found[spec.name]) for spec in file.inputs)
    return found if fits else None


def _tensor(array: np.ndarray) -> "Tensor":
    import torch

    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _outputs(specs: Sequence[TensorSpec], answer: Any) -> dict[str, np.ndarray]:
    if isinstance(answer, Mapping):
        values = [answer[spec.name] for spec in specs]
    elif isinstance(answer, tuple | list):
        values = list(answer)
    else:
        values = [answer]
    return {
        spec.name: np.ascontiguousarray(value.numpy(), dtype=DATATYPES[spec.datatype]) for spec, value in zip(specs, values, strict=True)
    }


def _build(file: ModelFile) -> "nn.Module":
    from torch import nn

    package, _, name = file.architecture.partition(":")
    try:
        maker = getattr(importlib.import_module(package), name)
    except Exception as error:
        raise Permanent(
            f"the architecture {file.architecture!r} cannot be imported: {type(error).__name__}: {error}; "
            "keep its module beside the YAML file of the service, or install it where replicas run"
        ) from error
    try:
        made = maker(**file.kwargs)
    except Exception as error:
        raise Permanent(
            f"the architecture {file.architecture!r} with {file.kwargs} cannot be made: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, nn.Module):
        raise Permanent(f"the architecture {file.architecture!r} makes a {type(made).__name__}, not a torch module")
    return made


def _load_state(format: Format, weights: Path) -> dict[str, Any]:
    import pickle

    import torch

    try:
        if format == "safetensors":
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                return load_file(weights)
            except SafetensorError as error:
                raise Permanent(f"{weights} is not a safetensors file: {error}") from error
        return torch.load(weights, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first = str(error).split("\n", 1)[0]
        raise Permanent(f"{weights} cannot be loaded as weights only: {first}") from error


def _said(error: ValidationError) -> str:
    # pydantic counts only the entries that were right, so that a list of nothing but faulty ones is also too short
    faults = [fault for fault in error.errors() if not (fault["type"] == "too_short" and fault["input"])]
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'model.json'}: {fault['msg'].removeprefix('Value error, ')}" for fault in faults
    )
