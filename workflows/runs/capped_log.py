"""A log file that never grows past a bound: its beginning and its end are kept."""

from pathlib import Path

SEGMENT_BYTES = 256 * 1024


class CappedLog:
    """Writes `PATH.0` (the beginning) and the last two of `PATH.1`, `PATH.2`…; all but the newest are exactly full.

    So at most three segments are on disk, and how much was left out follows from their numbers.
    """

    def __init__(self, path: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._path = path
        self._size = segment_bytes
        self._number = 0
        self._file = self._segment(0).open("wb", buffering=0)
        self._room = segment_bytes

    def write(self, data: bytes | memoryview) -> None:
        """Appends; old segments from the middle are dropped."""
        view = memoryview(data)
        while view:
            if not self._room:
                self._next()
            written = self._file.write(view[: self._room])
            self._room -= written
            view = view[written:]

    def close(self) -> None:
        self._file.close()

    def _next(self) -> None:
        self._file.close()
        if self._number > 1:
            self._segment(self._number - 1).unlink(missing_ok=True)
        self._number += 1
        self._file = self._segment(self._number).open("wb", buffering=0)
        self._room = self._size

    def _segment(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def read_capped_log(path: Path, tail_bytes: int | None = None, segment_bytes: int = SEGMENT_BYTES) -> str:
    """What is kept of a log, with a line that says what is not; "" where there is none.

    `tail_bytes` keeps the end only.
    """
    numbers = sorted(int(file.suffix[1:]) for file in path.parent.glob(f"{path.name}.*") if file.suffix[1:].isdigit())
    parts: list[bytes] = []
    expected = 0
    for number in numbers:
        try:
            data = path.with_name(f"{path.name}.{number}").read_bytes()
        except FileNotFoundError:  # dropped by its writer meanwhile
            continue
        if number != expected:
            parts.append(f"\n[autonomic: {(number - expected) * segment_bytes} bytes are left out here]\n".encode())
        parts.append(data)
        expected = number + 1
    whole = b"".join(parts)
    return (whole[-tail_bytes:] if tail_bytes else whole).decode(errors="replace")
