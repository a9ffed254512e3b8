"""What is refused before anything is built, and how a failing program is told."""

from pathlib import Path

import pytest

from autonomic.seams.errors import Permanent
from autonomic.workflows.images import build


@pytest.mark.parametrize("name", ["ml/steps:1", "registry.example.com:5000/ml/steps:1.0-rc.1", "steps:v1"])
def test_names_with_a_tag_are_taken(name: str) -> None:
    build.check_name(name)


@pytest.mark.parametrize("name", ["", "steps", "registry.example.com:5000/steps", "Steps:1", "steps:", "--steps:1", "steps:1 2"])
def test_other_names_are_refused_in_words(name: str) -> None:
    with pytest.raises(Permanent, match="give a name in lower case and a tag"):
        build.check_name(name)


def test_missing_programs_are_named_with_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Permanent, match=r"buildah, mmdebstrap, apt-get\..*apt-get install buildah mmdebstrap, or name an image"):
        build.check_tools("")
    with pytest.raises(Permanent, match=r"not found on PATH: buildah\."):
        build.check_tools("python:3.12-slim")


def test_only_mirrors_of_the_distribution_make_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [
        "Debian|http://mirror.example/debian/|bookworm|main",
        "Debian|http://mirror.example/debian/|bookworm-updates|main",
        "Somebody|http://tools.example/|stable|main",
    ]
    _program(tmp_path, "apt-get", *(f"echo '{line}'" for line in listed))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    sources, release = build.apt_sources()
    assert sources == "deb http://mirror.example/debian/ bookworm main\ndeb http://mirror.example/debian/ bookworm-updates main\n"
    assert release == "bookworm"


def test_a_build_that_fails_is_told_with_the_end_of_what_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, "buildah", "for n in $(seq 30); do echo line $n; done", "echo no space left >&2", "exit 125")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said: list[str] = []
    with pytest.raises(Permanent, match=r"(?s)`buildah build` failed:\nline 12\n.*no space left$"):
        build.build(tmp_path, "steps:1", "python:3.12-slim", report=said.append)
    assert said[0] == "line 1"


def _program(folder: Path, name: str, *lines: str) -> None:
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
