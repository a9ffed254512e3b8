import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from autonomic.seams.errors import Permanent
from autonomic.workflows.serving.exported import fixed_batch, load_program
from autonomic.workflows.serving.model import check_model_folder, load_model
from autonomic.workflows.serving.probe import check_answers

Tensors = list[dict[str, Any]]


def tensors(*shapes: list[int], names: tuple[str, ...] = (), dtype: str = "float32") -> str:
    found: Tensors = [{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}} for shape in shapes]
    for tensor, name in zip(found, names, strict=False):
        tensor["name"] = name
    return json.dumps(found)


def exported(module: nn.Module, *examples: torch.Tensor) -> bytes:
    """A program as `mlflow.pytorch.log_model` exports it."""
    buffer = io.BytesIO()
    free = [{0: torch.export.Dim.AUTO} for _ in examples]
    torch.export.save(torch.export.export(module, examples, dynamic_shapes=free), buffer)
    return buffer.getvalue()


def logged(folder: Path, program: bytes, **changes: Any) -> Path:
    """What `mlflow.pytorch.log_model` writes by default."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "model.pt2").write_bytes(program)
    document = {
        "flavors": {"pytorch": {"model_data": "data"}, "python_function": {"data": "data"}},
        "signature": {"inputs": tensors([-1, 13]), "outputs": tensors([-1, 3]), "params": None},
        **changes,
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    return folder


@pytest.fixture(scope="module")
def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(13, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


@pytest.fixture(scope="module")
def program(mlp: nn.Module) -> bytes:
    return exported(mlp, torch.zeros(2, 13))


def test_a_logged_program_answers_any_number_of_rows_as_its_module_does(tmp_path: Path, mlp: nn.Module, program: bytes) -> None:
    loaded = load_model(logged(tmp_path / "m", program))
    assert [(each.name, each.datatype, each.shape) for each in (*loaded.file.inputs, *loaded.file.served_outputs)] == [
        ("input", "FP32", (-1, 13)),
        ("output", "FP32", (-1, 3)),
    ]
    check_answers(loaded)
    for rows in (1, 2, 7):
        x = np.random.default_rng(rows).normal(size=(rows, 13)).astype(np.float32)
        with torch.inference_mode():
            np.testing.assert_allclose(loaded({"input": x})["output"], mlp(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-6)


def test_metadata_makes_a_logged_program_a_classifier(tmp_path: Path, program: bytes) -> None:
    metadata = {"autonomic": {"postprocess": "classifier"}}
    loaded = load_model(logged(tmp_path / "m", program, metadata=metadata))
    assert [each.name for each in loaded.file.served_outputs] == ["probabilities", "label"]


def test_names_of_the_signature_are_those_of_the_protocol_and_missing_ones_are_numbered(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, y * 2

    signature = {"inputs": tensors([-1, 2], [-1, 2], names=("left",)), "outputs": tensors([-1, 2], [-1, 2])}
    loaded = load_model(logged(tmp_path / "m", exported(Two(), torch.zeros(2, 2), torch.zeros(2, 2)), signature=signature))
    assert [each.name for each in loaded.file.inputs] == ["left", "input_1"]
    ones = np.ones((3, 2), np.float32)
    outputs = loaded({"left": ones, "input_1": ones})
    assert {name: float(array[0, 0]) for name, array in outputs.items()} == {"output_0": 2.0, "output_1": 2.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flavors": {"sklearn": {}, "python_function": {}}}, "was logged as sklearn; models of PyTorch are served"),
        ({"flavors": {"pytorch": {"model_data": "elsewhere"}}}, "was logged as a pickle, which may run any code"),
        ({"signature": None}, "without a signature"),
        ({"signature": {"inputs": tensors([-1, 13]), "outputs": None}}, "without a signature"),
        ({"signature": {"inputs": '[{"type": "double", "name": "a"}]', "outputs": tensors([-1, 3])}}, "columns of a table"),
        ({"signature": {"inputs": "[3]", "outputs": tensors([-1, 3])}}, "cannot be read"),
        ({"signature": {"inputs": tensors([-1, 13], dtype="complex64"), "outputs": tensors([-1, 3])}}, "'complex64' is none of"),
        ({"signature": {"inputs": tensors([13]), "outputs": tensors([-1, 3])}}, "must begin with -1"),
        ({"flavors": 3}, "names no flavors"),
    ],
)
def test_what_cannot_be_served_is_refused_without_loading_it_and_with_the_way_out(
    tmp_path: Path, program: bytes, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(Permanent, match=said):
        check_model_folder(logged(tmp_path / "m", program, **changes))


def test_a_program_of_one_row_is_refused_before_anybody_asks_it_for_two(tmp_path: Path, mlp: nn.Module) -> None:
    folder = logged(tmp_path / "m", exported(mlp, torch.zeros(1, 13)))
    assert fixed_batch(folder / "data" / "model.pt2") == 1
    with pytest.raises(Permanent, match=r"exported for batches of exactly 1 .*input_example=TWO_ROWS_OR_MORE"):
        check_model_folder(folder)


def test_nothing_in_a_program_is_executed_when_it_is_loaded(tmp_path: Path, program: bytes) -> None:
    archived = logged(tmp_path / "m", program) / "data" / "model.pt2"
    mark = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    harmful = io.BytesIO()
    torch.save(Evil(), harmful)
    with zipfile.ZipFile(archived) as archive:
        records = {record.filename: archive.read(record) for record in archive.infolist()}
    (samples,) = (name for name in records if "/sample_inputs/" in name)
    (payloads,) = (name for name in records if name.endswith("weights_config.json"))
    config = json.loads(records[payloads])
    first = next(iter(config["config"].values()))
    weight = f"{payloads.rpartition('/')[0]}/{first['path_name']}"
    first["use_pickle"] = True
    for name, changes in {
        "sample_inputs": {samples: harmful.getvalue()},
        "weight_": {weight: harmful.getvalue(), payloads: json.dumps(config).encode()},
    }.items():
        with zipfile.ZipFile(archived, "w") as archive:
            for record, content in (records | changes).items():
                archive.writestr(record, content)
        with pytest.raises(Permanent, match=f"{name}.*would be loaded as a pickle"):
            load_program(archived)
    assert not mark.exists()
    archived.write_bytes(b"PK")
    with pytest.raises(Permanent, match=r"not a torch\.export program"):
        load_program(archived)
