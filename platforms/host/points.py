"""The points that were picked out of a prediction log, and the labels that come for them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from autonomic.workflows.serving.oip import datatype_of
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


def look_up(log: Path, ids: list[str], inputs: bool) -> dict[str, list[dict[str, Any]]]:
    """Those of the prediction ids that a log has, with their inputs (tensors as the Open Inference Protocol writes them) if asked."""
    if not log.is_file():
        return {}
    opened = PredictionLog(log)
    try:
        if not inputs:
            return {identifier: [] for identifier in sorted(opened.known(ids))}
        return {row.id: [_tensor(name, array) for name, array in row.inputs.items()] for row in opened.get(ids)}
    finally:
        opened.close()


def _tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    data = [one.decode(errors="replace") if isinstance(one, bytes) else one for one in array.ravel().tolist()]
    return {"name": name, "datatype": datatype_of(array), "shape": list(array.shape), "data": data}


def add_labels(log: Path, labels: list[Label]) -> dict[str, int]:
    """Joins labels to predictions; says how many were new, known, or for a prediction that is not there."""
    log.parent.mkdir(parents=True, exist_ok=True)
    opened = PredictionLog(log)
    try:
        return asdict(opened.add_labels(labels))
    finally:
        opened.close()
