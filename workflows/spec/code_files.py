"""Which files of a folder may be code."""

import os
from collections.abc import Iterator
from pathlib import Path

MAX_FILES = 5000
_LEFT_OUT_FOLDERS = {"__pycache__", "node_modules", "mlruns", "venv", "reports", "htmlcov"}
_LEFT_OUT_SUFFIXES = {".pyc", ".pyo", ".log", ".swp", ".swo", ".bak", ".orig", ".rej", ".tmp"}


def files_below(folder: Path) -> Iterator[Path]:
    """The files of a folder that may be code, in order; links are followed, once."""
    seen: set[str] = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _LEFT_OUT_FOLDERS and not (Path(where) / name / "pyvenv.cfg").exists()
        )
        for name in sorted(files):
            path = Path(where) / name
            left_out = name.startswith((".", "#")) or name.endswith("~") or path.suffix in _LEFT_OUT_SUFFIXES
            if not left_out and path.is_file():
                yield path
