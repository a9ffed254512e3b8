"""Images by buildah, which needs no daemon and no registry; where no base is named, mmdebstrap makes one of the distribution's packages."""

import os
import re
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from autonomic.seams.errors import Permanent
from autonomic.workflows.images.context import pip_configuration

Report = Callable[[str], None]
"""Is told what is being done now."""
BASE = "localhost/autonomic-base"
_DATA = Path(__file__).parent / "data"
_DISTRIBUTIONS = ("Debian", "Ubuntu")
# wheels take it that libstdc++ is there
_IN_BASE = ("ca-certificates", "libstdc++6", "python3", "python3-venv")
# without it Debian 12 takes a program that merges folders, and a whole Perl for it
_MERGED = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"
_NOT_IN_BASE = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
_NAME = re.compile(r"[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_QUOTED_LINES = 20


def check_name(name: str) -> None:
    """Whether an image may be called so.

    Raises:
        Permanent: it has no tag, or a character that names of images may not have.
    """
    if not _NAME.fullmatch(name) or "/" in name.rpartition(":")[2]:
        raise Permanent(f"an image cannot be called {name!r}; give a name in lower case and a tag, such as registry.example.com/ml/steps:1")


def check_tools(base: str) -> None:
    """Whether this machine has the programs that build an image on `base` ("" where that has to be made).

    Raises:
        Permanent: one is missing; says what to install.
    """
    needed = ("buildah",) if base else ("buildah", "mmdebstrap", "apt-get")
    lacking = [program for program in needed if not shutil.which(program)]
    if lacking:
        others = "" if base else ", or name an image with Python 3.11 or newer by --base"
        raise Permanent(f"not found on PATH: {', '.join(lacking)}. On Debian and Ubuntu: apt-get install buildah mmdebstrap{others}")


def build(context: Path, name: str, base: str = "", fresh: bool = False, report: Report = lambda said: None) -> None:
    """Builds the image `name` of a folder that `context.write` has filled, and leaves it in buildah's store.

    Without `base` one is made once and used again. `fresh` makes it anew, or looks for a newer one in the registry.

    Raises:
        Permanent: it cannot be built; quotes the end of what was said.
    """
    if not base:
        base = _own_base(fresh, report)
        pull = "--pull-never"
    else:
        pull = "--pull-always" if fresh else "--pull"
    settings, certificates = pip_configuration()
    with tempfile.TemporaryDirectory(prefix="autonomic-secrets-") as folder:
        secrets = {"pip.conf": settings.encode(), "certificates": certificates}
        given: list[str] = []
        for secret, content in secrets.items():
            if content is not None:
                path = Path(folder) / secret
                path.write_bytes(content)
                given.append(f"--secret=id={secret},src={path}")
        _buildah(context / "Containerfile", context, name, report, pull, "--layers", f"--build-arg=BASE={base}", *given)


def write_archive(name: str, archive: Path) -> None:
    """Writes an image of buildah's store as an archive that `docker load`, `podman load` and `autonomic cluster load` take.

    Raises:
        Permanent: there is no such image, or no place for it.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    # the archive that stands there would be added to
    archive.unlink(missing_ok=True)
    _run(["buildah", "push", "--quiet", name, f"docker-archive:{archive}:{name}"], lambda said: None)


def _own_base(fresh: bool, report: Report) -> str:
    sources, release = apt_sources()
    name = f"{BASE}:{release}"
    known = subprocess.run(["buildah", "inspect", "--type=image", name], capture_output=True, check=False).returncode == 0
    if known and not fresh:
        return name
    with tempfile.TemporaryDirectory(prefix="autonomic-base-") as folder:
        command = [
            *("mmdebstrap", "--variant=essential", f"--include={','.join(_IN_BASE)}"),
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in _NOT_IN_BASE),
            f"--hook-dir={_MERGED}",
            # the mirrors are this machine's
            '--customize-hook=rm "$1"/etc/apt/sources.list',
            *("", f"{folder}/base.tar", "-"),
        ]
        _run(command, report, text=sources)
        _buildah(_DATA / "base.Containerfile", Path(folder), name, report)
    return name


def apt_sources() -> tuple[str, str]:
    """The mirrors of the distribution that apt of this machine uses, as a sources.list, and the release that they are of.

    Raises:
        Permanent: apt knows none.
    """
    listed = _indices()
    if not listed:
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
        listed = _indices()
    if not listed:
        raise Permanent("apt knows no mirror of Debian or Ubuntu; run `apt-get update`, or name an image with --base")
    lines = sorted({f"deb {uri} {suite} {component}" for uri, suite, component in listed})
    return "\n".join(lines) + "\n", min((suite for _, suite, _ in listed), key=len)


def _indices() -> list[tuple[str, str, str]]:
    given = "$(ORIGIN)|$(REPO_URI)|$(CODENAME)|$(COMPONENT)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", given, "Created-By: Packages"], capture_output=True, text=True, check=False
    ).stdout
    found = [line.split("|") for line in listed.splitlines()]
    return [(uri, suite, component) for origin, uri, suite, component in found if origin in _DISTRIBUTIONS]


def _buildah(containerfile: Path, context: Path, name: str, report: Report, *options: str) -> None:
    command = ["buildah", "build", "--isolation=chroot", f"--file={containerfile}", f"--tag={name}", *options, str(context)]
    _run(command, report)


def _run(command: Sequence[str], report: Report, text: str = "") -> None:
    last: deque[str] = deque(maxlen=_QUOTED_LINES)
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryFile("w+") as source:
        source.write(text)
        source.seek(0)
        told = {"stdin": source, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "errors": "replace"}
        with subprocess.Popen(command, text=True, env=env, **told) as process:
            for line in process.stdout or ():
                last.append(line.rstrip())
                report(line.strip())
    if process.returncode:
        said = "\n".join(last)
        raise Permanent(f"`{command[0]} {command[1]}` failed:\n{said}")
