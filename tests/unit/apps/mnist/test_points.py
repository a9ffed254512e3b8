from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.seams.errors import Permanent
from autonomic.workflows.apps.mnist.points import TRAIN_SHARE, Points, local_path, poison, side


def points(ids: list[str], values: list[int]) -> Points:
    images = np.array([np.full((28, 28), value / 255, np.float32) for value in values]).reshape(-1, 28, 28)
    return Points(tuple(ids), images.astype(np.float32), np.array([value % 10 for value in values], np.int64))


@given(st.lists(st.tuples(st.text(max_size=20), st.integers(0, 5)), unique_by=lambda pair: pair[0], max_size=40))
def test_no_point_and_no_image_both_trains_and_judges(pairs: list[tuple[str, int]]) -> None:
    some = points([name for name, _ in pairs], [value for _, value in pairs])
    training, judging = some.of("train"), some.of("judge")
    assert not set(training.ids) & set(judging.ids)
    assert not {image.tobytes() for image in training.images} & {image.tobytes() for image in judging.images}
    assert set(training.ids) == {name for name, _ in pairs if side(name) == "train"}
    for part in (training, judging):
        assert [some.labels[some.ids.index(name)] for name in part.ids] == part.labels.tolist()


@given(st.lists(st.text(max_size=20), unique=True, max_size=30), st.text(max_size=20))
def test_the_side_of_a_point_does_not_depend_on_the_others(ids: list[str], name: str) -> None:
    assert side(name) in ("train", "judge")
    assert (name in points([*ids, name], list(range(len(ids) + 1))).of("train").ids) == (side(name) == "train") or name in ids


def test_about_the_share_that_is_wanted_trains() -> None:
    training = sum(side(f"prediction-{number}") == "train" for number in range(5000))
    assert training / 5000 == pytest.approx(TRAIN_SHARE, abs=0.03)


def test_shuffling_keeps_the_labels_and_moves_most_of_them() -> None:
    labels = np.arange(1000) % 10
    wrong = poison(labels, "shuffle", 1.0, seed=0)
    assert np.array_equal(np.bincount(wrong), np.bincount(labels))
    assert 0.8 < (wrong != labels).mean() < 0.96


def test_renaming_is_always_the_same_and_spares_nothing() -> None:
    labels = np.arange(100) % 10
    first, second = poison(labels, "rename", 1.0, seed=0), poison(labels, "rename", 1.0, seed=9)
    assert np.array_equal(first, second)
    assert (first != labels).all()
    assert len(set(zip(labels.tolist(), first.tolist(), strict=True))) == 10


@pytest.mark.parametrize("how", ["shuffle", "rename"])
def test_a_fraction_is_poisoned_and_the_rest_is_true(how: str) -> None:
    labels = np.arange(1000) % 10
    assert (poison(labels, how, 0.5, seed=0) != labels).mean() == pytest.approx(0.5, abs=0.06)


def test_nothing_is_poisoned_by_default() -> None:
    labels = np.arange(10)
    assert np.array_equal(poison(labels, "none", 1.0, seed=0), labels)


@pytest.mark.parametrize(("how", "fraction"), [("hide", 1.0), ("shuffle", 1.5), ("shuffle", -1.0)])
def test_unknown_poison_is_refused(how: str, fraction: float) -> None:
    with pytest.raises(Permanent, match="allowed"):
        poison(np.arange(10), how, fraction, seed=0)


def test_a_log_is_found_by_path_and_by_file_uri_and_nothing_else(tmp_path: Path) -> None:
    log = tmp_path / "a log.db"
    log.touch()
    assert local_path(str(log)) == log
    assert local_path(log.as_uri()) == log
    for wrong in ("https://example.org/x.db", str(tmp_path / "other.db"), str(tmp_path)):
        with pytest.raises(Permanent, match="prediction log"):
            local_path(wrong)
