"""User code on its way to the workers: a folder becomes a zip that is named by its digest and unpacked once per node."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import autonomic
from autonomic.seams.errors import AutonomicError, Permanent

MAX_PACKAGE_BYTES = 16 * 2**20
MAX_UNPACKED_BYTES = 128 * 2**20
MAX_FILES = 5000
ABOUT = ".autonomic-package.json"
_LEFT_OUT_FOLDERS = {"__pycache__", "node_modules", "mlruns", "venv"}
_LEFT_OUT_SUFFIXES = {".pyc", ".pyo"}
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path | None, modules: Iterable[Path] = ()) -> bytes:
    """The files below `folder` (None: no folder) and Python modules or packages from elsewhere, as a zip.

    Its bytes depend on nothing but them and the folder's git commit. Hidden files, byte code, virtual environments and
    links are left out.

    Raises:
        Permanent: there is too much; says what to do.
    """
    files = {path.relative_to(folder).as_posix(): path for path in _code_files(folder)} if folder else {}
    for module in modules:
        inside = _code_files(module) if module.is_dir() else [module]
        files |= {path.relative_to(module.parent).as_posix(): path for path in inside}
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if sum(sizes.values()) > MAX_UNPACKED_BYTES or len(files) > MAX_FILES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise Permanent(
            f"{folder or 'the code'} is too much to send as code: {len(files)} files of {sum(sizes.values()) / 2**20:.0f} MiB, at most "
            f"{MAX_FILES} of {MAX_UNPACKED_BYTES // 2**20} MiB are taken; the largest is {largest}; "
            "keep the YAML file and its modules in a folder of their own, and data elsewhere"
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            _add(archive, name, path.read_bytes())
        if folder:
            _add(archive, ABOUT, json.dumps(git_state(folder), sort_keys=True).encode())
    package = buffer.getvalue()
    if len(package) > MAX_PACKAGE_BYTES:
        raise Permanent(f"{folder or 'the code'} packs to {len(package)} bytes; at most {MAX_PACKAGE_BYTES} are taken. Keep data elsewhere")
    return package


def digest_of(package: bytes) -> str:
    """The name of a package."""
    return f"sha256-{hashlib.sha256(package).hexdigest()}"


def git_state(folder: Path) -> dict[str, Any]:
    """{"git_commit", "git_changed"} of the working tree that `folder` is in; empty where there is none."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"git_commit": git("rev-parse", "HEAD"), "git_changed": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return {}


def unpack(package: bytes, folder: Path) -> None:
    """Unpacks to `folder`, which appears whole or not at all; nothing is done where it is there.

    Raises:
        Permanent: it is no zip, it is too large, or a name in it leads out of the folder.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            _extract(archive, partial)
        # another worker of the node may have been faster
        with contextlib.suppress(OSError):
            partial.rename(folder)
    except zipfile.BadZipFile as error:
        raise Permanent(f"the package is not a zip file: {error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_package(package: bytes) -> None:
    """Whether a package may be kept.

    Raises:
        Permanent: it is no zip, it is too large, or a name in it leads out of its folder.
    """
    if len(package) > MAX_PACKAGE_BYTES:
        raise Permanent(f"the package has {len(package)} bytes; at most {MAX_PACKAGE_BYTES} are taken. Leave data out of the code's folder")
    try:
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            _check(archive)
    except zipfile.BadZipFile as error:
        raise Permanent(f"the package is not a zip file: {error}") from None


def put_package(package: bytes) -> str:
    """Keeps a package in the cluster, and returns its digest.

    Raises:
        Permanent: see `check_package`.
    """
    check_package(package)
    digest = digest_of(package)
    _store().put_bytes(digest, package)
    return digest


def package_folder(digest: str, cache: Path) -> Path:
    """The folder of a package on this node.

    Raises:
        Permanent: the cluster has no such package.
    """
    folder = cache / digest
    if not folder.is_dir():
        package = _store().get_bytes(digest)
        if package is None:
            raise Permanent(f"the cluster has no code package {digest}; apply the workflow again")
        unpack(package, folder)
    return folder


def code_tags(package: str, folder_of: Callable[[str], Path]) -> dict[str, str]:
    """The tags that say in MLflow which code a run was of; `folder_of` brings a package's folder."""
    if not package:
        state = git_state(Path(next(iter(autonomic.__path__))).resolve())
    else:
        try:
            state = json.loads((folder_of(package) / ABOUT).read_text())
        except (AutonomicError, OSError, ValueError):
            state = {}
    tags = {"autonomic.package": package} if package else {}
    if state.get("git_commit"):
        tags["mlflow.source.git.commit"] = state["git_commit"]
        tags["autonomic.git_changed"] = str(bool(state.get("git_changed"))).lower()
    return tags


def _store() -> Any:
    from autonomic.workflows.batch.cluster_store import ClusterStore

    return ClusterStore("autonomic-packages")


def _code_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _LEFT_OUT_FOLDERS and not (Path(where) / name / "pyvenv.cfg").exists()
        )
        for name in sorted(files):
            path = Path(where) / name
            if not name.startswith(".") and path.suffix not in _LEFT_OUT_SUFFIXES and path.is_file() and not path.is_symlink():
                found.append(path)
    return found


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data)


def _check(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    if len(entries) > MAX_FILES + 1 or sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES + 4096:
        raise Permanent(f"the package unpacks to more than {MAX_UNPACKED_BYTES // 2**20} MiB or {MAX_FILES} files")
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        if not parts or entry.filename.startswith("/") or ".." in parts or "\\" in entry.filename or ":" in parts[0]:
            raise Permanent(f"the package holds {entry.filename!r}, which leads out of its folder")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise Permanent(f"the package holds the link {entry.filename!r}; links are not taken")


def _extract(archive: zipfile.ZipFile, folder: Path) -> None:
    _check(archive)
    folder.mkdir()
    for entry in archive.infolist():
        target = folder / entry.filename
        if entry.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("wb") as out:
            # a header may lie about the size, so no more is read than it says
            shutil.copyfileobj(_Bounded(source, entry.file_size), out)


class _Bounded(io.RawIOBase):
    def __init__(self, source: Any, size: int) -> None:
        self._source = source
        self._left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data
