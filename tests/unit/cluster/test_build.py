import json
import re
from pathlib import Path

import pytest

from autonomic.cli.embedded.kubernetes import build, keda

ROOT = Path(__file__).parents[3]


def test_the_programs_are_pinned_by_modules_with_checksums() -> None:
    local = ROOT / "deploy" / "local"
    for module, modules in (*((each, local / "go") for each in build.MODULES), (keda.MODULE, local)):
        folder = modules / module.folder
        text = (folder / "go.mod").read_text()
        assert all(package == "." or package in text for package in module.packages.values()), module.folder
        if module.pinned:
            version = build.version(module, modules)
            assert re.fullmatch(r"v\d+\.\d+\.\d+", version), module.folder
            assert f"{module.pinned} {version} h1:" in (folder / "go.sum").read_text()


def test_the_cache_is_named_by_what_the_programs_are_built_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    (data / "go" / "pause").mkdir(parents=True)
    (data / "go" / "pause" / "go.mod").write_text("module pause\n")
    monkeypatch.setattr(build, "DATA", data)
    before = build.digest()
    assert build.digest() == before
    (data / "elsewhere.yaml").write_text("x")
    assert build.digest() == before
    (data / "go" / "pause" / "go.mod").write_text("module pause\n\ngo 1.26.0\n")
    changed = build.digest()
    assert changed != before
    (data / "go" / "pause" / "main.go").write_text("package main")
    assert build.digest() != changed


def test_the_cache_lies_where_the_user_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cache_folder() == tmp_path / "autonomic" / "cluster"
    assert build.built() is None
    (build.cache_folder() / build.digest()).mkdir(parents=True)
    programs = build.ensure()
    assert programs.binaries.parent == tmp_path / "autonomic" / "cluster" / build.digest()


@pytest.mark.parametrize(
    ("version", "toolchain", "enough"),
    [
        ("go1.26.8", "local", True),
        ("go1.27", "local", True),
        ("go1.26.1", "local", False),
        ("go1.25.1", "auto", True),
        ("go1.20", "auto", False),
    ],
)
def test_a_go_is_enough_that_is_new_or_fetches_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, toolchain: str, enough: bool
) -> None:
    go = tmp_path / "go"
    go.write_text(f'#!/bin/sh\n[ "$1" = version ] && echo go version {version} linux/amd64 || echo {toolchain}\n')
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert build.go_is_enough() is enough


def test_no_go_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.go_version() is None
    assert not build.go_is_enough()


def test_the_definition_is_plain_data() -> None:
    assert json.dumps([module._asdict() for module in build.MODULES])
