"""Arithmetic on scraped samples: parsing, growth of counters, quantiles of histograms."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

_QUOTED = re.compile(r'\{\s*"((?:[^"\\]|\\.)*)"')
_PLAIN = re.compile(r"([^\s{]+)")
Labels = tuple[tuple[str, str], ...]


class Key(NamedTuple):
    """A series: the sample's name and its labels, sorted."""

    name: str
    labels: Labels


class Scrape(NamedTuple):
    """What one endpoint exposed at one time."""

    time: float
    samples: Mapping[Key, float]


def parse(text: str, names: frozenset[str], extra: Mapping[str, str]) -> dict[Key, float]:
    """The samples called `names` in the text exposition format; `extra` labels are added where a sample lacks them.

    Lines with other names are skipped before they are parsed: a large page costs little. Only a line feed ends a line, as other
    breaks may stand in a label; a carriage return or blanks around a line, a byte order mark and quoted names are taken. A line that
    cannot be read costs its own sample.
    """
    lines = (line.strip(" \t\r") for line in text.removeprefix("\ufeff").split("\n"))
    wanted = [line for line in lines if _name_of(line) in names]
    try:
        found = _samples(wanted)
    except (ValueError, IndexError, KeyError):
        found = [sample for line in wanted for sample in _of_line(line)]
    return {Key(name, tuple(sorted({**extra, **labels}.items()))): value for name, labels, value in found}


def _samples(lines: Sequence[str]) -> list[tuple[str, Mapping[str, str], float]]:
    from prometheus_client.parser import text_string_to_metric_families

    families = text_string_to_metric_families("\n".join(lines) + "\n")
    return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]


def _of_line(line: str) -> list[tuple[str, Mapping[str, str], float]]:
    try:
        return _samples([line])
    except (ValueError, IndexError, KeyError):
        return []


def _name_of(line: str) -> str:
    found = _QUOTED.match(line) if line.startswith("{") else _PLAIN.match(line)
    return found[1].replace('\\"', '"').replace("\\\\", "\\") if found else ""


def growth(history: Sequence[Scrape], key: Key) -> float | None:
    """How much a counter grew over `history`, resets counted from zero; None where it was seen less than twice."""
    values = [scrape.samples[key] for scrape in history if key in scrape.samples]
    if len(values) < 2:
        return None
    return sum(after - before if after >= before else after for before, after in itertools.pairwise(values))


def since(history: Sequence[Scrape], start: float) -> Sequence[Scrape]:
    """The scrapes from the newest that is not younger than `start` on, or all where all are younger."""
    first = 0
    for place, scrape in enumerate(history):
        if scrape.time <= start:
            first = place
    return history[first:]


def histogram_quantile(quantile: float, buckets: Iterable[tuple[float, float]]) -> float:
    """The quantile of a histogram given as (upper bound, cumulative count), linear within a bucket.

    As Prometheus' `histogram_quantile`: the lower bound of the first bucket is 0 where its upper bound is positive, a
    quantile in the bucket +Inf gives the highest finite bound, and without observations, or without +Inf, it is NaN.
    """
    ordered = sorted(buckets)
    if len(ordered) < 2 or ordered[-1][0] != math.inf:
        return math.nan
    counts = [ordered[0][1]]
    for _, count in ordered[1:]:
        counts.append(max(count, counts[-1]))  # replicas are not scraped at one instant
    total = counts[-1]
    if total <= 0:
        return math.nan
    rank = quantile * total
    place = next(place for place, count in enumerate(counts) if count >= rank)
    if place == len(ordered) - 1:
        return ordered[-2][0]
    upper, below = ordered[place][0], counts[place - 1] if place else 0.0
    if place == 0 and upper <= 0:
        return upper
    lower = ordered[place - 1][0] if place else 0.0
    return lower + (upper - lower) * (rank - below) / (counts[place] - below)
