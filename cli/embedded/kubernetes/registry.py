"""Which local clusters there are on this machine: one file for each index, locked as long as its supervisor lives."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from autonomic.cli.embedded.kubernetes.network import MAX_CLUSTERS
from autonomic.seams.errors import Permanent

FOLDER = Path("/run/autonomic/clusters")


class AlreadyRunning(Permanent):
    """A cluster runs in this home."""


@dataclass(frozen=True)
class Entry:
    """A cluster that lives, or that died and left its traces."""

    index: int
    home: Path
    pid: int
    alive: bool


@dataclass
class Slot:
    """An index that this process holds until it lets go of it or dies."""

    index: int
    file: IO[str]

    def release(self) -> None:
        """Frees the index: nothing of the cluster is left on the machine."""
        self.file.seek(0)
        self.file.truncate()
        self.file.close()


def claim(home: Path, remove_traces: Callable[[int], None], conflict: Callable[[int], str | None], folder: Path = FOLDER) -> Slot:
    """Takes a free index for the cluster of `home`.

    The traces of every dead cluster are removed first by `remove_traces(index)`; an index is passed over where
    `conflict(index)` names what it would disturb.

    Raises:
        AlreadyRunning: the cluster of this home lives.
        Permanent: no index is free.
    """
    refused: list[str] = []
    with _locked(folder):
        for entry in _entries(folder):
            if entry.home == home and entry.alive:
                raise AlreadyRunning(f"The cluster of {home} is running already (process {entry.pid}). Stop it with `cluster down`.")
            if not entry.alive:
                _clean(folder, entry.index, remove_traces)
        for index in range(MAX_CLUSTERS):
            file = _open(folder, index)
            if not _try_lock(file):
                refused.append(f"{index} is taken")
            elif (disturbed := conflict(index)) is not None:
                refused.append(f"{index} would overlap {disturbed}")
            else:
                json.dump({"home": str(home), "pid": os.getpid()}, file)
                file.flush()
                return Slot(index, file)
            file.close()
    raise Permanent(f"no local cluster can be added to this machine: {'; '.join(refused)}. Stop one with `cluster down --home HOME`.")


def entries(folder: Path = FOLDER) -> list[Entry]:
    """Every cluster of this machine."""
    with _locked(folder):
        return _entries(folder)


def find(home: Path, folder: Path = FOLDER) -> Entry | None:
    """The cluster of `home`, dead or alive."""
    return next((entry for entry in entries(folder) if entry.home == home), None)


def forget(index: int, remove_traces: Callable[[int], None], folder: Path = FOLDER) -> None:
    """Removes the traces of a dead cluster, unless somebody else has taken its index by now."""
    with _locked(folder):
        _clean(folder, index, remove_traces)


def socket_path(index: int, folder: Path = FOLDER) -> Path:
    """Where the supervisor takes orders; only root may enter the folder."""
    return folder / f"{index}.sock"


def _clean(folder: Path, index: int, remove_traces: Callable[[int], None]) -> None:
    with _open(folder, index) as file:
        if _try_lock(file) and file.read():
            remove_traces(index)
            file.seek(0)
            file.truncate()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _entries(folder: Path) -> list[Entry]:
    found: list[Entry] = []
    for index in range(MAX_CLUSTERS):
        if not (folder / f"{index}.json").exists():
            continue
        with _open(folder, index) as file:
            text = file.read()
            if text:
                data = json.loads(text)
                found.append(Entry(index, Path(data["home"]), data["pid"], not _try_lock(file)))
    return found


def _open(folder: Path, index: int) -> IO[str]:
    file = (folder / f"{index}.json").open("a+")
    file.seek(0)
    return file


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
