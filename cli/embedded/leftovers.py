"""What an `up` that was killed has left running."""

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "AUTONOMIC_UP_HOME"
"""In the environment of every process that `up` starts, and so of all that they start: the home that they belong to."""
_GRACE_SECONDS = 5.0


def find_leftovers(home: Path) -> list[int]:
    """The processes that belong to the system of `home`, but for the caller."""
    mark = f"{MARK}={home}".encode()
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def stop_leftovers(home: Path) -> int:
    """Ends them, at once where they do not end by themselves, and returns how many there were."""
    leftovers = find_leftovers(home)
    _send(leftovers, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while (alive := find_leftovers(home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    _send(alive, signal.SIGKILL)
    while find_leftovers(home):
        time.sleep(0.02)
    return len(leftovers)


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
