"""Moves files to and from MLflow's artifact store. The server's own proxy and plain folders need no mlflow.

Whatever mlflow has to ask, it asks the given server: without one it would make a local store in the current folder.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlparse

from autonomic.seams.errors import Permanent
from autonomic.workflows.registry.client import Mlflow, NotFound

_PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_CHUNK_BYTES = 2**20


def upload(server: Mlflow, path: Path, uri: str) -> None:
    """Copies a file or folder to the artifact address `uri` (what a run's `artifact_uri` begins with)."""
    scheme, place = _split(uri)
    if scheme == "mlflow-artifacts":
        for file, name in _files(path):
            target = quote(f"{place}/{name}" if name else place)
            server.request("PUT", f"{_PROXY}/{target}", content=_chunks(file))
    elif scheme == "file":
        _copy(path, Path(place))
    else:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        if path.is_dir():
            get_artifact_repository(uri, server.url, server.url).log_artifacts(str(path))
        else:
            parent, _, name = uri.rpartition("/")
            if name != path.name:
                raise Permanent(f"{path} can only be stored under its own name at {parent}, not as {name}")
            get_artifact_repository(parent, server.url, server.url).log_artifact(str(path))


def download(server: Mlflow, uri: str, target: Path) -> None:
    """Copies the folder at the artifact address `uri` to `target`, which must not be there.

    Raises:
        NotFound: there is nothing at `uri`.
    """
    scheme, place = _split(uri)
    if scheme == "mlflow-artifacts":
        target.mkdir(parents=True)
        if not _download_proxied(server, place, target):
            raise NotFound(f"{uri} is empty or not there")
    elif scheme == "file":
        if not Path(place).is_dir():
            raise NotFound(f"{uri} is not a folder")
        shutil.copytree(place, target)
    else:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        target.mkdir(parents=True)
        get_artifact_repository(uri, server.url, server.url).download_artifacts("", dst_path=str(target))


def _download_proxied(server: Mlflow, place: str, target: Path) -> int:
    listed: list[dict[str, Any]] = server.request("GET", _PROXY, params={"path": place}).json().get("files", [])
    for entry in listed:
        # names come from a server: one that leads out of the folder is not followed
        name = Path(entry["path"]).name
        if name in ("", ".", ".."):
            raise Permanent(f"the artifact store lists {entry['path']!r}, which is no file name")
        if entry.get("is_dir"):
            (target / name).mkdir()
            _download_proxied(server, f"{place}/{name}", target / name)
            continue
        answer = server.request("GET", f"{_PROXY}/{quote(f'{place}/{name}')}")
        (target / name).write_bytes(answer.content)
    return len(listed)


def _split(uri: str) -> tuple[str, str]:
    parsed = urlparse(uri)
    if parsed.scheme == "mlflow-artifacts":
        return parsed.scheme, unquote(parsed.path).strip("/")
    if parsed.scheme in ("", "file"):
        return "file", unquote(parsed.path)
    return parsed.scheme, uri


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    if path.is_file():
        yield path, ""
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file, file.relative_to(path).as_posix()


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(path, target)


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            yield chunk
