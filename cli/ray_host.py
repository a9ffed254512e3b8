"""Starts and ends the Ray host of a home, in a process of its own that joins the cluster for it."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from autonomic.platforms.ray.start_host import ANSWERS, REFUSED
from autonomic.seams.errors import Permanent
from autonomic.workflows.processes import ended, start_process, stop_process, wait_until

_MODULE = "autonomic.platforms.ray.start_host"


def start_host(home: Path, log: Path, env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Starts it, or finds it, and returns the process that stays as the driver of its job.

    Raises:
        Permanent: it did not come up; says why.
    """
    begin, process = _start(home, log, env)

    def answers() -> bool:
        return process.poll() is not None or ANSWERS.encode() in log.read_bytes()[begin:]

    _wait(process, answers, "The start of the Ray host", 180, log, begin)
    if process.poll() is not None:
        _check(process, "The start of the Ray host", log, begin)
    return process


def stop_host(home: Path, log: Path) -> None:
    """Ends the host of this home, and what it started.

    Raises:
        Permanent: that failed, or took longer than a minute.
    """
    begin, process = _start(home, log, {}, "--stop")
    _wait(process, lambda: process.poll() is not None, "The end of the Ray host", 60, log, begin)
    _check(process, "The end of the Ray host", log, begin)


def _start(home: Path, log: Path, env: Mapping[str, str], *options: str) -> tuple[int, "subprocess.Popen[bytes]"]:
    # the log goes on from start to start
    begin = log.stat().st_size if log.exists() else 0
    return begin, start_process([sys.executable, "-m", _MODULE, "--home", str(home), *options], log, env=env)


def _wait(process: "subprocess.Popen[bytes]", ready: Callable[[], bool], what: str, within_seconds: float, log: Path, begin: int) -> None:
    try:
        wait_until(ready, what, within_seconds, log, begin=begin)
    except BaseException:
        stop_process(process)
        raise


def _check(process: "subprocess.Popen[bytes]", what: str, log: Path, begin: int) -> None:
    if process.returncode == REFUSED:
        # its last words are the reason
        said = log.read_bytes()[begin:].decode(errors="replace").strip()
        raise Permanent(said.splitlines()[-1] if said else what + " failed")
    if process.returncode != 0:
        raise ended(what, process, log, begin)
