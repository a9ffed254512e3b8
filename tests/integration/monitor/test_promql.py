import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autonomic.seams.reading import Reading
from autonomic.seams.signal import Query
from autonomic.signals.promql import PromqlSignal

PAGE = """# TYPE demo_load gauge
demo_load{node="a"} 1.5
demo_load{node="b"} 2.5
demo_nan NaN
# TYPE demo_seconds histogram
demo_seconds_bucket{le="0.1"} 50
demo_seconds_bucket{le="1"} 100
demo_seconds_bucket{le="+Inf"} 100
demo_seconds_sum 20
demo_seconds_count 100
"""


def query(promql: str, by: str | None = None, max_age: float | None = None) -> Query:
    args = {"promql": promql, **({"by": by} if by else {})}
    return Query(strategy="s", name="n", target="web", signal="promql", args=args, max_age_seconds=max_age)


def one(signal: PromqlSignal, *given: Any, **named: Any) -> Reading:
    (answer,) = signal.read([query(*given, **named)], time.time())
    assert isinstance(answer, Reading)
    return answer


@pytest.fixture(scope="module")
def signal(prometheus: Any) -> Iterator[PromqlSignal]:
    signal = PromqlSignal(prometheus.url)
    yield signal
    signal.close()


@pytest.fixture(scope="module")
def exporter(make_peer: Any, metrics_targets: Path, signal: PromqlSignal, until: Callable[..., None]) -> Iterator[Any]:
    peer = make_peer()
    peer.pages["/metrics"] = PAGE
    peer.up()
    file = metrics_targets / "promql-signal.json"
    file.write_text(json.dumps([{"targets": [f"127.0.0.1:{peer.port}"]}]))
    until(lambda: one(signal, "sum(demo_load)").status == "ok", 60)
    yield peer
    file.unlink()
    peer.down()


def test_values_are_those_of_prometheus(exporter: Any, signal: PromqlSignal) -> None:
    expected = {
        "sum(demo_load)": 4.0,
        "demo_load{node='a'} * 2": 3.0,
        "scalar(demo_load{node='b'})": 2.5,
        "1 + 1 # a comment": 2.0,
        f"demo_load{{node=~'{'a|' * 60_000}'}}": 1.5,
        "histogram_quantile(0.5, sum by (le) (demo_seconds_bucket))": 0.1,
    }
    answers = signal.read([query(text) for text in expected], time.time())
    assert {text: answer.value for text, answer in zip(expected, answers, strict=True) if isinstance(answer, Reading)} == expected


def test_what_is_no_number_is_missing_and_what_is_no_query_an_error(exporter: Any, signal: PromqlSignal) -> None:
    for text, status in (
        ("demo_nan", "missing"),
        ("1 / 0", "missing"),
        ("demo_nothing", "missing"),
        ("demo_load", "error"),
        ("sum(((", "error"),
        ("demo_load[5m]", "error"),
        ('"demo_load"', "error"),
        ("demo_load + on() demo_load", "error"),
    ):
        reading = one(signal, text)
        assert (text, reading.status, reading.value) == (text, status, None)
        assert reading.detail


def test_one_refused_query_does_not_spoil_the_others_of_its_batch(exporter: Any, signal: PromqlSignal) -> None:
    texts = [f"sum(demo_load) + {number}" for number in range(120)]
    # one that does not parse, and one that only Prometheus refuses
    texts[77], texts[99] = "sum(((", "demo_load + on() demo_load"
    answers = signal.read([query(text) for text in texts], time.time())
    values = [answer.value for answer in answers if isinstance(answer, Reading)]
    assert values == [None if number in (77, 99) else 4.0 + number for number in range(120)]


def test_by_gives_one_reading_for_each_value_of_the_label(exporter: Any, signal: PromqlSignal) -> None:
    (answer,) = signal.read([query("demo_load", by="node", max_age=5)], time.time())
    assert not isinstance(answer, Reading)
    assert {reading.labels["node"]: reading.value for reading in answer} == {"a": 1.5, "b": 2.5}
    (twice,) = signal.read([query("demo_load", by="job")], time.time())
    assert isinstance(twice, Reading)
    assert twice.status == "error"
    (none,) = signal.read([query("demo_nothing", by="node")], time.time())
    assert none == []


def test_with_max_age_a_reading_has_the_time_of_its_sample(
    exporter: Any, signal: PromqlSignal, metrics_targets: Path, until: Callable[..., None]
) -> None:
    # a sum over what Prometheus still holds looks fresh; the sample behind it is not
    exporter.pages["/metrics"] = PAGE + "demo_old 7 " + str(int((time.time() - 100) * 1000)) + "\n"
    until(lambda: one(signal, "sum(demo_old)").status == "ok")
    assert time.time() - one(signal, "sum(demo_old)").time < 5
    assert 95 < time.time() - one(signal, "sum(demo_old)", max_age=5).time < 130
    assert time.time() - one(signal, "sum(demo_load) + sum(demo_old)", max_age=5).time > 95
    assert time.time() - one(signal, "sum(demo_load)", max_age=5).time < 5


def test_a_target_that_is_gone_is_missing(exporter: Any, signal: PromqlSignal, until: Callable[..., None]) -> None:
    exporter.down()
    until(lambda: one(signal, "sum(demo_load)").status == "missing")
    exporter.up()
    until(lambda: one(signal, "sum(demo_load)").value == 4.0)


def test_a_prometheus_that_is_away_gives_errors_and_is_found_when_it_is_back(planner: Any) -> None:
    planner.down()
    signal = PromqlSignal(planner.url, timeout_seconds=2)
    answers = signal.read([query(f"up + {number}") for number in range(1000)], time.time())
    assert {answer.status for answer in answers if isinstance(answer, Reading)} == {"error"}
    result = {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1.0, "5"]}]}}
    planner.pages["/api/v1/query"] = result
    planner.up()
    assert one(signal, "up").value == 5.0
    signal.close()


def test_a_prometheus_that_hangs_is_an_error() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        signal = PromqlSignal(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.5)
        reading = one(signal, "up")
        signal.close()
    assert reading.status == "error"
