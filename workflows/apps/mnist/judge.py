"""Judging: the candidate against the champion, on points and images that trained neither of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autonomic.seams.errors import Permanent
from autonomic.workflows.apps.mnist.autoencoder import log_errors
from autonomic.workflows.apps.mnist.data import Digits, Images, Labels
from autonomic.workflows.apps.mnist.labels import LabelCheck, check_labels
from autonomic.workflows.apps.mnist.model import Classifier, probabilities
from autonomic.workflows.apps.mnist.points import Points, poison, read_points
from autonomic.workflows.apps.mnist.reference import Reference, load_autoencoder
from autonomic.workflows.apps.mnist.storage import load_classifier
from autonomic.workflows.apps.mnist.train import resolve

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, total: int) -> Interval:
    """A share with its Wilson score interval (E. B. Wilson, JASA 22, 1927); (0, 0, 1) where nothing was counted."""
    if total == 0:
        return Interval(0.0, 0.0, 1.0)
    z = 1.959964
    share = successes / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * float(np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)))
    return Interval(share, middle - half, middle + half)


def gain(champion: NDArray[np.bool_], candidate: NDArray[np.bool_], seed: int) -> Interval:
    """How much more often the candidate is right on the same points: the paired difference with a bootstrap interval."""
    difference = candidate.astype(float) - champion.astype(float)
    if not len(difference):
        return Interval(0.0, 0.0, 0.0)
    random = np.random.default_rng(seed)
    means = random.choice(difference, (RESAMPLES, len(difference))).mean(1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(difference.mean()), float(low), float(high))


def right(model: Classifier, images: Images, labels: Labels) -> NDArray[np.bool_]:
    """Which images get their label."""
    return probabilities(model, torch.from_numpy(images)).argmax(1).numpy() == labels


def _check(champion: Classifier, folder: Path, points: Points, labels: Labels) -> LabelCheck:
    errors = log_errors(load_autoencoder(folder), torch.from_numpy(points.images)).numpy()
    return check_labels(champion, points.images, labels, Reference.read(folder).anomalies(errors))


def judge(
    data: str,
    model: str,
    base_model: str = "",
    points: str = "",
    name: str = "mnist",
    seed: int = 0,
    poison_labels: str = "none",
    poison_fraction: float = 1.0,
    context: Any = None,
) -> dict[str, Any]:
    """Step: judges a candidate and registers it.

    First the judging labels themselves are checked (`labels`): a candidate that shines on labels nobody can believe is not
    to be promoted. Then candidate and champion answer the judging points (the drifted slice) and the clean hold-out.
    With a champion, the candidate is registered under the alias `candidate`; the first version becomes `champion`
    and `backup`.

    Args:
        data: path of the split images (`load`).
        model: the candidate's folder (`train`).
        base_model: the champion, as `train` gave it; "" for the one in the registry, if there is one.
        points: "" or the prediction log with labels that `train` was given.
        name: the registered model's name.
        seed: of the bootstrap.
        poison_labels: for tests of the guard: makes the judging labels wrong ("none", "shuffle", "rename").
        poison_fraction: of these labels, 0..1.
        context: the step's context; without one nothing is registered.

    Returns:
        `version`, `drifted_accuracy`, `champion_drifted_accuracy`, `clean_accuracy`, `champion_clean_accuracy`, each
        with `_low` and `_high`; `drifted_gain`, `drifted_gain_low`; `drifted_points`, `label_evidence`,
        `label_contradictions`; `judge_trusted` ("true" or "false") and `judge_reason`. What was not measured, for
        want of points or of a champion, is left out.
    """
    torch.set_num_threads(1)
    digits = Digits.read(data)
    test = digits["test"]
    champion_folder = resolve(base_model, context) or _registered_champion(name, context)
    candidate_folder = resolve(model, context)
    if candidate_folder is None:
        raise Permanent("model is empty; wanted the folder of the candidate, as the step train returns it")
    candidate = load_classifier(candidate_folder)
    champion = load_classifier(champion_folder) if champion_folder else None
    outcome: dict[str, Any] = {}

    def compare(slice_name: str, images: Images, labels: Labels) -> None:
        mine = right(candidate, images, labels)
        _put(outcome, f"{slice_name}_accuracy", wilson(int(mine.sum()), len(mine)))
        if champion is not None:
            theirs = right(champion, images, labels)
            _put(outcome, f"champion_{slice_name}_accuracy", wilson(int(theirs.sum()), len(theirs)))
            difference = gain(theirs, mine, seed)
            outcome[f"{slice_name}_gain"], outcome[f"{slice_name}_gain_low"] = difference.value, difference.low

    compare("clean", test.images, test.labels)
    check = LabelCheck(0, 0, True, "no labelled points: judged on the clean hold-out alone")
    if points and champion is not None and champion_folder is not None:
        judging = read_points(points).of("judge")
        labels = poison(judging.labels, poison_labels, poison_fraction, seed)
        check = _check(champion, champion_folder, judging, labels)
        compare("drifted", judging.images, labels)
        outcome["drifted_points"] = len(judging)
    outcome |= {"label_evidence": check.evidence, "label_contradictions": check.contradictions}
    outcome |= {"judge_trusted": "true" if check.trusted else "false", "judge_reason": check.reason}
    if context:
        context.log_dataset("mnist-judge", digits.digest)
        for key, value in outcome.items():
            if not isinstance(value, str):
                context.metric(key, float(value))
        context.metric("judge_trusted", float(check.trusted))
        outcome["version"] = _register(candidate_folder, name, champion is None, outcome, context)
        context.progress(1.0, check.reason)
    return outcome


def _put(outcome: dict[str, Any], key: str, interval: Interval) -> None:
    outcome |= {key: interval.value, f"{key}_low": interval.low, f"{key}_high": interval.high}


def _registered_champion(name: str, context: Any) -> Path | None:
    """The champion that a fresh candidate has to beat; None for the first version."""
    if context is None:
        return None
    try:
        return Path(context.download_model(f"models:/{name}@champion"))
    except Permanent:
        return None


def _register(folder: Path, name: str, first: bool, outcome: dict[str, Any], context: Any) -> str:
    tags = {key: value if isinstance(value, str) else f"{value:.6g}" for key, value in outcome.items()}
    return context.register_model(folder, name, alias=("champion", "backup") if first else "candidate", tags=tags)
