"""A store in one SQLite file, which outlives the processes and the cluster that it tells of."""

import json
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autonomic.seams.errors import Permanent

_BUSY_SECONDS = 30.0


class SqliteStore:
    """See `store.Store`. Every write is on the disk when it returns; several threads and processes of one machine may use the file.

    Raises:
        Permanent: the file cannot be opened or is no such store.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            for statement in (
                "PRAGMA journal_mode = WAL",
                # what was acknowledged is there after a power failure too
                "PRAGMA synchronous = FULL",
                "CREATE TABLE IF NOT EXISTS documents (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
            ):
                self._database.execute(statement)
        except sqlite3.Error as error:
            raise Permanent(f"{path} cannot be used as the host's store: {error}. Move it away to start without what it holds") from None

    def get(self, key: str) -> Any:
        found = self._run("SELECT value FROM documents WHERE key = ?", (key,))
        return json.loads(found[0][0]) if found else None

    def put(self, key: str, value: Any) -> None:
        self._run("INSERT OR REPLACE INTO documents VALUES (?, ?)", (key, json.dumps(value)))

    def put_new(self, key: str, value: Any) -> bool:
        return bool(self._run("INSERT OR IGNORE INTO documents VALUES (?, ?) RETURNING 1", (key, json.dumps(value))))

    def delete(self, key: str) -> None:
        self._run("DELETE FROM documents WHERE key = ?", (key,))

    def keys(self, prefix: str) -> list[str]:
        # the last character of Unicode comes after whatever follows the prefix
        found = self._run("SELECT key FROM documents WHERE key >= ? AND key < ?", (prefix, prefix + chr(0x10FFFF)))
        return sorted(key for (key,) in found)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()

    def _run(self, statement: str, values: Sequence[str]) -> list[Any]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()
