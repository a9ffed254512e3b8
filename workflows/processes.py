"""Child processes that are started in the background and stopped by their pid."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from autonomic.seams.errors import Permanent

_FIRST_STEADY_PORT = 20_000


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now.

    Where there are enough others it is none that the system gives to connections: it is still free when it is used, and the next time.
    """
    try:
        ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        ephemeral = 32768
    if ephemeral > _FIRST_STEADY_PORT:
        draw = random.SystemRandom()
        for _ in range(100):
            port = draw.randrange(_FIRST_STEADY_PORT, ephemeral)
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_process(
    command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.Popen[bytes]":
    """Starts `command` in a session of its own, with both of its outputs appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )


def stop_process(process: "subprocess.Popen[bytes]", grace_seconds: float = 10.0) -> None:
    """Asks the process to end, waits, and then kills its whole group."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(
    ready: Callable[[], bool],
    what: str,
    within_seconds: float,
    log: Path,
    process: "subprocess.Popen[bytes] | None" = None,
    begin: int = 0,
) -> None:
    """Waits until `ready()`.

    Raises:
        Permanent: the time is over or the process has ended; quotes the end of its log, but nothing before the byte `begin`.
    """
    deadline = time.monotonic() + within_seconds
    while not ready():
        if process is not None and process.poll() is not None:
            raise ended(what, process, log, begin)
        if time.monotonic() > deadline:
            raise Permanent(f"{what} was not ready within {within_seconds:g} s. {_end_of(log, begin)}")
        time.sleep(0.05)


def ended(what: str, process: "subprocess.Popen[bytes]", log: Path, begin: int = 0) -> Permanent:
    """The error that a process has ended that should not have; quotes the end of its log."""
    return Permanent(f"{what} ended with code {process.returncode}. {_end_of(log, begin)}")


def _end_of(log: Path, begin: int) -> str:
    tail = "\n".join(log.read_bytes()[begin:].decode(errors="replace").splitlines()[-15:]) if log.exists() else ""
    return f"The end of {log}:\n{tail}"


def answers(url: str) -> bool:
    """Whether an HTTP GET of `url` answers with 200."""
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
