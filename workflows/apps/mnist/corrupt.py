"""What happens to real images on their way: noise, rotation, blur. The severity is 0 (untouched) to 1."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from autonomic.workflows.apps.mnist.data import Images

NOISE_SIGMA = 0.9
ROTATION_DEGREES = 70.0
BLUR_SIGMA = 2.6
MIXED = "mixed"


def noise(images: Images, severity: float, random: np.random.Generator) -> Images:
    """Adds Gaussian noise of `severity * NOISE_SIGMA`, cut to 0..1."""
    noisy = images + random.normal(0.0, severity * NOISE_SIGMA, images.shape).astype(np.float32)
    return np.clip(noisy, 0.0, 1.0)


def rotation(images: Images, severity: float, random: np.random.Generator) -> Images:
    """Turns each image to the left or the right by 80 to 100 % of `severity * ROTATION_DEGREES`."""
    angles = severity * ROTATION_DEGREES * random.uniform(0.8, 1.0, len(images)) * random.choice([-1.0, 1.0], len(images))
    turned = [ndimage.rotate(image, angle, reshape=False, order=1) for image, angle in zip(images, angles, strict=True)]
    return np.clip(np.array(turned, np.float32).reshape(images.shape), 0.0, 1.0)


def blur(images: Images, severity: float, random: np.random.Generator) -> Images:
    """Smooths with a Gaussian of 80 to 100 % of `severity * BLUR_SIGMA` pixels."""
    sigmas = severity * BLUR_SIGMA * random.uniform(0.8, 1.0, len(images))
    smooth = [ndimage.gaussian_filter(image, sigma) for image, sigma in zip(images, sigmas, strict=True)]
    return np.array(smooth, np.float32).reshape(images.shape)


KINDS: dict[str, Callable[[Images, float, np.random.Generator], Images]] = {"noise": noise, "rotation": rotation, "blur": blur}


def corrupt(images: Images, kind: str, severity: float, seed: int) -> Images:
    """A corrupted copy of `images` `[n, 28, 28]`.

    Args:
        images: real images, 0..1.
        kind: a name of `KINDS`, or "mixed": each image gets one of them by chance.
        severity: 0 to 1.
        seed: the same seed gives the same copy.

    Raises:
        ValueError: an unknown kind, or a severity outside 0..1.
    """
    if not 0.0 <= severity <= 1.0:
        raise ValueError(f"severity is {severity}; allowed is 0 to 1")
    random = np.random.default_rng(seed)
    if kind in KINDS:
        return KINDS[kind](images, severity, random)
    if kind != MIXED:
        raise ValueError(f"kind is {kind!r}; allowed are {', '.join([*KINDS, MIXED])}")
    choice = random.integers(len(KINDS), size=len(images))
    corrupted = images.copy()
    for index, function in enumerate(KINDS.values()):
        corrupted[choice == index] = function(images[choice == index], severity, random)
    return corrupted
