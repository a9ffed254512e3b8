"""What platforms can do, as documents and changes are checked against it before anything runs."""

from typing import NamedTuple

FEATURES = frozenset({"accelerators", "expose", "parts-of-gpus", "placement", "queues", "routes", "tls", "volumes"})
"""What workflows may ask of a platform beside primitives."""


class Abilities(NamedTuple):
    """What one platform can do: the primitives that it applies, which `FEATURES` it has, and whether it adopts workloads of others."""

    platform: str
    primitives: frozenset[str]
    features: frozenset[str] = frozenset()
    adopts: bool = False


class Platforms(NamedTuple):
    """What documents are checked against: the platform where they will run, None where it is not known, among `all` there are."""

    chosen: Abilities | None = None
    all: tuple[Abilities, ...] = ()
