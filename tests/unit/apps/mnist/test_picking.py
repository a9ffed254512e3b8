import numpy as np
import pytest

from autonomic.workflows.apps.mnist.picking import Picker, Sight, k_center, ranks
from autonomic.workflows.apps.mnist.points import TRAIN_SHARE, side


def sights(count: int, seed: int = 0) -> list[Sight]:
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(count, 8)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return [
        Sight(f"p{index}", float(index), float(anomaly), 1 - float(doubt), float(doubt), embedding)
        for index, (anomaly, doubt, embedding) in enumerate(zip(random.random(count) * 4, random.random(count), embeddings, strict=True))
    ]


def picker(budget: int = 100, share: float = 0.5) -> Picker:
    return Picker(budget, share, keep=1000, seed=0)


def test_k_center_takes_one_point_of_each_cluster_before_a_second_of_any() -> None:
    random = np.random.default_rng(0)
    centers = np.eye(5, dtype=np.float32) * 10
    embedding = (np.repeat(centers, 20, axis=0) + random.normal(0, 0.01, (100, 5))).astype(np.float32)
    chosen, shares = k_center(embedding, np.ones(100, np.float32), np.zeros((0, 5), np.float32), 6)
    assert {index // 20 for index in chosen[:5]} == set(range(5))
    assert shares[5] < 0.02


def test_k_center_stays_away_from_what_was_taken_earlier() -> None:
    embedding = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]], np.float32)
    chosen, _ = k_center(embedding, np.ones(3, np.float32), np.array([[5.0, 0.1]], np.float32), 1)
    assert chosen == [0]


def test_k_center_prefers_the_critical_of_two_that_are_equally_far() -> None:
    embedding = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    chosen, _ = k_center(embedding, np.array([0.2, 0.9], np.float32), np.zeros((1, 2), np.float32), 1)
    assert chosen == [1]


def test_ranks_go_from_nought_to_one_in_the_order_of_the_values() -> None:
    assert ranks(np.array([3.0, 1.0, 2.0], np.float32)).tolist() == [1.0, 0.0, 0.5]


def test_nothing_is_picked_twice_and_the_budget_holds() -> None:
    some = picker(budget=60)
    seen: list[str] = []
    for start in range(0, 400, 40):
        some.offer(sights(400)[start : start + 40])
        some.offer(sights(400)[: start + 40])
        seen += [pick.prediction_id for pick in some.pick(25, 4.0)]
    assert len(seen) == len(set(seen)) == 60


def test_no_more_than_the_share_of_what_was_offered_is_picked() -> None:
    some = picker(share=0.5)
    some.offer(sights(10))
    assert len(some.pick(100, 4.0)) == 5
    assert some.pick(100, 4.0) == []


def test_training_points_are_more_critical_than_the_rest_and_judging_points_are_like_the_stream() -> None:
    all_sights = sights(600)
    some = picker(budget=200)
    some.offer(all_sights)
    picks = some.pick(200, 4.0)
    training = [pick for pick in picks if side(pick.prediction_id) == "train"]
    judging = [pick for pick in picks if side(pick.prediction_id) == "judge"]
    assert len(training) == round(200 * TRAIN_SHARE)
    stream = float(np.mean([sight.uncertainty for sight in all_sights]))
    assert np.mean([pick.uncertainty for pick in training]) > stream + 0.1
    assert np.mean([pick.uncertainty for pick in judging]) == pytest.approx(stream, abs=0.1)
    assert np.mean([pick.anomaly for pick in training]) > np.mean([sight.anomaly / 4 for sight in all_sights])


def test_picks_lie_farther_apart_than_a_random_sample() -> None:
    all_sights = {sight.prediction_id: sight for sight in sights(600)}
    some = picker(budget=100)
    some.offer(all_sights.values())
    training = [all_sights[pick.prediction_id].embedding for pick in some.pick(100, 4.0) if side(pick.prediction_id) == "train"]
    sample = [all_sights[f"p{index}"].embedding for index in np.random.default_rng(1).permutation(600)[: len(training)]]

    def nearest(vectors: list[np.ndarray]) -> float:
        distances = np.linalg.norm(np.array(vectors)[:, None] - np.array(vectors)[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        return float(distances.min(1).mean())

    assert nearest(training) > 1.1 * nearest(sample)


def test_small_steps_keep_the_share_that_judges() -> None:
    some = picker(budget=100, share=1.0)
    some.offer(sights(400))
    picks = [pick for _ in range(100) for pick in some.pick(1, 4.0)]
    assert sum(side(pick.prediction_id) == "judge" for pick in picks) == 40


def test_scores_are_between_nought_and_one() -> None:
    some = picker()
    some.offer(sights(100))
    for pick in some.pick(50, 2.0):
        assert all(0.0 <= value <= 1.0 for value in (pick.anomaly, pick.uncertainty, pick.diversity))


def test_nothing_is_picked_from_nothing() -> None:
    assert picker().pick(10, 4.0) == []
