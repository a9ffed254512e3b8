"""The groups in which `make test` runs the tests, and what `make chaos` runs."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_test_file_is_run_by_exactly_one_group() -> None:
    groups = script("side_by_side").selected()

    def runs(arguments: list[str], file: Path) -> bool:
        kept = [Path(path) for path in arguments if not path.startswith("--ignore=")]
        left_out = [Path(path.removeprefix("--ignore=")) for path in arguments if path.startswith("--ignore=")]
        return any(map(file.is_relative_to, kept)) and not any(map(file.is_relative_to, left_out))

    files = list((ROOT / "tests").rglob("test_*.py"))
    assert len(files) > 100
    assert [file for file in files if sum(runs(arguments, file) for arguments in groups.values()) != 1] == []
    assert all(Path(path.removeprefix("--ignore=")).exists() for arguments in groups.values() for path in arguments)


def test_chaos_runs_every_fault_with_every_seed_and_says_what_is_no_seed() -> None:
    chaos = script("chaos")
    assert [*chaos.seeds("3"), *chaos.seeds("1-2")] == [3, 1, 2]
    with pytest.raises(SystemExit, match="no seeds"):
        chaos.seeds("many")
    named = {name for seed in (1, 2) for name in chaos.commands(seed)}
    faults = [file.relative_to(ROOT) for file in (ROOT / "tests" / "chaos").glob("test_*.py")]
    assert named >= {f"{seed} {what}" for seed in (1, 2) for what in (*faults, "statistics", "properties")}
