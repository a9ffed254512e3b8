"""Sums, means and extremes that never raise and never depend on the order of their values."""

import math
from collections.abc import Sequence
from typing import Literal

Aggregate = Literal["sum", "max", "min", "avg"]


def total(values: Sequence[float]) -> float:
    """The exact sum; infinite where it is beyond a float, NaN where a value is NaN or infinities cancel out."""
    try:
        return math.fsum(values)
    except (ValueError, OverflowError):
        # infinities of both signs, or finite values whose sum is beyond a float
        return sum(values)


def aggregated(how: Aggregate, values: Sequence[float]) -> float:
    """One number for several; NaN where one of them is NaN, or there is none but for a sum."""
    if how == "sum":
        return total(values)
    if not values or any(map(math.isnan, values)):
        return math.nan
    if how == "avg":
        return total([value / len(values) for value in values])
    return max(values) if how == "max" else min(values)
