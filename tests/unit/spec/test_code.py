"""Which files beside a YAML file are the code of its workflow, and what of them the workers would not find."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from autonomic.seams.errors import SpecError
from autonomic.strategies.validation import load_specs
from autonomic.workflows.runs import packages
from autonomic.workflows.runs.code_package import package_of
from autonomic.workflows.runs.packages import digest_of
from autonomic.workflows.spec.code import code_of

Travelling = Callable[[str], set[str]]
Beside = Callable[..., None]


def batch(*steps: str, more: str = "") -> str:
    return f"kind: Workflow\nmetadata: {{name: w}}\nspec: {{type: batch, {more}steps: [{', '.join(steps)}]}}\n"


@pytest.fixture
def beside(tmp_path: Path) -> Beside:
    """Writes files beside the YAML file; scripts for a shell may be executed."""

    def make(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if path.suffix == ".sh" else 0o644)

    return make


@pytest.fixture
def travelling(write: Callable[..., Path]) -> Travelling:
    """The files that travel for a text of documents."""

    def find(text: str) -> set[str]:
        specs = load_specs([write(text)])
        return set(code_of(specs.workflows[0], specs.folders["w"]).files)

    return find


def test_what_is_imported_or_named_travels_and_nothing_else(beside: Beside, travelling: Travelling) -> None:
    named = {
        "train.py": "import helper, json\nfrom deep import inner\nfrom lib.part import x\nHERE = __file__\nopen('words.txt')\n"
        "a = HERE / 'data' / 'a.csv', HERE / 'pages', load('plugins.one')\ndef f(): import late\n",
        **dict.fromkeys(("helper.py", "late.py", "deep/inner.py", "lib/__init__.py", "lib/part.py", "lib/table.csv"), ""),
        **dict.fromkeys(("words.txt", "data/a.csv", "pages/one.html", "plugins/one.py"), ""),
    }
    beside({**named, **dict.fromkeys(("unused.py", "deep/other.py", "data/b.csv", "notes.txt", "more.yaml.txt", ".env", "lib/a.yaml"), "")})
    assert travelling(batch("{name: a, run: 'train:f'}")) == set(named)


def test_scripts_of_commands_travel_with_what_they_name(beside: Beside, travelling: Travelling) -> None:
    files = {
        "run.sh": "python3 tools/prepare.py --to $OUT; python3 -m last\n",
        "tools/prepare.py": "import shared\n",
        "tools/shared.py": "",
    }
    beside({**files, "last.py": "", "config.json": "{}", "unused.sh": "", "table/a.csv": "", "first.py": ""})
    assert travelling(batch("{name: a, command: [./run.sh, --config=config.json]}")) == {*files, "last.py", "config.json"}
    assert travelling(batch("{name: a, command: [sh, -c, 'sh run.sh && cat table/a.csv']}")) == {*files, "last.py", "table/a.csv"}
    assert travelling(batch("{name: a, command: [python3, -m, last, table]}")) == {"last.py", "table/a.csv"}
    assert travelling(batch("{name: a, command: [python3, -c, 'import first']}")) == {"first.py"}


def test_files_that_nothing_names_travel_where_they_are_listed(beside: Beside, travelling: Travelling) -> None:
    beside({"own.py": "", "table/a.csv": "", "one.txt": "", "two.txt": ""})
    assert travelling(batch("{name: a, command: [echo]}", more="files: [table, one.txt], ")) == {"table/a.csv", "one.txt"}


def test_a_file_that_nothing_names_does_not_change_the_digest(beside: Beside, write: Callable[..., Path], tmp_path: Path) -> None:
    beside({"lib/__init__.py": "", "lib/own.py": "def f(): ...\n"})
    path = write(batch("{name: a, run: 'lib.own:f'}"))

    def digest() -> str:
        specs = load_specs([path])
        return digest_of(package_of(specs.workflows[0], specs.folders["w"]))

    before = digest()
    write("kind: Strategy\nmetadata: {name: s}\nspec: {target: w, do: [{run: {}}]}\n", "strategy.yaml")
    beside(
        {"notes.txt": "", "other.py": "", "lib/own.py~": "", "lib/__pycache__/own.pyc": "", "lib/more.yaml": "", "lib/reports/r.html": ""}
    )
    assert digest() == before
    beside({"lib/own.py": "def f(): return {}\n"})
    assert digest() != before


def test_a_link_travels_as_what_it_leads_to(beside: Beside, write: Callable[..., Path], tmp_path: Path) -> None:
    beside({"shared/common.py": "def work(): ...\n"})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "common.py").symlink_to("../shared/common.py")
    specs = load_specs([write(batch("{name: a, run: 'common:work'}"), "folder/w.yaml")])
    packages.unpack(package_of(specs.workflows[0], specs.folders["w"]), tmp_path / "out")
    assert (tmp_path / "out" / "common.py").read_text() == "def work(): ...\n"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("{name: a, command: [sh, absent.sh]}", "there is no file 'absent.sh' beside the file"),
        ("{name: a, command: [python3, -u, absent.py]}", "there is no file 'absent.py' beside the file"),
        ("{name: a, command: [./absent.sh]}", "there is no file './absent.sh' beside the file"),
        ("{name: a, command: [sh, dangling.sh]}", "which is a link to nothing"),
        ("{name: a, command: [./plain.txt]}", "'./plain.txt' is not executable; run `chmod +x ./plain.txt`"),
        ("{name: a, command: [sh, ../own.sh]}", "'../own.sh' leads out of the folder of the file"),
        ("{name: a, run: 'own:f'}", "signal.py is named like a module of the standard library, which is imported instead"),
        ("{name: a, run: 'json.tool:f'}", "json is named like a module of the standard library"),
        ("{name: a, run: 'back:f'}", "its name holds a backslash"),
        ("{name: a, run: 'latin:f'}", "its name is not UTF-8"),
    ],
)
def test_what_the_worker_would_not_find_is_reported_with_its_line(
    beside: Beside, problems_of: Callable, tmp_path: Path, step: str, words: str
) -> None:
    beside({"own.py": "import signal\ndef f(): ...\n", "signal.py": "", "plain.txt": "", "json/tool.py": "def f(): ...\n"})
    beside({"json/__init__.py": "", "back/__init__.py": "def f(): ...\n", "back/a\\b.txt": "", "latin/__init__.py": "def f(): ...\n"})
    (tmp_path / "dangling.sh").symlink_to("nowhere")
    (tmp_path / os.fsdecode(b"latin/caf\xe9.csv")).touch()
    (problem,) = problems_of(batch(step))
    assert words in problem.message
    assert problem.line == 4
    problem.message.encode()


def test_a_function_may_stand_in_a_module_named_like_one_of_the_standard_library(beside: Beside, travelling: Travelling) -> None:
    beside({"signal.py": "def work(): ...\n", "code.py": "def work(): ...\n"})
    assert travelling(batch("{name: a, run: 'signal:work'}", "{name: b, run: 'code:work'}")) == {"signal.py", "code.py"}


def test_strange_names_in_the_folder_are_no_matter_where_nothing_names_them(beside: Beside, travelling: Travelling, tmp_path: Path) -> None:
    beside({"own.py": "def f(): ...\n", "run_2026-05-01T12:00:00.log": ""})
    (tmp_path / os.fsdecode(b"caf\xe9.csv")).touch()
    assert travelling(batch("{name: a, run: 'own:f'}")) == {"own.py"}


def test_too_much_to_send_is_reported_at_what_names_it(
    beside: Beside, travelling: Travelling, problems_of: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "MAX_UNPACKED_BYTES", 1000)
    beside({"own.py": "def f():\n    open('big.bin')\n", "small.py": "def f(): ...\n", "big.bin": "x" * 2000})
    (problem,) = problems_of(batch("{name: a, run: 'small:f'}", "{name: b, run: 'own:f'}"))
    assert "The largest file is big.bin (0 MiB, named by own.py:2). Keep data elsewhere" in problem.message
    assert problem.path == "spec.steps[1].run"
    assert travelling(batch("{name: a, run: 'small:f'}")) == {"small.py"}


def test_a_package_that_does_not_shrink_is_reported_as_well(beside: Beside, problems_of: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_PACKAGE_BYTES", 100)
    beside({"own.py": "def f(): ...\n", "data.txt": "".join(map(chr, range(33, 1000)))})
    (problem,) = problems_of(batch("{name: a, run: 'own:f'}", more="files: [data.txt], "))
    assert "The largest file is data.txt" in problem.message
    assert problem.path == "spec.files[0]"


def test_what_is_listed_has_to_be_there(problems_of: Callable) -> None:
    (problem,) = problems_of(batch("{name: a, command: [echo]}", more="files: [absent], "))
    assert "there is no file or folder 'absent' beside the file" in problem.message


def test_problems_of_code_come_together_with_all_others(beside: Beside, write: Callable[..., Path]) -> None:
    with pytest.raises(SpecError) as caught:
        load_specs([write(batch("{name: a, needs: [b], command: [sh, x.sh]}"))])
    assert len(caught.value.problems) == 2


def test_classes_of_torch_travel_with_services_and_what_they_import_but_no_data(beside: Beside, travelling: Travelling) -> None:
    beside(
        {
            "net.py": "from torch import nn\nimport layers\nclass Net(nn.Module): pass\n",
            "layers.py": "SIZE = 3\nDATA = open('words.txt')\n",
            "nets/__init__.py": "",
            "nets/deep.py": "import torch\nclass Deep(torch.nn.Sequential): pass\n",
            "broken.py": "class (",
            "train.py": "import torch, net\nopen('data.csv')\n",
            **dict.fromkeys(("words.txt", "data.csv", "other.py", "strategy.yaml.txt"), ""),
        }
    )
    service = "kind: Workflow\nmetadata: {name: w}\nspec: {type: online, services: [{name: s, model: 'models:/m@champion'}]}\n"
    assert travelling(service) == {"net.py", "layers.py", "nets/__init__.py", "nets/deep.py", "broken.py"}
