"""What the host needs of its memory, which outlives it."""

import json
import threading
from typing import Any, Protocol


class Store(Protocol):
    """A key-value store whose single operations are atomic."""

    def get(self, key: str) -> Any:
        """The value, None where there is none."""
        ...

    def put(self, key: str, value: Any) -> None: ...

    def put_new(self, key: str, value: Any) -> bool:
        """Writes a value where there is none; False where there was one, which stays."""
        ...

    def delete(self, key: str) -> None: ...

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, sorted."""
        ...


class MemoryStore:
    """A store within one process; values are copied through JSON as a real store would."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Any:
        with self._lock:
            text = self._values.get(key)
        return None if text is None else json.loads(text)

    def put(self, key: str, value: Any) -> None:
        text = json.dumps(value)
        with self._lock:
            self._values[key] = text

    def put_new(self, key: str, value: Any) -> bool:
        text = json.dumps(value)
        with self._lock:
            if key in self._values:
                return False
            self._values[key] = text
            return True

    def delete(self, key: str) -> None:
        with self._lock:
            self._values.pop(key, None)

    def keys(self, prefix: str) -> list[str]:
        with self._lock:
            return sorted(key for key in self._values if key.startswith(prefix))
