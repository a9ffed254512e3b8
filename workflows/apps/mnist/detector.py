"""Drift without labels: the autoencoder's anomalies and the classifier's confidences, each watched by river."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from river import drift

from autonomic.workflows.apps.mnist.autoencoder import log_errors
from autonomic.workflows.apps.mnist.data import SIDE
from autonomic.workflows.apps.mnist.picking import Picker, Sight, Values
from autonomic.workflows.apps.mnist.reference import Reference, load_autoencoder
from autonomic.workflows.apps.mnist.storage import load_classifier
from autonomic.workflows.serving.predictions import Pick, PredictionRow

MOST_ANOMALOUS = 4.0
"""Anomalies, and the levels of streams, are cut here, so that one broken image does not move a mean for long."""


class Stream:
    """One kind of value, higher where it is worse: its change by ADWIN (Bifet and Gavalda, 2007), its level by a window.

    ADWIN first sees the reference, so that a stream which had drifted before anybody looked is found too.
    """

    def __init__(self, reference: Values, window: int, delta: float, seed: int) -> None:
        self._usual = float(reference.mean())
        self._scale = max(float(reference.std()), 1e-3)
        self._adwin = drift.ADWIN(delta=delta, clock=4)
        for value in np.random.default_rng(seed).permutation(reference):
            self._adwin.update(float(value))
        self._window: deque[float] = deque(maxlen=window)

    def update(self, value: float) -> bool:
        """Takes a value; True where it completes a change."""
        self._window.append(value)
        self._adwin.update(value)
        return bool(self._adwin.drift_detected)

    @property
    def mean(self) -> float:
        """Of the window; of the reference while the window is empty."""
        return float(np.mean(self._window)) if self._window else self._usual

    @property
    def level(self) -> float:
        """How many standard deviations of the reference the window's mean lies above the reference's, cut to 0..`MOST_ANOMALOUS`."""
        return min(max((self.mean - self._usual) / self._scale, 0.0), MOST_ANOMALOUS)

    @property
    def full(self) -> bool:
        return len(self._window) == self._window.maxlen


class Detector:
    """Tells whether a service's input has drifted away from what its champion was trained for.

    Drift begins when ADWIN has found a change in the anomalies or in the confidences and the mean of both levels, over the
    last `window` predictions, is at least `enter`; it ends when that mean falls to `leave`, not before: once it is
    declared, only a stream that is usual again ends it.

    Args:
        champion_dir: the champion's model folder.
        reference_dir: the folder with the autoencoder and the reference; the champion's own folder holds both.
        window: predictions whose mean level counts.
        enter: level that drift begins at, in standard deviations of the reference.
        leave: level that it ends at.
        delta: ADWIN's confidence; smaller is slower and has fewer false alarms.
        picks: how many predictions are picked in one drift, at most.
        share: of the predictions since the drift began that are picked, at most.
        keep: newest predictions among which is picked.
        seed: of what is drawn by chance.
    """

    def __init__(
        self,
        champion_dir: str | Path,
        reference_dir: str | Path,
        window: int = 60,
        enter: float = 0.7,
        leave: float = 0.3,
        delta: float = 0.002,
        picks: int = 250,
        share: float = 0.5,
        keep: int = 2000,
        seed: int = 0,
    ) -> None:
        torch.set_num_threads(1)
        self._classifier = load_classifier(Path(champion_dir))
        self._autoencoder = load_autoencoder(Path(reference_dir))
        self._reference = Reference.read(Path(reference_dir))
        domains = self._reference.domains.values()
        anomalies = np.concatenate([self._reference.anomalies_within(domain.log_errors) for domain in domains])
        least_sure = min(domains, key=lambda domain: float(domain.confidences.mean()))
        self._anomaly = Stream(np.minimum(anomalies, MOST_ANOMALOUS), window, delta, seed)
        self._doubt = Stream(1.0 - least_sure.confidences, window, delta, seed)
        self._enter, self._leave = enter, leave
        self._picker = Picker(picks, share, keep, seed)
        self._changed = False
        self._since: float | None = None
        self._seen = 0

    def update(self, rows: Sequence[PredictionRow]) -> dict[str, float]:
        """Takes new predictions in their order; only their id, time and input are looked at.

        The confidence is the champion's own, so that rows which another version answered do not look like drift.

        Returns:
            `drifted` 0 or 1; `score`, the mean of both levels; `anomaly` and `confidence`, their means over the window;
            `seen`, how many predictions so far; `since`, the time of the prediction at which drift was declared, or 0.
        """
        for sight in self._look(rows):
            self._take(sight)
        return {
            "drifted": float(self._since is not None),
            "score": self.score,
            "anomaly": self._anomaly.mean,
            "confidence": 1.0 - self._doubt.mean,
            "seen": float(self._seen),
            "since": self._since or 0.0,
        }

    def pick(self, rows: Sequence[PredictionRow], limit: int) -> list[Pick]:
        """At most `limit` predictions that are worth a label, none of them twice, at most `picks` in one drift.

        They come from `rows` and from all that `update` was given since the drift began (`Picker` says how they are chosen).
        """
        self._picker.offer(self._look([row for row in rows if not self._picker.knows(row.id)]))
        return self._picker.pick(limit, MOST_ANOMALOUS)

    @property
    def score(self) -> float:
        """The mean of both streams' levels."""
        return (self._anomaly.level + self._doubt.level) / 2

    def _take(self, sight: Sight) -> None:
        self._seen += 1
        changes = (self._anomaly.update(min(sight.anomaly, MOST_ANOMALOUS)), self._doubt.update(1.0 - sight.confidence))
        self._changed = self._changed or any(changes)
        if self.score <= self._leave:
            self._changed = False
            if self._since is not None:
                self._since = None
                self._picker.clear()
        elif self._since is None and self._changed and self._anomaly.full and self.score >= self._enter:
            self._since = sight.time
        if self._since is not None:
            self._picker.offer([sight])

    def _look(self, rows: Sequence[PredictionRow]) -> list[Sight]:
        if not rows:
            return []
        images = torch.from_numpy(np.stack([np.asarray(row.input, np.float32).reshape(SIDE, SIDE) for row in rows]))
        anomalies = self._reference.anomalies(log_errors(self._autoencoder, images).numpy())
        with torch.inference_mode():
            embeddings = self._classifier.embed(images)
            likeliest = torch.softmax(self._classifier.last(embeddings), 1).topk(2).values
            embeddings = torch.nn.functional.normalize(embeddings, dim=1).numpy()
        return [
            Sight(row.id, row.time, float(anomaly), first, 1.0 - (first - second), embedding)
            for row, anomaly, (first, second), embedding in zip(rows, anomalies, likeliest.tolist(), embeddings, strict=True)
        ]
