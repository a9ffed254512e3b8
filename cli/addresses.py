"""Where the parts of a home answer: the same as the last time, and what is there already in their place."""

import json
import os
import socket
from collections.abc import Container, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from autonomic.agents.settings import Settings
from autonomic.seams.errors import Permanent
from autonomic.seams.text import shown
from autonomic.seams.word import Word
from autonomic.workflows.processes import free_port

EMBEDDED = "embedded"
"""Said instead of an address: the part is started here again."""
PARTS = ("monitor", "planner", "tuner", "host", "front", "prometheus", "mlflow")
_IGNORED = {"RAY_ADDRESS": "--ray", "MLFLOW_TRACKING_URI": "--mlflow", "MLFLOW_REGISTRY_URI": "--mlflow", "PROMETHEUS_URL": "--prometheus"}


class Given(Word):
    """What a person asks `up` for; None is as it was the last time, `embedded` starts the part here."""

    front_port: int | None = None
    ray: str | None = None
    mlflow: str | None = None
    prometheus: str | None = None


def addresses(home: Path, given: Given, hosts: Mapping[str, str] | None = None) -> Settings:
    """The settings of a home: what HOME/settings.json holds, with an address for every part.

    `hosts` are the addresses of this machine that parts listen on, where it is not 127.0.0.1. Nothing is written.

    Raises:
        Permanent: settings.json is not valid, or somebody else listens at an address; says what to do.
    """
    path = home / "settings.json"
    try:
        written = json.loads(path.read_text())
        if not isinstance(written, dict):
            raise ValueError(f"found {type(written).__name__}, and an object is allowed")
        before = Settings.model_validate({**{f"{part}_url": "" for part in PARTS}, **written, "home": home})
    except FileNotFoundError:
        before = Settings(home=home, monitor_url="", planner_url="", tuner_url="")
    except ValueError as invalid:
        wrong = str(invalid)
        if isinstance(invalid, ValidationError):
            wrong = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in invalid.errors())
        raise Permanent(f"{path} is not valid: {wrong}. Correct it, or move it away to start with new addresses") from None
    used = {name: _chosen(getattr(given, name), getattr(before, f"use_{name}")) for name in ("ray", "mlflow", "prometheus")}
    urls: dict[str, str] = {}
    kept = {given.front_port, *(_port(getattr(before, f"{part}_url"), part, path) for part in PARTS)}
    for part in PARTS:
        url = getattr(before, f"{part}_url")
        if used.get(part):
            urls[f"{part}_url"] = used[part].rstrip("/")
            continue
        # an address that was somebody else's is not ours to listen at
        foreign = part in used and getattr(before, f"use_{part}")
        port = (given.front_port if part == "front" else None) or (None if foreign else _port(url, part, path)) or _new_port(kept)
        kept.add(port)
        urls[f"{part}_url"] = f"http://{(hosts or {}).get(part, '127.0.0.1')}:{port}"
    made = before.model_copy(update={**urls, **{f"use_{name}": url for name, url in used.items()}, "ray_address": used["ray"]})
    _check_free(made, {part for part in PARTS if not used.get(part)}, path)
    return made


def ignored(settings: Settings) -> list[str]:
    """What of the environment is not used, and how it would be."""
    words: list[str] = []
    for name, option in _IGNORED.items():
        value = os.environ.get(name, "")
        used = getattr(settings, f"use_{option.removeprefix('--')}")
        if value and value.rstrip("/") != used.rstrip("/"):
            instead = f"{shown(used)} is used" if used else f"give {option} {shown(value)} to use what is there"
            words.append(f"{name} is set and ignored; {instead}")
    return words


def _new_port(kept: Container[int | None]) -> int:
    port = free_port()
    while port in kept:
        port = free_port()
    return port


def _chosen(given: str | None, before: str) -> str:
    return before if given is None else "" if given == EMBEDDED else given


def _port(url: str, part: str, path: Path) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        raise Permanent(f"{path}: {part}_url is {url!r}, which names no port; write http://127.0.0.1:PORT") from None


def _check_free(settings: Settings, parts: set[str], path: Path) -> None:
    ports: dict[int, str] = {}
    taken: list[str] = []
    for part in (part for part in PARTS if part in parts):
        url = urlsplit(getattr(settings, f"{part}_url"))
        port = url.port or 0
        where = "--front-port" if part == "front" else f"{part}_url in {path}"
        if port in ports:
            taken.append(f"port {port} is given to {ports[port]} and to {part}; choose another with {where}")
        elif not _is_free(url.hostname or "127.0.0.1", port):
            taken.append(f"port {port} of {part} is taken by another process; end that, or choose another port with {where}")
        ports[port] = part
    if taken:
        raise Permanent("Nothing was started: " + "; ".join(taken))


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            # an address of another machine is judged by who listens there
            return error.errno == 99
    return True
