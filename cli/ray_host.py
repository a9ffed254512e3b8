"""Starts and ends the Ray host of a home, in a process of its own that joins the cluster for it."""

import sys
from collections.abc import Mapping
from pathlib import Path

from autonomic.seams.errors import Permanent
from autonomic.workflows.embedded.processes import ended, start_process, stop_process, wait_until
from autonomic.workflows.platforms.ray.start_host import REFUSED

_MODULE = "autonomic.workflows.platforms.ray.start_host"


def start_host(home: Path, log: Path, env: Mapping[str, str]) -> None:
    """Starts it, or finds it.

    Raises:
        Permanent: it did not come up; says why.
    """
    _run(home, log, "The start of the Ray host", 180, env)


def stop_host(home: Path, log: Path) -> None:
    """Ends the host of this home, and what it started.

    Raises:
        Permanent: that failed, or took longer than a minute.
    """
    _run(home, log, "The end of the Ray host", 60, {}, "--stop")


def _run(home: Path, log: Path, what: str, within_seconds: float, env: Mapping[str, str], *options: str) -> None:
    begin = log.stat().st_size if log.exists() else 0
    process = start_process([sys.executable, "-m", _MODULE, "--home", str(home), *options], log, env=env)
    try:
        wait_until(lambda: process.poll() is not None, what, within_seconds, log, begin=begin)
    except BaseException:
        stop_process(process)
        raise
    if process.returncode == REFUSED:
        # its last words are the reason
        said = log.read_bytes()[begin:].decode(errors="replace").strip()
        raise Permanent(said.splitlines()[-1] if said else what + " failed")
    if process.returncode != 0:
        raise ended(what, process, log, begin)
