"""What an image is built from: the package as a wheel, and the lists of what pip is to install beside it."""

import configparser
import email
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import autonomic
from autonomic.seams.errors import Permanent

STEP_NEEDS = ("httpx", "pydantic")
"""What the process of a step imports, of all that the package depends on."""
CONTAINERFILE = Path(__file__).parent / "data" / "Containerfile"
_EPOCH = 315532800
# where the Containerfile finds the certificates of the building machine
_CERTIFICATES = "/run/secrets/certificates"


def write(
    folder: Path, requirements: Path | None, constraints: Path | None, wheel: Path | None, full: bool, without: Iterable[str] = ()
) -> None:
    """Writes the Containerfile and all that it copies into `folder`, which is made.

    `requirements` and `constraints` are files as pip takes them, that stand for themselves: paths in them lead nowhere.
    `wheel` is the package itself, None for one that is made of this checkout. `full` takes everything that the package depends
    on but for the projects in `without`; else it is `STEP_NEEDS`.

    Raises:
        Permanent: a file is missing, no wheel can be made, or the package does not depend on what is to be left out.
    """
    for given in (requirements, constraints, wheel):
        if given is not None and not given.is_file():
            raise Permanent(f"there is no file {given}; nothing was built")
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.whl"), *folder.glob("*.txt")):
        old.unlink()
    package = Path(shutil.copy(wheel, folder)) if wheel else _wheel_of_checkout(folder)
    (folder / "dependencies.txt").write_text("".join(f"{line}\n" for line in dependencies(package, full, without)))
    for name, source in (("requirements.txt", requirements), ("constraints.txt", constraints)):
        (folder / name).write_bytes(source.read_bytes() if source else b"")
    shutil.copy(CONTAINERFILE, folder)
    # the same files are the same layer, whenever they were written
    for path in folder.iterdir():
        os.utime(path, (_EPOCH, _EPOCH))


def dependencies(wheel: Path, full: bool, without: Iterable[str] = ()) -> list[str]:
    """What a wheel of this package asks for, with its bounds; see `write`.

    Raises:
        Permanent: it is no wheel of this package, or does not depend on what is to be left out.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if re.fullmatch(r"autonomic-[^/]+\.dist-info/METADATA", name))
            asked = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])
    except (zipfile.BadZipFile, StopIteration):
        raise Permanent(f"{wheel} is no wheel of the package autonomic; nothing was built") from None
    lines = {_project(line): line for line in asked if "extra ==" not in line}
    left_out = {_project(name) for name in without}
    if unknown := left_out - lines.keys():
        raise Permanent(f"autonomic does not depend on {', '.join(sorted(unknown))}; what can be left out: {', '.join(sorted(lines))}")
    return [line for project, line in lines.items() if project not in left_out and (full or project in STEP_NEEDS)]


def pip_configuration() -> tuple[str, bytes | None]:
    """How pip of this machine reaches its index: a pip.conf for the build, and the certificates that it names, if any.

    It may hold a password: it is shown to the build as a secret, and no layer keeps it.
    """
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    found: dict[str, str] = {}
    # later ones win: environment over file
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        section, _, setting = line.partition("=")
        if section.split(".")[0] in ("global", "install", ":env:"):
            found[section.partition(".")[2]] = setting[1:-1].encode().decode("unicode_escape")
    kept = {name: found[name] for name in ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries") if name in found}
    certificates = Path(found["cert"]).read_bytes() if "cert" in found and Path(found["cert"]).is_file() else None
    if certificates is not None:
        kept["cert"] = _CERTIFICATES
    written = configparser.RawConfigParser()
    written["global"] = kept
    text = io.StringIO()
    written.write(text)
    return text.getvalue(), certificates


def _project(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0]).lower()


def _wheel_of_checkout(folder: Path) -> Path:
    source = Path(next(iter(autonomic.__path__)))
    checkout = source.parents[1]
    if not (checkout / "pyproject.toml").is_file() or source.parent.name != "src":
        raise Permanent(f"{source} is no checkout of which a wheel could be made; name the package's wheel with --wheel")
    with tempfile.TemporaryDirectory(prefix="autonomic-wheel-") as name:
        # setuptools writes beside what it reads
        copy = Path(name)
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(checkout / file, copy)
        shutil.copytree(source, copy / "src" / "autonomic", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(copy)]
        done = subprocess.run(command, env={**os.environ, "SOURCE_DATE_EPOCH": str(_EPOCH)}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Permanent(f"the package's wheel could not be made: {done.stderr.strip()[-1000:]}")
    return next(folder.glob("autonomic-*.whl"))
