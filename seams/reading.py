"""A reading: a number with its time and source, or missing, or an error. Never a number made up."""

import math
from collections.abc import Mapping
from typing import Literal

from autonomic.seams.text import shown, well_formed
from autonomic.seams.word import Word


class Reading(Word):
    """One value of one query.

    `time` is when the value was true (seconds since the epoch), `status` tells whether `value` may be used;
    `value` is None unless `status` is "ok". `detail` says why a reading is missing or an error. `substituted`: the value
    stands in for one that is missing, as the strategy's `missing:` allows; it never scales down, retrains or promotes.
    """

    status: Literal["ok", "missing", "error"]
    value: float | None = None
    time: float
    source: str
    labels: dict[str, str] = {}
    detail: str = ""
    substituted: bool = False


def number(value: float, time: float, source: str, labels: Mapping[str, str] | None = None) -> Reading:
    """A reading of `value`; NaN, infinities and what is beyond a float are missing."""
    try:
        value = float(value)
    except OverflowError:
        return missing(time, source, "the value is larger than any number that can be compared (1.8e308)", labels)
    if not math.isfinite(value):
        return missing(time, source, f"the value is {value}", labels)
    return Reading(status="ok", value=value, time=time, source=source, labels=_labels(labels))


def missing(time: float, source: str, detail: str, labels: Mapping[str, str] | None = None) -> Reading:
    """There is no value, and `detail` says why."""
    return Reading(status="missing", time=time, source=source, labels=_labels(labels), detail=shown(detail))


def error(time: float, source: str, detail: str) -> Reading:
    """The source could not be asked, and `detail` says why."""
    return Reading(status="error", time=time, source=source, detail=shown(detail))


def _labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    return {well_formed(name): well_formed(value) for name, value in (labels or {}).items()}
