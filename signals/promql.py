"""`promql`: instant queries to Prometheus, asked together.

Queries that are due at the same time travel in batches: each expression is marked with a label of its own and they are
joined with `or`, so that a hundred expressions cost one request. Where one expression of a batch is refused, the others
are asked alone.
"""

import math
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

from autonomic.seams.reading import Reading, error, missing, number
from autonomic.seams.signal import Answer, Query

_MARK = "autonomic_query"


class _Sample(NamedTuple):
    labels: dict[str, str]
    value: float
    time: float


class _Refused(Exception):
    """Prometheus answered that it cannot evaluate the expression."""


class _Unreachable(Exception):
    """Prometheus did not answer, or said that it cannot now."""


Vector = list[_Sample]


class PromqlSignal:
    """Readings from one Prometheus.

    A reading without `max_age` has the time of the evaluation. With `max_age` it has the time of the oldest among the
    newest samples of the selectors in the expression, so that a target that is not scraped any more becomes stale at
    once and not after Prometheus' own five minutes.

    Args:
        url: of the server; empty where there is none, then every reading is an error.
        timeout_seconds: of one request; what is not there by then is an error.
    """

    def __init__(self, url: str, timeout_seconds: float = 5.0, batch: int = 50, workers: int = 4) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._batch = batch
        self._workers = workers
        self._pool: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._connections: list[Any] = []
        self._lock = threading.Lock()

    def read(self, queries: Sequence[Query], now: float) -> list[Answer]:
        if not self._url:
            return [error(now, "promql", "no Prometheus is configured") for _ in queries]
        expressions = {_expression(query): None for query in queries}
        for query in queries:
            if query.max_age_seconds is not None:
                expressions.update(dict.fromkeys(_freshness(_expression(query), query.args.get("by"))))
        results = self._ask(tuple(expressions))
        return [self._answer(query, results, now) for query in queries]

    def close(self) -> None:
        """Closes the connections."""
        if self._pool is not None:
            self._pool.shutdown()
        for connection in self._connections:
            connection.close()

    def _answer(self, query: Query, results: dict[str, Vector | str], now: float) -> Answer:
        vector = results[_expression(query)]
        if isinstance(vector, str):
            return error(now, "promql", vector)
        label = query.args.get("by")
        ages = self._ages(query, results, label)
        if label is not None:
            return _by_label(vector, label, ages, now)
        if not vector:
            return missing(now, "promql", "the query gives no series")
        if len(vector) > 1:
            return error(now, "promql", f"the query gives {len(vector)} series; aggregate it to one, or say by: LABEL")
        return number(vector[0].value, min(vector[0].time, ages.get("", math.inf)), "promql", vector[0].labels)

    def _ages(self, query: Query, results: dict[str, Vector | str], label: str | None) -> dict[str, float]:
        """The times of the samples behind an expression, by label value (`""` where the samples have no such label)."""
        times: dict[str, float] = {}
        if query.max_age_seconds is None:
            return times
        for expression in _freshness(_expression(query), label):
            vector = results[expression]
            for sample in vector if isinstance(vector, list) else ():
                key = sample.labels.get(label, "") if label else ""
                times[key] = min(times.get(key, math.inf), sample.value)
        return times

    def _ask(self, expressions: Sequence[str]) -> dict[str, Vector | str]:
        """The vector of each expression, or why there is none."""
        # what does not parse here is asked alone, so that no text can reach into that of another
        sound = [expression for expression in expressions if _kind(expression)]
        batches: list[Sequence[str]] = [[expression] for expression in expressions if not _kind(expression)]
        batches += [sound[start : start + self._batch] for start in range(0, len(sound), self._batch)]
        down = threading.Event()
        if len(batches) == 1:
            return self._ask_batch(batches[0], down)
        results: dict[str, Vector | str] = {}
        for part in self._executor().map(lambda batch: self._ask_batch(batch, down), batches):
            results.update(part)
        return results

    def _ask_batch(self, batch: Sequence[str], down: threading.Event) -> dict[str, Vector | str]:
        if down.is_set():
            return dict.fromkeys(batch, f"Prometheus at {self._url} did not answer")
        try:
            return self._together(batch) if len(batch) > 1 else {batch[0]: self._request(batch[0])}
        except _Unreachable as failure:
            down.set()
            return dict.fromkeys(batch, str(failure))
        except _Refused as failure:
            if len(batch) == 1:
                return {batch[0]: str(failure)}
        half = len(batch) // 2
        return {**self._ask_batch(batch[:half], down), **self._ask_batch(batch[half:], down)}

    def _together(self, batch: Sequence[str]) -> dict[str, Vector | str]:
        marked: list[str] = []
        for place, expression in enumerate(batch):
            vector = f"vector({expression}\n)" if _kind(expression) == "scalar" else f"({expression}\n)"
            marked.append(f'label_replace({vector}, "{_MARK}", "{place}", "", "")')
        results: dict[str, Vector | str] = {expression: [] for expression in batch}
        for sample in self._request(" or ".join(marked)):
            vector = results[batch[int(sample.labels.pop(_MARK))]]
            if isinstance(vector, list):
                vector.append(sample)
        return results

    def _request(self, expression: str) -> Vector:
        from prometheus_api_client.exceptions import PrometheusApiClientException
        from requests import RequestException

        timeout = {"timeout": f"{self._timeout_seconds:g}s"}
        try:
            result: Any = self._connection().custom_query(expression, params=timeout)
        except PrometheusApiClientException as refused:
            text = str(refused)
            if any(f"Status Code {status}" in text for status in (400, 422)):
                raise _Refused(f"Prometheus refused the query: {text[:500]}") from None
            raise _Unreachable(f"Prometheus at {self._url} failed: {text[:500]}") from None
        except (RequestException, ValueError) as failed:
            raise _Unreachable(f"Prometheus at {self._url} did not answer: {type(failed).__name__}: {str(failed)[:300]}") from None
        if result and not isinstance(result[0], dict):
            return [_Sample({}, float(result[1]), float(result[0]))]
        return [_sample(item) for item in result]

    def _connection(self) -> Any:
        # one connection a thread, because sessions of requests are not made to be shared
        if not hasattr(self._local, "connection"):
            from prometheus_api_client.prometheus_connect import PrometheusConnect
            from requests import Session
            from urllib3.util.retry import Retry

            session = Session()
            session.trust_env = False
            seconds: Any = self._timeout_seconds
            self._local.connection = PrometheusConnect(url=self._url, session=session, retry=Retry(total=0), timeout=seconds)
            with self._lock:
                self._connections.append(self._local.connection)
        return self._local.connection

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._workers, "promql")
            return self._pool


def _expression(query: Query) -> str:
    return query.args["promql"]


def _sample(item: dict[str, Any]) -> _Sample:
    if "value" not in item:
        raise _Refused("the query gives ranges or native histograms; it must give an instant vector of numbers")
    labels = {name: value for name, value in item["metric"].items() if name != "__name__"}
    return _Sample(labels, float(item["value"][1]), float(item["value"][0]))


def _by_label(vector: Iterable[_Sample], label: str, ages: dict[str, float], now: float) -> Answer:
    readings: dict[str, Reading] = {}
    for sample in vector:
        value = sample.labels.get(label, "")
        if value in readings:
            return error(now, "promql", f"the query gives several series with {label}={value!r}; aggregate it by {label}")
        time = min(sample.time, ages.get(value, ages.get("", math.inf)))
        readings[value] = number(sample.value, time, "promql", {**sample.labels, label: value})
    return [readings[value] for value in sorted(readings)]


@lru_cache(maxsize=65536)
def _kind(expression: str) -> str:
    """ "scalar", "vector", or "" for what does not parse."""
    import promql_parser

    try:
        return "scalar" if _scalar(promql_parser.parse(expression)) else "vector"
    except ValueError:
        return ""


def _scalar(node: Any) -> bool:
    kind = type(node).__name__
    if kind == "Call":
        return str(node.func.return_type).endswith("Scalar")
    if kind in ("ParenExpr", "UnaryExpr"):
        return _scalar(node.expr)
    if kind == "BinaryExpr":
        return _scalar(node.lhs) and _scalar(node.rhs)
    return kind == "NumberLiteral"


@lru_cache(maxsize=65536)
def _freshness(expression: str, label: str | None) -> tuple[str, ...]:
    """Expressions for the times of the newest samples behind `expression`: one for each selector that asks for the present."""
    import promql_parser

    selectors: dict[str, None] = {}

    def visit(node: Any) -> None:
        kind = type(node).__name__
        selector = node.vector_selector if kind == "MatrixSelector" else node if kind == "VectorSelector" else None
        if selector is not None and selector.offset is None and selector.at is None:
            selectors[str(selector)] = None

    try:
        promql_parser.walk(promql_parser.parse(expression), visit)
    except ValueError:
        return ()
    grouping = f" by ({label})" if label else ""
    return tuple(f"max{grouping} (timestamp({selector}))" for selector in selectors)
