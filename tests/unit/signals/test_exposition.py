import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.signals.exposition import Key, Scrape, growth, histogram_quantile, parse, since

PAGE = """# HELP x_total Things.
# TYPE x_total counter
x_total{a="1",b="say \\"hi\\", {ok}"} 3.0
x_total{a="2"} 4e2 1700000000000
other_total{a="1"} 9
x_total_more 5
x_plain 7
inf_gauge +Inf
"""


def key(name: str, **labels: str) -> Key:
    return Key(name, tuple(sorted(labels.items())))


def test_only_the_names_asked_for_are_parsed_and_labels_are_added() -> None:
    found = parse(PAGE, frozenset({"x_total", "x_plain", "inf_gauge"}), {"role": "champion", "a": "9"})
    assert found == {
        key("x_total", a="1", b='say "hi", {ok}', role="champion"): 3.0,
        key("x_total", a="2", role="champion"): 400.0,
        key("x_plain", a="9", role="champion"): 7.0,
        key("inf_gauge", a="9", role="champion"): math.inf,
    }
    assert parse("", frozenset({"x"}), {}) == {}


def history(*values: float | None) -> list[Scrape]:
    return [Scrape(float(time), {} if value is None else {key("x"): value}) for time, value in enumerate(values)]


def test_growth_counts_a_reset_from_zero() -> None:
    assert growth(history(10, 12, 3, 5), key("x")) == 2 + 3 + 2
    assert growth(history(None, 4, 4), key("x")) == 0
    assert growth(history(4), key("x")) is None
    assert growth(history(None, None), key("x")) is None


def test_a_window_begins_with_the_newest_scrape_that_covers_it() -> None:
    scrapes = history(1, 2, 3, 4)
    assert [scrape.time for scrape in since(scrapes, 1.5)] == [1, 2, 3]
    assert [scrape.time for scrape in since(scrapes, 2)] == [2, 3]
    assert [scrape.time for scrape in since(scrapes, -5)] == [0, 1, 2, 3]
    assert since([], 1) == []


@pytest.mark.parametrize(
    ("quantile", "buckets", "expected"),
    [
        (0.5, {0.1: 0, 0.2: 10, math.inf: 10}, 0.15),
        (0.5, {0.1: 10, 0.2: 10, math.inf: 10}, 0.05),
        (0.99, {0.1: 5, 0.2: 5, math.inf: 10}, 0.2),
        (0.5, {-1: 4, 0.2: 4, math.inf: 4}, -1),
        (0.9, {0.1: 10, 0.2: 9.0, 0.4: 20, math.inf: 20}, 0.36),
    ],
)
def test_quantiles_are_those_of_prometheus(quantile: float, buckets: dict[float, float], expected: float) -> None:
    assert histogram_quantile(quantile, buckets.items()) == pytest.approx(expected)


@pytest.mark.parametrize("buckets", [{}, {math.inf: 3}, {0.1: 1, 0.2: 2}, {0.1: 0, math.inf: 0}])
def test_without_observations_or_without_a_last_bucket_there_is_no_quantile(buckets: dict[float, float]) -> None:
    assert math.isnan(histogram_quantile(0.5, buckets.items()))


@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(any),
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
)
def test_a_higher_quantile_is_never_lower_and_stays_within_the_buckets(counts: list[int], one: float, other: float) -> None:
    bounds = [*(0.1 * (place + 1) for place in range(len(counts) - 1)), math.inf]
    total, buckets = 0, []
    for bound, count in zip(bounds, counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    low, high = sorted((one, other))
    values = [histogram_quantile(low, buckets), histogram_quantile(high, buckets)]
    assert 0 <= values[0] <= values[1] + 1e-12
    assert values[1] <= bounds[-2]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("\ufeffq 1\n", {"": 1.0}),
        ('q 1\r\nq{a="x"} 2\r\n', {"": 1.0, "x": 2.0}),
        ("  q\t1 \n", {"": 1.0}),
        ('q{a="one\u2028two"} 3\n', {"one\u2028two": 3.0}),
        ('q{a="x\x0by\x85z"} 3\n', {"x\x0by\x85z": 3.0}),
        ('{"q",a="x"} 4\n', {"x": 4.0}),
        ('{ "q" } 4\n', {"": 4.0}),
        ('q{a="x" 1\nq{a="y"} none\nq{a="good"} 5\n', {"good": 5.0}),
    ],
)
def test_a_page_is_read_as_its_format_allows_and_a_bad_line_costs_itself_alone(page: str, expected: dict[str, float]) -> None:
    found = parse(page, frozenset({"q"}), {})
    assert {dict(one.labels).get("a", ""): value for one, value in found.items()} == expected
