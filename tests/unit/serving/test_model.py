import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autonomic.seams.errors import Permanent
from autonomic.workflows.serving.model import load_model, read_model_file, save_model
from autonomic.workflows.serving.probe import check_answers

INPUTS = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
OUTPUTS = [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]


def save(folder: Path, module: nn.Module | None = None, **changes: Any) -> Path:
    arguments: dict[str, Any] = {
        "architecture": "torch.nn:Linear",
        "kwargs": {"in_features": 4, "out_features": 3},
        "inputs": INPUTS,
        "outputs": OUTPUTS,
    }
    return save_model(module or nn.Linear(4, 3), folder, **(arguments | changes))


@pytest.mark.parametrize("format", ["safetensors", "state_dict"])
def test_a_model_answers_the_same_after_it_was_kept(tmp_path: Path, format: str) -> None:
    module = nn.Linear(4, 3)
    loaded = load_model(save(tmp_path / "m", module, format=format))
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    with torch.inference_mode():
        np.testing.assert_array_equal(loaded({"x": x})["y"], module(torch.from_numpy(x)).numpy())


def test_a_classifier_is_served_as_probabilities_and_label(tmp_path: Path) -> None:
    loaded = load_model(save(tmp_path / "m", postprocess="classifier"))
    assert [(each.name, each.datatype, each.shape) for each in loaded.file.served_outputs] == [
        ("probabilities", "FP32", (-1, 3)),
        ("label", "INT64", (-1,)),
    ]
    outputs = loaded({"x": np.ones((2, 4), np.float32)})
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(outputs["label"], outputs["probabilities"].argmax(axis=1))


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", format="state_dict")
    mark = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    torch.save({"weight": Evil()}, folder / "weights.pt")
    with pytest.raises(Permanent, match="weights only"):
        load_model(folder)
    (folder / "weights.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(Permanent, match="weights only"):
        load_model(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "pickle"}, "format"),
        ({"architecture": "torch.nn"}, "package.module:Class"),
        ({"architecture": "nowhere:Net"}, "ModuleNotFoundError: No module named 'nowhere'; keep its module beside the YAML file"),
        ({"architecture": "torch.nn:Nothing"}, "AttributeError: module 'torch.nn' has no attribute 'Nothing'"),
        ({"architecture": "builtins:dict"}, "not a torch module"),
        ({"kwargs": {"in_features": 5, "out_features": 3}}, "do not fit"),
        ({"kwargs": {"wrong": 5}}, "cannot be made"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [{"name": "x", "datatype": "FLOAT", "shape": [-1]}]}, "none of BOOL"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [4]}]}, "must begin with -1"),
        ({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [-1]}]}, "'x' is BYTES, which no tensor of torch holds; declare numbers"),
        ({"weights": "../elsewhere.pt"}, "must be a file in the model's folder"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_model_file_that_is_wrong_is_refused_with_the_reason(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    folder = save(tmp_path / "m")
    document = json.loads((folder / "model.json").read_text()) | change
    (folder / "model.json").write_text(json.dumps(document))
    with pytest.raises(Permanent, match=said):
        load_model(folder)


def test_a_folder_that_is_incomplete_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="no model folder"):
        load_model(tmp_path / "nothing")
    folder = save(tmp_path / "m")
    (folder / "weights.safetensors").write_bytes(b"short")
    with pytest.raises(Permanent, match="not a safetensors file"):
        load_model(folder)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(Permanent, match=r"has no weights\.safetensors"):
        load_model(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(Permanent, match="is not JSON"):
        read_model_file(folder)


def test_weights_are_for_whoever_may_read_the_description(tmp_path: Path) -> None:
    save(tmp_path)
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "model.json").stat().st_mode


def test_a_model_with_texts_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    with pytest.raises(
        Permanent, match=r"saved: outputs\.0: 'y' is BYTES, which no tensor of torch holds; declare [^;]* before it is sent$"
    ):
        save(tmp_path / "m", nn.Identity(), outputs=[{"name": "y", "datatype": "BYTES", "shape": [-1]}])


@pytest.mark.parametrize(
    "source",
    ["import nothing_of_that_name", "def broken(:", "raise RuntimeError('no licence')", "x = 1 / 0"],
    ids=lambda source: source[:10],
)
def test_an_architecture_that_cannot_be_imported_gives_the_cause_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    name = f"own_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = save(tmp_path / "m", architecture=f"{name}:Net")
    with pytest.raises(Permanent, match=r"cannot be imported: (ModuleNotFound|Syntax|Runtime|ZeroDivision)Error: .*; keep") as refused:
        load_model(folder)
    assert "\n" not in str(refused.value)


class Wrong(nn.Module):
    """Returns other shapes than it declares, or nothing."""

    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "raises":
            raise ValueError("never")
        return {"columns": x, "rows": x[:1, :3], "two": x.new_zeros(2, 3)}[self.how]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", r"does not answer zeros as x FP32\[1, 4\]: ValueError: never"),
        ("columns", r"'y' of shape \[1, 4\]; it declares \[-1, 3\]"),
        ("rows", r"zeros as x FP32\[2, 4\] with 'y' of shape \[1, 3\]"),
        ("two", r"zeros as x FP32\[1, 4\] with 'y' of shape \[2, 3\]"),
    ],
)
def test_a_model_that_loads_and_does_not_answer_as_it_declares_is_refused(tmp_path: Path, how: str, said: str) -> None:
    folder = save(tmp_path / "m", Wrong(how), architecture=f"{__name__}:Wrong", kwargs={"how": how})
    with pytest.raises(Permanent, match=said):
        check_answers(load_model(folder))


def test_a_model_that_answers_passes_and_one_whose_sizes_vary_is_not_asked(tmp_path: Path) -> None:
    assert check_answers(load_model(save(tmp_path / "m"))) == ""
    varying = [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]
    check_answers(
        load_model(save(tmp_path / "v", Wrong("raises"), architecture=f"{__name__}:Wrong", kwargs={"how": "raises"}, inputs=varying))
    )


class Picky(nn.Module):
    """Takes no rows without a sum, as a model that divides by it; `bound` is the least sum that it takes."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x.sum(1) <= self.bound).any()):
            raise ValueError(f"a row adds up to {x.sum().item():.3f}")
        return x[:, :3] / x.sum(1, keepdim=True)


def picky(folder: Path, bound: float, **changes: Any) -> Any:
    return load_model(save(folder, Picky(bound), architecture=f"{__name__}:Picky", kwargs={"bound": bound}, **changes))


def test_a_model_may_reject_zeros_and_is_tried_by_its_own_example_where_it_has_one(tmp_path: Path) -> None:
    assert check_answers(picky(tmp_path / "zeros", 0.0)) == ""
    warning = check_answers(picky(tmp_path / "all", 100.0))
    assert "a row adds up to 0.000" in warning
    assert "input_example" in warning
    good = {"x": np.full((3, 4), 50.0)}
    assert check_answers(picky(tmp_path / "good", 100.0, example=good)) == ""
    with pytest.raises(Permanent, match=r"its own input example, x FP32\[1, 4\]: ValueError: a row adds up to 4"):
        check_answers(picky(tmp_path / "bad", 100.0, example={"x": np.ones((2, 4))}))


@pytest.mark.parametrize("text", ["{", "{}", '{"inputs": {"y": [1]}}', '{"inputs": [1, 2]}', '{"inputs": {"x": [["a"]]}}'])
def test_an_example_that_does_not_fit_the_inputs_is_none(tmp_path: Path, text: str) -> None:
    folder = save(tmp_path / "m")
    (folder / "serving_input_example.json").write_text(text)
    assert load_model(folder).example is None


def test_a_description_that_cannot_be_true_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="one output"):
        save(tmp_path / "m", postprocess="classifier", outputs=OUTPUTS * 2)
    assert not (tmp_path / "m" / "model.json").exists()
