"""How what stands on the command line is read, and which code is packed."""

import io
import zipfile
from pathlib import Path

import pytest

from autonomic.cli.act import parse_labels
from autonomic.cli.runs import parameters
from autonomic.cli.tune import parse_space
from autonomic.seams.errors import SpecError
from autonomic.workflows.runs.code_package import package_of
from autonomic.workflows.spec.workflow import Workflow


def workflow(**step: object) -> Workflow:
    return Workflow.model_validate(
        {
            "apiVersion": "autonomic.dev/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": "w"},
            "spec": {"type": "batch", "steps": [{"name": "a", **step}]},
        }
    )


def names(package: bytes) -> set[str]:
    return {name for name in zipfile.ZipFile(io.BytesIO(package)).namelist() if not name.startswith(".")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("own.py", "data.txt", "lib/deep.py", "__pycache__/own.pyc", ".git/config", ".venv/x.py", "env/pyvenv.cfg", "env/y.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    return tmp_path


def test_parameters_are_json_where_they_can_be() -> None:
    assert parameters(["a=1", "b=x=y", "c=[1, 2]", "d=", "e=true"]) == {"a": 1, "b": "x=y", "c": [1, 2], "d": "", "e": True}


@pytest.mark.parametrize(
    ("text", "declared", "value"),
    [
        ("6063e25", None, "6063e25"),
        ("12e4567", None, "12e4567"),
        ("1.5e999", None, "1.5e999"),
        ("NaN", None, "NaN"),
        ("-Infinity", None, "-Infinity"),
        ("[1, NaN]", None, "[1, NaN]"),
        ("1e-4", None, 1e-4),
        ("007", None, "007"),
        ("[" * 100_000, None, "[" * 100_000),
        ("6063e25", "main", "6063e25"),
        ("17", "main", "17"),
        ("true", "main", "true"),
        ("1e4", {"type": "integer", "default": 1}, 10_000),
        ("1e3", 0.5, 1000.0),
        ('"quoted"', {"type": "text"}, '"quoted"'),
        ("[1]", {"type": "list"}, [1]),
    ],
)
def test_a_parameter_is_read_as_what_is_declared(text: str, declared: object, value: object) -> None:
    found = parameters([f"a={text}"], None if declared is None else {"a": declared})["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("epochs=abc", "found 'abc'; allowed is a whole number from 1 to 50"),
        ("epochs=51", "found 51 (a number); allowed is a whole number from 1 to 50"),
        ("epochs=1.5", "found 1.5 (a number)"),
        ("epochs=NaN", "found 'NaN'"),
        ("epochs=12e4567", "found '12e4567'"),
        ("epocs=1", "unknown parameter; did you mean 'epochs'? (parameters: epochs, rate, mode)"),
        ("rate=fast", "found 'fast'; allowed is a number"),
        ("mode=slow", 'allowed is one of "a", "b"'),
        ("epochs=\udcff", "which is not UTF-8"),
        ("epochs", "a parameter is written NAME=VALUE"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_before_anything_runs(given: str, words: str) -> None:
    declared = {
        "epochs": {"type": "integer", "default": 3, "min": 1, "max": 50},
        "rate": 0.1,
        "mode": {"default": "a", "choices": ["a", "b"]},
    }
    with pytest.raises(SpecError) as caught:
        parameters(["mode=slow", given], declared)
    text = str(caught.value)
    assert words in text
    text.encode()


def test_a_parameter_without_a_default_has_to_be_given() -> None:
    with pytest.raises(SpecError, match="has no default and is not given; allowed is text"):
        parameters([], {"commit": {"type": "text"}})


def test_a_search_space_is_read_and_every_fault_told() -> None:
    assert parse_space(["lr=loguniform:1e-4,1e-1", "opt=choice:adam,sgd", "n=integer:1,9"]) == {
        "lr": {"loguniform": [1e-4, 1e-1]},
        "opt": {"choice": ["adam", "sgd"]},
        "n": {"integer": [1, 9]},
    }
    with pytest.raises(SpecError) as caught:
        parse_space(["a", "b=normal:1,2", "c=choice:"])
    assert len(caught.value.problems) == 3


def test_labels_come_from_arguments_and_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("label,prediction_id\n3,p1\n4,p=2\n")
    assert parse_labels(["p0=7"], file) == [
        {"prediction_id": "p0", "label": 7},
        {"prediction_id": "p1", "label": 3},
        {"prediction_id": "p=2", "label": 4},
    ]


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"prediction_id,label\np1,seven\n,3\n", b"\xff\xfe", b""])
def test_a_faulty_file_of_labels_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(content)
    with pytest.raises(SpecError, match=r"labels\.csv"):
        parse_labels([], file)


def test_what_a_workflow_names_travels_and_nothing_else(folder: Path) -> None:
    assert names(package_of(workflow(run="own:f"), folder)) == {"own.py"}
    assert names(package_of(workflow(command=["python", "lib/deep.py"]), folder)) == {"lib/deep.py"}


def test_nothing_travels_where_nothing_of_the_folder_is_named(folder: Path) -> None:
    assert package_of(workflow(run="json:dumps"), folder) == b""
    assert package_of(workflow(command=["echo", "x" * 5000, "a\0b", "/etc/hostname"]), folder) == b""


def test_modules_on_pythonpath_travel_alone(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    assert names(package_of(workflow(run="own:f"), elsewhere)) == {"own.py"}
    (folder / "lib" / "__init__.py").touch()
    assert names(package_of(workflow(run="lib.deep:f"), elsewhere)) == {"lib/deep.py", "lib/__init__.py"}


def test_the_same_code_gives_the_same_package(folder: Path) -> None:
    first = package_of(workflow(run="own:f"), folder)
    (folder / "own.py").touch()
    assert package_of(workflow(run="own:f"), folder) == first
    (folder / "own.py").write_text("x = 2\n")
    assert package_of(workflow(run="own:f"), folder) != first
