"""Arithmetic on scraped samples: parsing, growth of counters, quantiles of histograms."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

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

    Lines with other names are passed over before they are parsed: a large page costs little.
    """
    from prometheus_client.parser import text_string_to_metric_families

    wanted = [line for line in text.splitlines() if line[: _name_end(line)] in names]
    samples: dict[Key, float] = {}
    for family in text_string_to_metric_families("\n".join(wanted) + "\n"):
        for sample in family.samples:
            samples[Key(sample.name, tuple(sorted({**extra, **sample.labels}.items())))] = sample.value
    return samples


def _name_end(line: str) -> int:
    brace, space = line.find("{"), line.find(" ")
    if brace < 0 or 0 <= space < brace:
        return max(space, 0)
    return brace


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
