"""What is claimed, what was measured, and whether it held."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim with its bound and its measurement, both as text with units."""

    part: str
    claimed: str
    measured: str
    held: bool
