from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autonomic.workflows.apps.mnist.autoencoder import log_errors
from autonomic.workflows.apps.mnist.corrupt import MIXED, corrupt
from autonomic.workflows.apps.mnist.data import Images, Labels
from autonomic.workflows.apps.mnist.detector import Detector
from autonomic.workflows.apps.mnist.judge import judge, right
from autonomic.workflows.apps.mnist.labels import LabelCheck, check_labels, compare, stable_answers
from autonomic.workflows.apps.mnist.model import probabilities
from autonomic.workflows.apps.mnist.points import poison, read_points
from autonomic.workflows.apps.mnist.reference import Reference, load_autoencoder
from autonomic.workflows.apps.mnist.storage import load_classifier
from autonomic.workflows.apps.mnist.train import train

SEVERITY = 0.65
DRAWS = 100


def drifted_log(trained: Any, rows: Callable[..., Any], write: Callable[..., str], seed: int) -> str:
    """The log of a drifted service where 250 predictions of 1,200 were picked and labelled."""
    online = trained.digits["online"]
    chosen = np.random.default_rng(seed).integers(len(online), size=1200)
    images, labels = corrupt(online.images[chosen], MIXED, SEVERITY, seed), online.labels[chosen]
    stream = rows(images, f"s{seed}-")
    detector = Detector(trained.folder, trained.folder, seed=seed)
    detector.update(stream)
    picked = {pick.prediction_id for pick in detector.pick([], 250)}
    keep = [index for index, row in enumerate(stream) if row.id in picked]
    return write(images[keep], labels[keep], [stream[index].id for index in keep])


def fresh_accuracy(trained: Any, folder: str | Path) -> float:
    """On drifted images of which no training and no judging saw any."""
    fresh = trained.digits["fresh"]
    model = load_classifier(Path(folder))
    hits = [
        probabilities(model, torch.from_numpy(corrupt(fresh.images, MIXED, SEVERITY, seed))).argmax(1).numpy() == fresh.labels
        for seed in (91, 92, 93)
    ]
    return float(np.mean(hits))


@pytest.fixture
def log(trained: Any, rows: Callable[..., Any], labelled_log: Callable[..., str]) -> Callable[..., str]:
    def write(seed: int) -> str:
        return drifted_log(trained, rows, labelled_log, seed)

    return write


def test_training_picks_are_mostly_what_the_champion_gets_wrong_and_judging_picks_are_like_the_stream(
    trained: Any, log: Callable[..., str], seed: int
) -> None:
    online, champion = trained.digits["online"], load_classifier(trained.folder)

    def wrong(images: Images, labels: Labels) -> float:
        return 1.0 - float(right(champion, images, labels).mean())

    stream = wrong(corrupt(online.images, MIXED, SEVERITY, seed + 100), online.labels)
    points = read_points(log(seed))
    training, judging = points.of("train"), points.of("judge")
    assert wrong(training.images, training.labels) > stream + 0.1
    assert wrong(judging.images, judging.labels) == pytest.approx(stream, abs=0.15)


def test_honest_labels_make_a_better_model_and_the_judge_says_so(trained: Any, log: Callable[..., str], rows: Any, seed: int) -> None:
    points = log(seed)
    tuned = train(trained.data, base_model=str(trained.folder), points=points, seed=seed)
    verdict = judge(trained.data, tuned["model"], tuned["base_model"], points)
    assert verdict["judge_trusted"] == "true", verdict["judge_reason"]
    assert verdict["drifted_gain_low"] > 0.05
    assert verdict["clean_accuracy"] > verdict["champion_clean_accuracy"] - 0.025
    assert verdict["drifted_points"] >= 80
    assert fresh_accuracy(trained, tuned["model"]) > fresh_accuracy(trained, trained.folder) + 0.15

    again = Detector(tuned["model"], tuned["model"])
    online = trained.digits["online"]
    same = rows(corrupt(online.images, MIXED, SEVERITY, 55), "same")
    assert not any(again.update(same[start : start + 20])["drifted"] for start in range(0, len(same), 20))
    stronger = rows(corrupt(online.images, MIXED, 1.0, 56), "stronger")
    assert any(again.update(stronger[start : start + 20])["drifted"] for start in range(0, len(stronger), 20))


def test_a_candidate_of_shuffled_labels_does_not_beat_the_champion(trained: Any, log: Callable[..., str], seed: int) -> None:
    points = log(seed)
    tuned = train(trained.data, base_model=str(trained.folder), points=points, seed=seed, poison_labels="shuffle")
    verdict = judge(trained.data, tuned["model"], tuned["base_model"], points)
    assert verdict["judge_trusted"] == "true", verdict["judge_reason"]
    assert verdict["drifted_gain_low"] < 0


def test_a_candidate_that_shines_on_poisoned_judging_labels_is_not_trusted(trained: Any, log: Callable[..., str], seed: int) -> None:
    points = log(seed)
    tuned = train(trained.data, base_model=str(trained.folder), points=points, seed=seed, epochs=4, poison_labels="rename")
    verdict = judge(trained.data, tuned["model"], tuned["base_model"], points, poison_labels="rename")
    # by its figures alone it would have been promoted
    assert verdict["drifted_gain_low"] > 0
    assert verdict["judge_trusted"] == "false"
    assert "contradict" in verdict["judge_reason"]
    assert verdict["label_contradictions"] > 0.7 * verdict["label_evidence"]


def checks(trained: Any, how: str, fraction: float, kind: str = MIXED, severity: float = SEVERITY) -> list[LabelCheck]:
    """What is said about 100 random points of a drifted stream, over many draws."""
    online, champion = trained.digits["online"], load_classifier(trained.folder)
    autoencoder, reference = load_autoencoder(trained.folder), Reference.read(trained.folder)
    images = corrupt(online.images, kind, severity, seed=7)
    answers, lowest = stable_answers(champion, images)
    anomalies = reference.anomalies(log_errors(autoencoder, torch.from_numpy(images)).numpy())
    results: list[LabelCheck] = []
    for draw in range(DRAWS):
        chosen = np.random.default_rng(draw).permutation(len(online))[:100]
        labels = poison(online.labels[chosen], how, fraction, draw)
        results.append(compare(answers[chosen], lowest[chosen], labels, anomalies[chosen]))
    return results


@pytest.mark.parametrize(("kind", "severity"), [(MIXED, 0.65), (MIXED, 0.8), ("noise", 0.6), ("rotation", 0.5), ("blur", 0.8)])
def test_honest_labels_are_believed(trained: Any, kind: str, severity: float) -> None:
    refused = [check.reason for check in checks(trained, "none", 0.0, kind, severity) if not check.trusted]
    assert len(refused) <= 0.1 * DRAWS, refused


@pytest.mark.parametrize("how", ["shuffle", "rename"])
def test_labels_that_are_all_wrong_are_always_found(trained: Any, how: str) -> None:
    assert not any(check.trusted for check in checks(trained, how, 1.0))


@pytest.mark.parametrize("how", ["shuffle", "rename"])
def test_labels_of_which_half_are_wrong_are_found_nearly_always(trained: Any, how: str) -> None:
    assert sum(not check.trusted for check in checks(trained, how, 0.5)) >= 0.85 * DRAWS


def test_labels_that_cannot_be_checked_are_not_trusted(trained: Any) -> None:
    nothing = np.zeros((0, 28, 28), np.float32)
    check = check_labels(load_classifier(trained.folder), nothing, np.zeros(0, np.int64), np.zeros(0, np.float32))
    assert not check.trusted
    assert "cannot be checked" in check.reason


def test_the_first_version_is_judged_on_the_clean_holdout_alone(trained: Any) -> None:
    verdict = judge(trained.data, str(trained.folder))
    assert verdict["clean_accuracy"] == pytest.approx(trained.outputs["test_accuracy"], abs=1e-6)
    assert verdict["clean_accuracy_low"] < verdict["clean_accuracy"] < verdict["clean_accuracy_high"]
    assert verdict["judge_trusted"] == "true"
    assert "drifted_accuracy" not in verdict
    assert "champion_clean_accuracy" not in verdict
