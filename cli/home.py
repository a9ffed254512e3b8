"""The home of one system: who supervises it, and what belongs to it."""

import fcntl
import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import IO

from autonomic.agents.settings import Settings
from autonomic.cli import ray_host
from autonomic.cli.embedded import leftovers
from autonomic.cli.embedded.ray_cluster import remove_temp_dirs
from autonomic.cli.existing import check_ray
from autonomic.seams.errors import AutonomicError, Permanent
from autonomic.workflows.serving.front import Front

_LOCK_ATTEMPTS = 10
_LOCK_SECONDS = 0.05


class AlreadyRunning(AutonomicError):
    """Another `up` holds this home."""


def prepare(home: Path) -> None:
    """Makes the folder, and tries that it can be written.

    Raises:
        Permanent: it cannot; says why and what to do.
    """
    wrong = unusable(home)
    if wrong:
        raise Permanent(f"The home {home} cannot be used: {wrong}. Make it writable, or name another folder with --home")
    home.mkdir(parents=True, exist_ok=True)


def unusable(home: Path) -> str:
    """Why a home cannot be used, "" where it can; nothing of it stays."""
    there = next(folder for folder in (home, *home.parents) if os.path.lexists(folder))
    if not there.is_dir():
        return f"{there} is not a folder"
    try:
        # what the rights say is not enough: a file system may be full or mounted for reading only
        with tempfile.TemporaryFile(dir=there):
            return ""
    except OSError as error:
        return f"nothing can be written to {there} ({error.strerror or error})"


def lock(home: Path) -> IO[str]:
    """Takes the home for this process.

    Raises:
        AlreadyRunning: another process supervises it.
    """
    held = (home / "up.lock").open("a")
    for _ in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return held
        except BlockingIOError:
            # somebody who only looks holds it for a moment
            time.sleep(_LOCK_SECONDS)
    held.close()
    raise AlreadyRunning(
        f"The system of {home} is running already (process {running_pid(home) or 'unknown'}). "
        "Look at it with `autonomic status`, stop it with `autonomic down`, or use another --home"
    )


def is_supervised(home: Path) -> bool:
    """Whether an `up` lives that looks after the parts of this home."""
    try:
        with (home / "up.lock").open() as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def running_pid(home: Path) -> int | None:
    """The process of the `up` that has started all of `home`, None where none has."""
    try:
        # the number alone proves nothing: after a kill it may be another process's
        return int(json.loads((home / "up.json").read_text())["pid"]) if is_supervised(home) else None
    except (FileNotFoundError, ValueError, KeyError):
        return None


def stop_running(home: Path, within_seconds: float = 60.0) -> bool:
    """Ends the `up` of `home` and whatever else belongs to it; False where nothing ran.

    Raises:
        Permanent: it did not stop in time, or its host on a Ray cluster that was there could not be asked to.
    """
    pid = running_pid(home)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + within_seconds
        while is_supervised(home):
            if time.monotonic() > deadline:
                raise Permanent(f"Process {pid} did not stop within {within_seconds:g} s; look at {home / 'logs'}")
            time.sleep(0.1)
        why = ""
    elif not is_supervised(home):
        why = stop_foreign_host(home)
    else:
        raise Permanent(f"The system of {home} is being started; stop it when it is up, or end its `autonomic up` with Ctrl-C")
    stopped = clean(home) > 0 or pid is not None
    if why:
        raise Permanent(f"What runs on this machine has stopped; what runs on Ray may not have: {why}")
    return stopped


def stop_foreign_host(home: Path) -> str:
    """Ends the host that this home has on a Ray cluster that it did not start; why that did not work, "" where it did."""
    try:
        settings = Settings.load(home)
    except Permanent:
        return ""
    if not settings.use_ray:
        return ""
    try:
        # a cluster that is gone took the host with it, and joining it would be tried for minutes
        check_ray(settings.use_ray)
        ray_host.stop_host(home, settings.logs / "host.log")
    except Permanent as failed:
        return str(failed)
    return ""


def clean(home: Path) -> int:
    """Ends what a killed `up` left running and removes what it left outside of the home; returns how many processes there were."""
    killed = leftovers.stop_leftovers(home)
    front = home / "host" / "haproxy"
    if front.exists():
        Front(front).stop()
    remove_temp_dirs(home / "ray")
    return killed
