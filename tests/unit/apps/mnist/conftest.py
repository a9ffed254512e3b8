"""Real images, read once."""

import numpy as np
import pytest
from numpy.typing import NDArray

from autonomic.workflows.apps.mnist import data


@pytest.fixture(scope="session")
def real_images() -> tuple[NDArray[np.uint8], data.Labels]:
    return data.read_built_in()


@pytest.fixture(scope="session")
def digits(real_images: tuple[NDArray[np.uint8], data.Labels]) -> data.Digits:
    return data.split(*real_images, seed=0)
