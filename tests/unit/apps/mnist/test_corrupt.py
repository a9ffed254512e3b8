import numpy as np
import pytest

from autonomic.workflows.apps.mnist.corrupt import KINDS, MIXED, corrupt
from autonomic.workflows.apps.mnist.data import Digits


@pytest.mark.parametrize("kind", [*KINDS, MIXED])
def test_a_seed_gives_the_same_corruption_and_another_seed_another(digits: Digits, kind: str) -> None:
    images = digits["online"].images[:50]
    first = corrupt(images, kind, 0.6, seed=1)
    assert np.array_equal(first, corrupt(images, kind, 0.6, seed=1))
    assert not np.array_equal(first, corrupt(images, kind, 0.6, seed=2))
    assert first.shape == images.shape
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize("kind", list(KINDS))
def test_more_severe_is_farther_from_the_original(digits: Digits, kind: str) -> None:
    images = digits["online"].images[:100]
    distances = [float(((corrupt(images, kind, severity, seed=1) - images) ** 2).mean()) for severity in (0.0, 0.3, 0.6, 1.0)]
    assert distances == sorted(distances)
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances[1] > 1e-4


def test_the_original_stays_as_it_was(digits: Digits) -> None:
    images = digits["online"].images[:20].copy()
    corrupt(images, MIXED, 1.0, seed=1)
    assert np.array_equal(images, digits["online"].images[:20])


@pytest.mark.parametrize(("kind", "severity"), [("fog", 0.5), ("noise", -0.1), ("blur", 1.1), ("rotation", float("nan"))])
def test_unknown_kinds_and_severities_are_refused(digits: Digits, kind: str, severity: float) -> None:
    with pytest.raises(ValueError, match="allowed"):
        corrupt(digits["online"].images[:1], kind, severity, seed=0)
