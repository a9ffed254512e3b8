"""The prediction log: what was answered, on which input, by which model; labels and picks come later."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

PointState = Literal["unlabelled", "labelled", "all"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row that was answered. `inputs` are the row's tensors by name (no batch dimension), `output` is JSON."""

    id: str
    time: float
    request_id: str
    role: str
    model_version: str
    inputs: dict[str, np.ndarray]
    output: dict[str, Any]
    label: int | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class PredictionRow(Prediction):
    """A prediction as it is read back. `seq` is its place in the log; it grows in the order of the writes."""

    seq: int = 0
    truth: int | None = None
    inputs_known: bool = field(default=True)

    @property
    def input(self) -> np.ndarray:
        """The tensor of a model with one input."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a prediction should have been; `time` (seconds since the epoch) is when somebody said so."""

    prediction_id: str
    label: int
    time: float


@dataclass(frozen=True, slots=True)
class Pick:
    """A prediction that is worth a label, and why."""

    prediction_id: str
    time: float
    anomaly: float
    uncertainty: float
    diversity: float


class PredictionLog:
    """A log in one SQLite file (WAL) that many processes write at once."""

    def __init__(self, path: Path | str) -> None: ...

    def append(self, predictions: Sequence[Prediction]) -> None: ...

    def read(self, after: int = 0, limit: int = 1000) -> list[PredictionRow]: ...

    def add_labels(self, labels: Sequence[Label]) -> dict[str, int]: ...

    def add_picks(self, picks: Sequence[Pick]) -> int: ...

    def points(self, state: PointState = "all", *, limit: int = 1000, offset: int = 0) -> list[dict[str, Any]]: ...

    def counts(self, since: float = 0.0) -> dict[str, int]: ...

    def close(self) -> None: ...
