"""What the API server says that it was asked for, and when: its audit log, so that no clock of ours is trusted for it."""

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple


class Asked(NamedTuple):
    """One request. Times are seconds since the epoch; `name` has the subresource after a slash."""

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    received_at: float
    answered_at: float


class AuditLog:
    """Reads an audit log as it grows, also over its rotations; each call goes on where the last one ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open()
        self._file.seek(0, 2)
        self._rest = ""

    def read(self) -> list[Asked]:
        """What came since the last call."""
        text = self._rest + self._file.read()
        if self._path.exists() and self._path.stat().st_ino != Path(f"/proc/self/fd/{self._file.fileno()}").stat().st_ino:
            text += self._file.read()
            self._file.close()
            self._file = self._path.open()
            text += self._file.read()
        whole, _, self._rest = text.rpartition("\n")
        return [_parse(line) for line in whole.splitlines() if line]

    def wait(self, wanted: Callable[[Asked], bool], within_seconds: float = 60.0) -> Asked:
        """The first request from now on that is wanted.

        Raises:
            TimeoutError: there was none within the time.
        """
        deadline = time.monotonic() + within_seconds
        while True:
            for asked in self.read():
                if wanted(asked):
                    return asked
            if time.monotonic() > deadline:
                raise TimeoutError(f"the API server was not asked for it within {within_seconds:g} s")
            time.sleep(0.01)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _parse(line: str) -> Asked:
    entry = json.loads(line)
    of = entry.get("objectRef", {})
    part = f"/{of['subresource']}" if of.get("subresource") else ""
    return Asked(
        user=entry["user"]["username"],
        verb=entry["verb"],
        resource=of.get("resource", ""),
        namespace=of.get("namespace", ""),
        name=of.get("name", "") + part,
        code=entry.get("responseStatus", {}).get("code", 0),
        received_at=datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp(),
        answered_at=datetime.fromisoformat(entry["stageTimestamp"]).timestamp(),
    )
