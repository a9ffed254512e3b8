"""How the Ray host of a home is started, with a program in the place of what joins the cluster."""

import sys
from pathlib import Path

import pytest

from autonomic.cli import ray_host
from autonomic.platforms.ray.start_host import ANSWERS, REFUSED
from autonomic.seams.errors import Permanent
from autonomic.workflows.processes import stop_process


def put_program(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> Path:
    """Puts a shell script in the place of Python, and returns the log with the words of an earlier start."""
    program = folder / "python"
    program.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    log = folder / "host.log"
    log.write_text(f"{ANSWERS} http://127.0.0.1:1\nsaid before\n")
    return log


def test_what_starts_the_host_stays_as_the_driver_of_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = put_program(tmp_path, monkeypatch, f'echo "{ANSWERS} http://127.0.0.1:2"', "exec sleep 600")
    driver = ray_host.start_host(tmp_path, log, {})
    try:
        assert driver.poll() is None
        assert log.read_text().endswith("http://127.0.0.1:2\n"), "the words of an earlier start are not taken for those of this one"
    finally:
        stop_process(driver)


def test_a_host_that_is_refused_or_breaks_off_is_reported_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = put_program(tmp_path, monkeypatch, "echo another home has it", f"exit {REFUSED}")
    with pytest.raises(Permanent, match=r"^another home has it$"):
        ray_host.start_host(tmp_path, log, {})
    put_program(tmp_path, monkeypatch, "echo out of memory", "exit 1")
    with pytest.raises(Permanent, match=r"(?s)ended with code 1.*out of memory"):
        ray_host.start_host(tmp_path, log, {})


def test_the_end_of_a_host_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = tmp_path / "ended"
    log = put_program(tmp_path, monkeypatch, f'test "$5" = --stop && echo x > {ended}')
    ray_host.stop_host(tmp_path, log)
    assert ended.exists()
