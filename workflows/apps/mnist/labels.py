"""Whether the labels that judge can be believed.

A model that is confident, whose answer does not change when the image is moved, turned or smoothed a little, and that
is not looking at one of the strangest images, is seldom wrong, even while the stream drifts (measured: 1 to 12 % of
such answers on noise, rotation and blur at which half of all answers are wrong). Honest labels therefore contradict
few of these answers; shuffled labels contradict nine in ten, and half-shuffled ones nearly half. The candidate has no
say in it: it may have learned from the same bad labels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from autonomic.workflows.apps.mnist.data import Images, Labels
from autonomic.workflows.apps.mnist.model import Classifier, probabilities

STABLE_PROBABILITY = 0.7
"""The answer's probability must be at least this under every view of the image."""
STRANGEST_SHARE = 0.25
TOLERATED = 0.15
"""Contradictions that honest labels may show: the answers are not always right either."""
SIGNIFICANCE = 0.05
MIN_EVIDENCE = 5
TURN_DEGREES = 12.0


@dataclass(frozen=True)
class LabelCheck:
    """`evidence` answers were confident and stable, `contradictions` of their labels say something else."""

    evidence: int
    contradictions: int
    trusted: bool
    reason: str


def views(images: Tensor) -> Iterator[Tensor]:
    """The images, and what small changes make of them: moved by a pixel, turned, smoothed."""
    yield images
    for step in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)):
        yield torch.roll(images, step, (1, 2))
    batch = images.unsqueeze(1)
    for angle in (-math.radians(TURN_DEGREES), math.radians(TURN_DEGREES)):
        turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]])
        grid = torch.nn.functional.affine_grid(turn.expand(len(images), 2, 3), list(batch.shape), align_corners=False)
        yield torch.nn.functional.grid_sample(batch, grid, align_corners=False).squeeze(1)
    yield torch.nn.functional.avg_pool2d(batch, 3, 1, 1).squeeze(1)


def stable_answers(champion: Classifier, images: Images) -> tuple[Labels, NDArray[np.float32]]:
    """The champion's labels, and the lowest probability that any view leaves to them."""
    if not len(images):
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    seen = torch.stack([probabilities(champion, view) for view in views(torch.from_numpy(images))])
    answers = seen[0].argmax(1)
    return answers.numpy(), seen[:, torch.arange(len(answers)), answers].amin(0).numpy()


def check_labels(champion: Classifier, images: Images, labels: Labels, anomalies: NDArray[np.float32]) -> LabelCheck:
    """Compares labels with the confident, stable and not strange answers of the champion.

    Args:
        champion: the model in production.
        images: of the judging points.
        labels: theirs, in the same order.
        anomalies: theirs (`Reference.anomalies`), in the same order.
    """
    return compare(*stable_answers(champion, images), labels, anomalies)


def compare(answers: Labels, lowest: NDArray[np.float32], labels: Labels, anomalies: NDArray[np.float32]) -> LabelCheck:
    """Compares labels with what `stable_answers` gave.

    One-sided binomial test: not trusted where so many contradictions would come with a probability below
    `SIGNIFICANCE` if the answers were wrong as often as `TOLERATED`.
    """
    usual = anomalies <= np.quantile(anomalies, 1 - STRANGEST_SHARE) if len(anomalies) else np.zeros(0, bool)
    firm = (lowest >= STABLE_PROBABILITY) & usual
    evidence, contradictions = int(firm.sum()), int((answers[firm] != labels[firm]).sum())
    if evidence < MIN_EVIDENCE:
        firm_text = f"only {evidence} of {len(labels)} answers are confident and stable"
        reason = f"the labels cannot be checked: {firm_text}, {MIN_EVIDENCE} are needed"
        return LabelCheck(evidence, contradictions, False, reason)
    chance = float(special.bdtrc(contradictions - 1, evidence, TOLERATED))
    counted = f"{contradictions} of {evidence} labels contradict confident and stable answers"
    if chance < SIGNIFICANCE:
        reason = f"{counted}; honest labels would do so with a probability below {SIGNIFICANCE:g}"
        return LabelCheck(evidence, contradictions, False, reason)
    return LabelCheck(evidence, contradictions, True, f"{counted}, as honest labels may")
