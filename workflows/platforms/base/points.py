"""The points that were picked out of a prediction log, and the labels that come for them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from autonomic.workflows.serving.predictions import Label, PredictionLog

_MOST_POINTS = 100_000


def points(log: Path, state: Any) -> list[dict[str, Any]]:
    """The picked points of a log, by the state of their labels."""
    if not log.is_file():
        return []
    opened = PredictionLog(log)
    try:
        return [asdict(point) for point in opened.points(state, limit=_MOST_POINTS)]
    finally:
        opened.close()


def add_labels(log: Path, labels: list[Label]) -> dict[str, int]:
    """Joins labels to predictions; says how many were new, known, or for a prediction that is not there."""
    log.parent.mkdir(parents=True, exist_ok=True)
    opened = PredictionLog(log)
    try:
        return asdict(opened.add_labels(labels))
    finally:
        opened.close()
