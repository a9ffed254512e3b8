"""One bad value, expression or target never spoils the readings that are asked with it."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from autonomic.agents.monitor.reader import Reader
from autonomic.seams.clock import VirtualClock
from autonomic.seams.reading import Reading, number
from autonomic.seams.signal import Answer, Query, Signal
from autonomic.seams.state import RoleState, ServiceState, State
from autonomic.signals.drift import DriftSignal
from autonomic.signals.kubernetes import KubernetesSignal
from autonomic.signals.mlflow import MlflowSignal
from autonomic.signals.platform import PlatformSignal
from autonomic.signals.promql import PromqlSignal
from autonomic.signals.scrape import ScrapeSignal
from autonomic.signals.webhook import WebhookSignal

NOW = 1000.0
LARGEST = 1.7976931348623157e308


def read(signal: Signal, name: str, *asked: tuple[str, dict[str, Any]]) -> list[Reading]:
    queries = [Query(strategy=f"s{place}", name="v", target=target, signal=name, args=args) for place, (target, args) in enumerate(asked)]
    answers = Reader({name: signal}).read(queries, NOW)
    assert all(isinstance(answer, Reading) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Reading)]


def test_a_number_of_400_digits_in_one_event_is_missing_and_the_others_are_read() -> None:
    told = {"big": ({"value": 10**400}, 1.0), "small": ({"value": 1}, 1.0), "odd": ({"value": [1]}, 1.0)}
    asked = [("w", {"webhook": "big"}), ("w", {"webhook": "small"}), ("w", {"webhook": "odd", "field": f"value.{'9' * 5000}"})]
    big, small, odd = read(WebhookSignal(told.get), "webhook", *asked)
    assert (big.status, "larger than any number" in big.detail) == ("missing", True)
    assert small.value == 1
    assert odd.status == "error"


class Runs:
    """An MLflow that holds runs with these metrics, and a query that is too much for it."""

    def __init__(self, **metrics: float) -> None:
        listed = [{"key": name, "value": value, "timestamp": 1} for name, value in metrics.items()]
        self.runs = [{"info": {"run_id": str(place), "end_time": 1}, "data": {"metrics": listed}} for place in range(2)]
        self.is_there = lambda: True

    def experiment_ids(self, names: Sequence[str]) -> Sequence[str]:
        from autonomic.seams.errors import Retryable

        if names == ["slow"]:
            raise Retryable("MLflow cannot be reached: ReadTimeout")
        return names

    def search_runs(self, *_: Any) -> Iterator[Any]:
        return iter(self.runs)

    def close(self) -> None: ...


@pytest.mark.parametrize("aggregate", ["avg", "sum", "max", "min", "last"])
def test_an_infinite_metric_of_a_run_is_missing_and_the_others_are_read(aggregate: str) -> None:
    signal = MlflowSignal("http://mlflow")
    signal._client = Runs(loss=LARGEST, acc=0.9)  # pyright: ignore[reportAttributeAccessIssue]
    asked = {"experiment": "e", "aggregate": aggregate}
    refused, loss, acc = read(
        signal,
        "mlflow",
        ("w", {"experiment": "slow", "metric": "m"}),
        ("w", {**asked, "metric": "loss"}),
        ("w", {**asked, "metric": "acc"}),
    )
    assert refused.status == "error"
    assert loss.status == "missing"
    assert acc.value == pytest.approx(1.8 if aggregate == "sum" else 0.9)


def test_samples_without_a_sum_are_missing_and_other_targets_are_read() -> None:
    groups = [
        {"targets": ["r"], "labels": {"workflow": "web", "service": name, "__metrics_path__": f"/{name}"}}
        for name in ("bad", "good", "huge")
    ]
    pages = {
        "http://h/v1/sd": json.dumps(groups),
        "http://h/metrics": "",
        "http://r/bad": 'g{k="1"} +Inf\ng{k="2"} -Inf\n',
        "http://r/good": "q 3\n",
        "http://r/huge": 'g{k="1"} 1.7e308\ng{k="2"} 1.7e308\n',
    }
    signal = ScrapeSignal("http://h", lambda url: pages[url.partition("?")[0]], VirtualClock())
    asked = [("web/bad", {"metric": "g"}), ("web/good", {"metric": "q"}), ("web/huge", {"metric": "g"}), ("///", {"metric": "q"})]
    bad, good, huge, odd = read(signal, "scrape", *asked)
    signal.close()
    assert (bad.status, good.value, huge.status, odd.status) == ("missing", 3.0, "missing", "error")


def test_a_host_that_answers_oddly_of_one_target_is_an_error_of_that_target_alone() -> None:
    def drift(workflow: str, service: str) -> Mapping[str, Any]:
        if service == "broken":
            raise ValueError("no JSON")
        return {"time": 1.0, "values": {"drifted": {"odd": []}.get(service, 0.0)}}

    def observe(target: str) -> State:
        if target == "web/broken":
            raise ValueError("no JSON")
        roles = {"champion": RoleState(model="m", wanted=1, ready=1)}
        return State(target=target, kind="online", service=ServiceState(roles=roles, weights={}, min_replicas=1, max_replicas=1))

    def cluster(target: str, parts: Sequence[str]) -> Mapping[str, Any]:
        if target == "web/broken":
            raise ValueError("no JSON")
        return {"pods": {"items": "none" if target == "web/odd" else []}}

    signals: list[tuple[str, Signal, dict[str, Any]]] = [
        ("drift", DriftSignal(drift), {"drift": "drifted"}),
        ("platform", PlatformSignal(observe), {"platform": "ready_replicas"}),
        ("kubernetes", KubernetesSignal(cluster), {"metric": "pods"}),
    ]
    for name, signal, args in signals:
        odd = {**args, "metric": "none"} if name == "kubernetes" else args
        broken, other, good = read(signal, name, ("web/broken", args), ("web/odd", odd), ("web/good", args))
        assert (broken.status, good.status) == ("error", "ok"), (name, good)
        assert other.status == ("ok" if name == "platform" else "error")


class OneAtFault:
    """A signal with a fault of its own: it raises wherever one query is among those asked."""

    def __init__(self) -> None:
        self.calls = 0

    def read(self, queries: Sequence[Query], now: float) -> list[Answer]:
        self.calls += 1
        if any(query.strategy == "s37" for query in queries):
            raise ZeroDivisionError("a fault of the signal")
        return [number(1.0, now, "odd") for _ in queries]


def test_a_signal_that_raises_for_one_query_answers_all_others_in_a_few_questions() -> None:
    signal = OneAtFault()
    answers = read(signal, "odd", *[("w", {})] * 200)
    assert [place for place, answer in enumerate(answers) if answer.status == "error"] == [37]
    assert answers[37].detail == "ZeroDivisionError: a fault of the signal"
    assert signal.calls < 20


class Prometheus(BaseHTTPRequestHandler):
    """Answers 1 to every expression; one that is `slow` is given up, one that hangs never answered, and `odd` gives none."""

    hangs = threading.Event()
    asked: list[str] = []

    def do_POST(self) -> None:
        query = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["query"][0]
        self.asked.append(query)
        if "hangs" in query:
            self.hangs.wait(60)
        if "slow" in query:
            self._say(503, {"status": "error", "errorType": "timeout", "error": "query timed out in expression evaluation"})
        elif len(query) > 50_000:
            self._say(414, "too long")
        else:
            count = max(1, query.count("label_replace("))
            marks = [{"autonomic_query": str(place)} if count > 1 else {} for place in range(count)]
            result = [{"metric": mark, "value": [NOW, "one" if "odd" in query else "1"]} for mark in marks]
            self._say(200, {"status": "success", "data": {"resultType": "vector", "result": result}})

    def _say(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def promql() -> Iterator[Callable[..., list[Reading]]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Prometheus)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # whoever asked has given up
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Prometheus.hangs.clear()
    Prometheus.asked.clear()
    made: list[PromqlSignal] = []

    def ask(*texts: str, timeout_seconds: float = 30.0) -> list[Reading]:
        if not made:
            made.append(PromqlSignal(f"http://127.0.0.1:{server.server_port}", timeout_seconds))
        return read(made[0], "promql", *[("w", {"promql": text}) for text in texts])

    yield ask
    Prometheus.hangs.set()
    for signal in made:
        signal.close()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("slow", "timed out in expression evaluation"),
        ("odd", "the answer is not understood: ValueError"),
        (f'up{{a="{"x" * 60_000}"}}', "refused the query: 414"),
        ('"up"', ""),
    ],
    ids=["slow", "odd", "long", "text"],
)
def test_an_expression_that_fails_leaves_those_asked_with_it_alone(promql: Callable[..., list[Reading]], bad: str, why: str) -> None:
    good = [f"sum(metric_{place})" for place in range(60)]
    answers = promql(*good[:30], bad, *good[30:])
    assert why in answers[30].detail
    assert [answer.value for answer in answers[:30] + answers[31:]] == [1.0] * 60
    Prometheus.asked.clear()
    again = promql(*good, bad)
    assert [answer.value for answer in again[:-1]] == [1.0] * 60
    assert len(Prometheus.asked) == 3, "what failed alone is asked apart, so that the others stay together"


def test_an_expression_that_is_never_answered_leaves_those_asked_with_it_alone(promql: Callable[..., list[Reading]]) -> None:
    *good, hangs = promql("a", "b", "c", "hangs", timeout_seconds=1.0)
    assert [answer.value for answer in good] == [1.0] * 3
    assert "did not answer within" in hangs.detail


def test_a_prometheus_that_hangs_is_asked_once_more_and_no_further(promql: Callable[..., list[Reading]], monkeypatch: Any) -> None:
    monkeypatch.setattr(Prometheus, "do_POST", lambda self: (self.asked.append(""), self.hangs.wait(60)))
    answers = promql(*[f"m_{place}" for place in range(40)], timeout_seconds=0.2)
    assert {answer.status for answer in answers} == {"error"}
    assert len(Prometheus.asked) == 2


@pytest.mark.parametrize(
    ("page", "args", "why"),
    [
        ('t_bucket{le="0.1"} 5\nt_bucket{le="+Inf"} 5\n', {"metric": "t", "quantile": 0.99}, "nothing was observed in the last 5 s"),
        ('t_bucket{le="0.1"} 5\nt_bucket{le="1"} 5\n', {"metric": "t", "quantile": 0.99}, "has no bucket le='+Inf'"),
        ("t_bucket 5\n", {"metric": "t", "quantile": 0.99}, "need the label le"),
        ('g{k="1"} 2\n', {"metric": "g", "labels": {"k": "2"}}, "no sample g with k='2' is exposed for web/api; there is k='1'"),
        ('g{k="1"} NaN\ng{k="2"} 2\n', {"metric": "g", "aggregate": "max"}, "the value is nan"),
        ('g{k="2"} 2\ng{k="1"} NaN\n', {"metric": "g", "aggregate": "min"}, "the value is nan"),
    ],
)
def test_a_scraped_value_that_is_missing_says_why(page: str, args: dict[str, Any], why: str) -> None:
    listed = json.dumps([{"targets": ["r"], "labels": {"workflow": "web", "service": "api"}}])
    pages = {"http://h/v1/sd": listed, "http://h/metrics": "", "http://r/metrics": page}
    clock = VirtualClock()
    signal = ScrapeSignal("http://h", lambda url: pages[url.partition("?")[0]], clock)
    for _ in range(2):
        (answer,) = read(signal, "scrape", ("web/api", args))
        clock.advance(1)
    signal.close()
    assert (answer.status, why in answer.detail) == ("missing", True), answer.detail
