"""What the demo's users send: real images, clean or corrupted, each with its true label."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from autonomic.workflows.apps.mnist.corrupt import corrupt
from autonomic.workflows.apps.mnist.data import Digits, Images, Labels
from benchmarks.load import Sampler


@dataclass(frozen=True)
class Stream:
    """A set of images that is drawn from."""

    images: Images
    labels: Labels

    def sampler(self) -> Sampler:
        """Draws at random."""

        def draw(chance: random.Random) -> tuple[Images, int]:
            index = chance.randrange(len(self.labels))
            return self.images[index][None], int(self.labels[index])

        return draw

    def once(self, finished: Callable[[], None]) -> Sampler:
        """Gives each image once, in order; calls `finished` at the end and begins anew."""
        position = iter(range(len(self.labels)))

        def draw(chance: random.Random) -> tuple[Images, int]:
            nonlocal position
            index = next(position, None)
            if index is None:
                finished()
                position = iter(range(len(self.labels)))
                index = next(position)
            return self.images[index][None], int(self.labels[index])

        return draw


@dataclass(frozen=True)
class Streams:
    """All streams of the demo. `measured` is never labelled: it tells the accuracy before and after."""

    clean: Stream
    drifted: Stream
    measured: Stream

    @classmethod
    def make(cls, digits: Digits, seed: int, severity: float, measured: int) -> "Streams":
        """Clean images, and mixed noise, rotation and blur of that severity."""
        online, fresh = digits["online"], digits["fresh"]
        return cls(
            Stream(online.images, online.labels),
            Stream(corrupt(online.images, "mixed", severity, seed), online.labels),
            Stream(corrupt(fresh.images, "mixed", severity, seed + 1)[:measured], fresh.labels[:measured]),
        )
