"""A drift detector for tests of the platform: inputs above 5 are drifted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Pick:
    """A prediction that is worth a label."""

    prediction_id: str
    anomaly: float
    uncertainty: float
    diversity: float


class LevelDetector:
    """Says drifted when the newest input's mean is above `level`."""

    def __init__(self, champion_dir: str, reference_dir: str, level: float = 5.0) -> None:
        assert (Path(champion_dir) / "model.json").is_file()
        self._level = level
        self._newest = 0.0
        self._seen = 0

    def update(self, rows: Sequence[Any]) -> dict[str, float]:
        self._seen += len(rows)
        self._newest = float(rows[-1].input.mean()) if rows else self._newest
        return {"drifted": float(self._newest > self._level), "score": self._newest, "seen": float(self._seen)}

    def pick(self, rows: Sequence[Any], limit: int) -> list[Pick]:
        return [Pick(row.id, 1.0, 1.0 - row.confidence, 0.5) for row in rows if row.input.mean() > self._level][:limit]
