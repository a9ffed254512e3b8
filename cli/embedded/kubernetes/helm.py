"""Helm, which installs the chart: built once from its pinned Go module into the user's cache, as the cluster's programs are."""

import fcntl
import hashlib
import platform
from pathlib import Path

from autonomic.cli.embedded.kubernetes import build

MODULE = build.Module(
    "helm",
    {"helm": "helm.sh/helm/v4/cmd/helm"},
    pinned="helm.sh/helm/v4",
    flags="-X helm.sh/helm/v4/internal/version.version={version}",
)


def folder() -> Path:
    """Where it is kept, named by what it is built from."""
    hashed = hashlib.sha256(f"{platform.machine()} {MODULE}".encode())
    for name in ("go.mod", "go.sum"):
        hashed.update((build.DATA / MODULE.folder / name).read_bytes())
    return build.cache_folder().with_name("helm") / hashed.hexdigest()[:16]


def built() -> Path | None:
    """The helm program, where it is built already."""
    program = folder() / "helm"
    return program if program.exists() else None


def ensure(report: build.Report = lambda part, state: None) -> Path:
    """The helm program; builds it where it is not built yet, which takes about three minutes on two cores.

    Raises:
        Permanent: Go is missing or too old, or the build fails; quotes the end of what it said.
    """
    program = folder() / "helm"
    program.parent.mkdir(parents=True, exist_ok=True)
    with (program.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if built() is None:
            build.compile_module(MODULE, program.parent, report, modules=build.DATA)
    return program
