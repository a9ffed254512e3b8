import numpy as np
import pytest

from autonomic.workflows.apps.mnist.judge import gain, wilson


def test_wilson_gives_the_published_interval() -> None:
    # the example of 15 successes in 148 (R. G. Newcombe, Statistics in Medicine 17, 1998, method 3: 0.0624 to 0.1605)
    interval = wilson(15, 148)
    assert (interval.low, interval.high) == (pytest.approx(0.0624, abs=1e-4), pytest.approx(0.1605, abs=1e-4))


@pytest.mark.parametrize(("successes", "total"), [(0, 20), (20, 20), (1, 1)])
def test_wilson_stays_within_nought_and_one(successes: int, total: int) -> None:
    interval = wilson(successes, total)
    assert -1e-9 <= interval.low <= interval.value <= interval.high <= 1 + 1e-9


def test_nothing_counted_says_nothing() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


def test_a_model_gains_nothing_over_itself() -> None:
    right = np.random.default_rng(0).random(100) < 0.6
    assert gain(right, right, seed=0).low == gain(right, right, seed=0).high == 0.0


def test_the_gain_of_a_better_model_is_nearly_always_seen_and_its_interval_nearly_always_holds_the_truth() -> None:
    random = np.random.default_rng(0)
    covered = above = 0
    for _ in range(100):
        interval = gain(random.random(100) < 0.5, random.random(100) < 0.8, seed=1)
        covered += interval.low <= 0.3 <= interval.high
        above += interval.low > 0
    assert covered >= 88
    assert above >= 95


def test_the_same_seed_gives_the_same_interval() -> None:
    champion, candidate = np.arange(50) % 3 == 0, np.arange(50) % 2 == 0
    assert gain(champion, candidate, seed=4) == gain(champion, candidate, seed=4)
