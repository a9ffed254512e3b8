"""Which predictions are worth a label."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autonomic.workflows.apps.mnist.points import TRAIN_SHARE, side
from autonomic.workflows.serving.predictions import Pick

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Sight:
    """A prediction as the detector sees it: `anomaly` in standard deviations of the reference, `uncertainty` (one minus
    the gap between the two likeliest digits) 0..1, and the classifier's embedding, of length 1."""

    prediction_id: str
    time: float
    anomaly: float
    confidence: float
    uncertainty: float
    embedding: Values


def ranks(values: Values) -> Values:
    """Each value's place among all, 0 to 1: scores of different kinds become comparable."""
    if len(values) < 2:
        return np.ones(len(values), np.float32)
    return (np.argsort(np.argsort(values, kind="stable"), kind="stable") / (len(values) - 1)).astype(np.float32)


def k_center(embedding: Values, weights: Values, taken: Values, count: int) -> tuple[list[int], list[float]]:
    """Greedy weighted k-center: each choice has the largest product of weight and distance to all chosen before.

    The farthest-first traversal of T. F. Gonzalez (1985), as a core set for learning (Sener and Savarese, 2018),
    here weighted by how critical a point is.

    Args:
        embedding: `[n, d]`, one row a candidate.
        weights: `[n]`, 0..1.
        taken: `[m, d]`, what was chosen earlier; may be empty.
        count: how many at most.

    Returns:
        Indices in the order of choice, and their distances at that moment as a share of the largest at the start.
    """
    if not len(embedding):
        return [], []
    if len(taken):
        distances = np.linalg.norm(embedding[:, None, :] - taken[None, :, :], axis=2).min(1)
    else:
        distances = np.linalg.norm(embedding - embedding.mean(0), axis=1)
    largest = max(float(distances.max()), 1e-9)
    free = np.ones(len(embedding), bool)
    chosen: list[int] = []
    shares: list[float] = []
    while len(chosen) < min(count, len(embedding)):
        index = int(np.argmax(np.where(free, weights * distances, -1.0)))
        chosen.append(index)
        shares.append(min(1.0, float(distances[index]) / largest))
        free[index] = False
        distances = np.minimum(distances, np.linalg.norm(embedding - embedding[index], axis=1))
    return chosen, shares


class Picker:
    """Picks from what is offered bit by bit, none twice.

    Among the predictions whose labels will train: the critical ones, anomalous, uncertain, and far from one another and
    from earlier picks. Among those whose labels will judge: a random sample, because what judges must be like the
    stream, or the accuracy found would be that of its strangest part.

    Args:
        budget: picks in all.
        share: of what was offered, so that there is something to choose from.
        keep: newest offers that are remembered.
        seed: of the random sample.
    """

    def __init__(self, budget: int, share: float, keep: int, seed: int) -> None:
        self._budget, self._share, self._keep = budget, share, keep
        self._random = np.random.default_rng(seed)
        self.clear()

    def clear(self) -> None:
        """Forgets offers and picks."""
        self._offers: dict[str, Sight] = {}
        self._offered = 0
        self._picked: dict[str, Sight] = {}

    def knows(self, prediction_id: str) -> bool:
        """Whether it is among the offers or the picks."""
        return prediction_id in self._offers or prediction_id in self._picked

    def offer(self, sights: Iterable[Sight]) -> None:
        """Adds candidates; one that was offered before is not counted again."""
        for sight in sights:
            if not self.knows(sight.prediction_id):
                self._offers[sight.prediction_id] = sight
                self._offered += 1
        while len(self._offers) > self._keep:
            del self._offers[next(iter(self._offers))]

    def pick(self, limit: int, most_anomalous: float) -> list[Pick]:
        """At most `limit` picks, fewer where budget or share is reached; `most_anomalous` is an anomaly that scores 1."""
        count = min(limit, self._budget - len(self._picked), int(self._share * self._offered) - len(self._picked))
        if count < 1:
            return []
        training = [sight for sight in self._offers.values() if side(sight.prediction_id) == "train"]
        judging = [sight for sight in self._offers.values() if side(sight.prediction_id) == "judge"]
        had = sum(side(prediction_id) == "judge" for prediction_id in self._picked)
        judges = min(count, len(judging), max(0, round((len(self._picked) + count) * (1 - TRAIN_SHARE)) - had))
        sample = [judging[index] for index in self._random.permutation(len(judging))[:judges]]
        chosen = self._critical(training, count - judges)
        chosen += [(sight, self._distance(sight, sample)) for sight in sample]
        for sight, _ in chosen:
            self._picked[sight.prediction_id] = self._offers.pop(sight.prediction_id)
        return [
            Pick(sight.prediction_id, sight.time, min(sight.anomaly / most_anomalous, 1.0), sight.uncertainty, diversity)
            for sight, diversity in chosen
        ]

    def _critical(self, sights: list[Sight], count: int) -> list[tuple[Sight, float]]:
        if not sights or count < 1:
            return []
        strange = ranks(np.array([sight.anomaly for sight in sights], np.float32))
        unsure = ranks(np.array([sight.uncertainty for sight in sights], np.float32))
        # uncertainty counts twice: it is what retraining gains most by; the rest keeps a plain point eligible when it is far
        weights = (0.25 + 0.75 * (strange + 2.0 * unsure) / 3.0).astype(np.float32)
        taken = [sight.embedding for prediction_id, sight in self._picked.items() if side(prediction_id) == "train"]
        embedding = np.stack([sight.embedding for sight in sights])
        chosen, diversity = k_center(embedding, weights, np.array(taken, np.float32), count)
        return [(sights[index], share) for index, share in zip(chosen, diversity, strict=True)]

    def _distance(self, sight: Sight, others: list[Sight]) -> float:
        distances = [float(np.linalg.norm(sight.embedding - other.embedding)) for other in others if other is not sight]
        return min([1.0, *distances])
