"""How a Ray cluster is started, with a program in the place of Ray."""

import sys
from pathlib import Path

import pytest

from autonomic.cli.embedded.ray_cluster import RayCluster
from autonomic.seams.errors import Permanent

SLOW_AT_FIRST = """#!/bin/sh
echo x >> {marks}
test $(wc -l < {marks}) -gt {failures} && echo "Ray runtime started" && exec sleep 600
echo "Exception: {words}"
exit 1
"""
GAVE_UP = "The current node timed out during startup. This could happen because some of the raylet failed to startup"


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A line for each start of the program that stands in the place of Ray."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    return tmp_path / "marks"


def put_ray(marks: Path, failures: int, words: str) -> None:
    program = marks.parent / "bin" / "ray"
    program.write_text(SLOW_AT_FIRST.format(marks=marks, failures=failures, words=words))
    program.chmod(0o755)


def test_ray_that_gave_up_on_a_busy_machine_is_started_again(marks: Path) -> None:
    put_ray(marks, 2, GAVE_UP)
    RayCluster.start(marks.parent / "home").stop()
    assert marks.read_text() == "x\nx\nx\n"


@pytest.mark.parametrize(("words", "starts"), [(GAVE_UP, 3), ("the disk is full", 1)])
def test_ray_that_does_not_come_up_fails_with_its_words(marks: Path, words: str, starts: int) -> None:
    put_ray(marks, 99, words)
    with pytest.raises(Permanent, match=words):
        RayCluster.start(marks.parent / "home")
    assert marks.read_text() == starts * "x\n"
