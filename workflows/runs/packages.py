"""User code on its way to the workers: a folder becomes a zip that is named by its digest and unpacked once per node."""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import autonomic
from autonomic.seams.errors import AutonomicError, Permanent
from autonomic.workflows.spec.code_files import MAX_FILES, files_below

MAX_PACKAGE_BYTES = 16 * 2**20
MAX_UNPACKED_BYTES = 128 * 2**20
ABOUT = ".autonomic-package.json"
_DRIVE = re.compile("[A-Za-z]:")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path | None, files: Mapping[str, Path] | None = None) -> bytes:
    """Files by their names, or all that may be code below `folder`, as a zip.

    Its bytes depend on nothing but them, which of them may be executed, and their last git commit.

    Raises:
        Permanent: there is too much; says what to do.
    """
    if files is None:
        files = {path.relative_to(folder).as_posix(): path for path in files_below(folder)} if folder else {}
    if fault := too_much(files):
        raise Permanent(fault)
    package = _zipped(files, git_state(folder, [*files]) if folder else {})
    if len(package) > MAX_PACKAGE_BYTES:
        raise Permanent(_too_large(files, len(package)))
    return package


def too_much(files: Mapping[str, Path], why: Mapping[str, str] | None = None) -> str:
    """Why files are too much for a package, "" where they are not. `why` says of each what named it."""
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if len(files) > MAX_FILES:
        return f"{len(files)} files are too many to send as code; at most {MAX_FILES} are. Keep data elsewhere, such as in a volume"
    if sum(sizes.values()) > MAX_UNPACKED_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        named = f", named by {why[largest]}" if why and largest in why else ""
        return (
            f"{sum(sizes.values()) / 2**20:.0f} MiB are too much to send as code; at most {MAX_UNPACKED_BYTES // 2**20} MiB are. "
            f"The largest file is {largest} ({sizes[largest] / 2**20:.0f} MiB{named}). Keep data elsewhere, such as in a volume"
        )
    if sum(sizes.values()) > MAX_PACKAGE_BYTES and (size := len(_zipped(files, {}))) > MAX_PACKAGE_BYTES:
        return _too_large(files, size)
    return ""


def _too_large(files: Mapping[str, Path], size: int) -> str:
    largest = max(files, key=lambda name: files[name].stat().st_size)
    return (
        f"the code packs to {size / 2**20:.1f} MiB; at most {MAX_PACKAGE_BYTES // 2**20} MiB are sent. The largest file is {largest}. "
        "Keep data elsewhere, such as in a volume"
    )


def _zipped(files: Mapping[str, Path], about: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(files.items()):
            _add(archive, name, path.read_bytes(), executable=bool(path.stat().st_mode & 0o111))
        if about:
            _add(archive, ABOUT, json.dumps(about, sort_keys=True).encode(), executable=False)
    return buffer.getvalue()


def digest_of(package: bytes) -> str:
    """The name of a package: the digest of its files' names, contents and executable bits. Which commit they are of does not count."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
                if entry.filename != ABOUT:
                    content = hashlib.sha256(archive.read(entry)).hexdigest()
                    digest.update(json.dumps([entry.filename, _is_executable(entry), content]).encode())
    except (zipfile.BadZipFile, RuntimeError, zlib.error) as error:
        raise Permanent(f"the package cannot be read: {error}") from None
    return f"sha256-{digest.hexdigest()}"


def git_state(folder: Path, names: Sequence[str] = ()) -> dict[str, Any]:
    """{"git_commit", "git_changed"}: the last commit of these files below `folder`, and whether they differ from it.

    Without names, the working tree's last commit and whether anything in `folder` differs. Empty where there is no git working tree,
    and where the files are in no commit yet.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        commit = git("log", "-1", "--format=%H", "--", *names)
        return {"git_commit": commit, "git_changed": bool(git("status", "--porcelain", "--", *(names or ["."])))} if commit else {}
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


def _add(archive: zipfile.ZipFile, name: str, data: bytes, *, executable: bool) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = (0o755 if executable else 0o644) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data)


def _is_executable(entry: zipfile.ZipInfo) -> bool:
    return bool((entry.external_attr >> 16) & 0o111)


def _check(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    if len(entries) > MAX_FILES + 1 or sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES + 4096:
        raise Permanent(f"the package unpacks to more than {MAX_UNPACKED_BYTES // 2**20} MiB or {MAX_FILES} files")
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        if not parts or entry.filename.startswith("/") or ".." in parts or "\\" in entry.filename or _DRIVE.fullmatch(parts[0]):
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
        if _is_executable(entry):
            target.chmod(0o755)


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
