"""Brings a model to the local disk, once for each version."""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlparse

from autonomic.seams.errors import Permanent
from autonomic.workflows.registry.artifacts import download
from autonomic.workflows.registry.client import Mlflow


def resolve_model(uri: str, tracking_uri: str) -> str:
    """`models:/name/version` for `models:/name@alias`; any other address as it is.

    Raises:
        Permanent: there is no such model, version or alias; names those that are there.
        Retryable: MLflow cannot be reached.
    """
    name, alias, version = parse_model_uri(uri)
    if not name:
        return uri
    server = _server(uri, tracking_uri)
    try:
        found = server.version_by_alias(name, alias) if alias else server.version(name, version)
    finally:
        server.close()
    return f"models:/{name}/{found['version']}"


def download_model(uri: str, cache: Path, tracking_uri: str) -> Path:
    """The local folder of a model; a version that is in `cache` is not fetched again.

    Raises:
        Permanent: there is no such model; names those that are there.
        Retryable: MLflow cannot be reached.
    """
    name, _, _ = parse_model_uri(uri)
    if not name:
        return _plain(uri, cache, tracking_uri)
    _, _, version = parse_model_uri(uri)
    folder = cache / name / version if version else None
    if folder and folder.is_dir():
        return folder
    resolved = resolve_model(uri, tracking_uri)
    _, _, version = parse_model_uri(resolved)
    folder = cache / name / version
    if not folder.is_dir():
        server = _server(uri, tracking_uri)
        try:
            _fetch(server, server.artifacts_of(name, version), folder)
        finally:
            server.close()
    return folder


def parse_model_uri(uri: str) -> tuple[str, str, str]:
    """(name, alias, version) of a `models:/` address, of alias and version one is ""; all "" for any other address."""
    if not uri.startswith("models:/"):
        return "", "", ""
    rest = uri.removeprefix("models:/").lstrip("/")
    if "@" in rest:
        name, _, alias = rest.partition("@")
        return name, alias, ""
    name, _, version = rest.partition("/")
    if not name or not version.isdigit():
        raise Permanent(f"{uri!r} is not a model; write models:/name@alias or models:/name/3")
    return name, "", version


def _plain(uri: str, cache: Path, tracking_uri: str) -> Path:
    parsed = urlparse(uri)
    if parsed.scheme in ("", "file"):
        folder = Path(unquote(parsed.path))
        if not folder.is_dir():
            raise Permanent(f"the model {uri!r} is not there: {folder} is not a folder")
        return folder
    folder = cache / "by-address" / hashlib.sha256(uri.encode()).hexdigest()[:32]
    if not folder.is_dir():
        server = Mlflow(tracking_uri or "http://127.0.0.1")
        try:
            _fetch(server, uri, folder)
        finally:
            server.close()
    return folder


def _fetch(server: Mlflow, source: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        download(server, source, partial)
        # somebody else may have put the same version there meanwhile
        with contextlib.suppress(OSError):
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _server(uri: str, tracking_uri: str) -> Mlflow:
    if not tracking_uri:
        raise Permanent(f"there is no MLflow server here, so {uri!r} cannot be found in a registry")
    return Mlflow(tracking_uri, timeout_seconds=60.0)
