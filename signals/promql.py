"""`promql`: instant queries to Prometheus, asked together.

Queries that are due at the same time travel in batches: each expression is marked with a label of its own and they are
joined with `or`, so that fifty expressions cost one request. Where a batch is refused, or takes too long, each of its
expressions is asked alone, and the one at fault stays alone until it works.
"""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from autonomic.seams.reading import Reading, error, missing, number
from autonomic.seams.signal import Answer, Query
from autonomic.signals.guard import guarded, reason

_MARK = "autonomic_query"
_TOGETHER = ("scalar", "vector")
_BATCH_CHARACTERS = 100_000
_REFUSED = frozenset({400, 405, 413, 414, 422, 431})
Found = TypeVar("Found")


class _Sample(NamedTuple):
    labels: dict[str, str]
    value: float
    time: float


class _Refused(Exception):
    """Prometheus answered that it cannot evaluate the expression."""


class _Slow(Exception):
    """The evaluation did not end in time; Prometheus may answer other expressions."""


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
        # what failed when it was asked alone is asked alone until it works
        self._failed: set[str] = set()

    def read(self, queries: Sequence[Query], now: float) -> list[Answer]:
        if not self._url:
            return [error(now, "promql", "no Prometheus is configured") for _ in queries]
        expressions = {_expression(query): None for query in queries}
        for query in queries:
            if query.max_age_seconds is not None:
                expressions.update(dict.fromkeys(_freshness(_expression(query), query.args.get("by"))))
        results = self._ask(tuple(expressions))
        return [guarded("promql", now, lambda query=query: self._answer(query, results, now)) for query in queries]

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
        round_ = _Round(monotonic() + 2 * self._timeout_seconds)
        # what does not parse here is asked alone, so that no text can reach into that of another; so is what failed the last time
        sound = [expression for expression in expressions if _kind(expression) in _TOGETHER and expression not in self._failed]
        batches = _batches(sound, self._batch)
        alone = [expression for expression in expressions if expression not in set(sound)]
        results: dict[str, Vector | str] = {}
        for batch, found in zip(batches, self._map(lambda batch: self._ask_batch(batch, round_), batches), strict=True):
            if found is None:
                alone += batch
            else:
                results.update(found)
        results.update(zip(alone, self._map(lambda expression: self._ask_alone(expression, round_), alone), strict=True))
        return results

    def _map(self, ask: Callable[[Any], Found], things: Sequence[Any]) -> Iterable[Found]:
        return map(ask, things) if len(things) < 2 else self._executor().map(ask, things)

    def _ask_batch(self, batch: Sequence[str], round_: "_Round") -> dict[str, Vector | str] | None:
        """The answers to several expressions in one request; None where one of them fails it, and each has to be asked alone."""
        if round_.down:
            return dict.fromkeys(batch, round_.down)
        if len(batch) == 1:
            return {batch[0]: self._ask_alone(batch[0], round_)}
        try:
            return self._together(batch)
        except _Unreachable as failure:
            round_.down = str(failure)
            return dict.fromkeys(batch, round_.down)
        except _Slow as failure:
            # a server that hangs would let each of them wait
            round_.down = "" if self._is_there() else str(failure)
            return dict.fromkeys(batch, round_.down) if round_.down else None
        except Exception:  # noqa: BLE001 refused, or an answer that is not understood: whose, shows when each is asked alone
            return None

    def _ask_alone(self, expression: str, round_: "_Round") -> Vector | str:
        if round_.down:
            return round_.down
        seconds = min(self._timeout_seconds * 0.8, round_.end - monotonic())
        if seconds <= 0:
            return f"it was not asked, as other expressions took {2 * self._timeout_seconds:g} s; it is asked the next time"
        try:
            found = self._request(expression, seconds)
        except _Unreachable as failure:
            round_.down = str(failure)
            return round_.down
        except Exception as failure:  # noqa: BLE001 whatever one expression gives, the others are answered
            self._failed.add(expression)
            return str(failure) if isinstance(failure, _Refused | _Slow) else f"the answer is not understood: {reason(failure)}"
        self._failed.discard(expression)
        return found

    def _is_there(self) -> bool:
        try:
            self._request("1", 1.0)
        except (_Unreachable, _Slow, _Refused):
            return False
        return True

    def _together(self, batch: Sequence[str]) -> dict[str, Vector | str]:
        marked: list[str] = []
        for place, expression in enumerate(batch):
            vector = f"vector({expression}\n)" if _kind(expression) == "scalar" else f"({expression}\n)"
            marked.append(f'label_replace({vector}, "{_MARK}", "{place}", "", "")')
        results: dict[str, Vector | str] = {expression: [] for expression in batch}
        for sample in self._request(" or ".join(marked), self._timeout_seconds * 0.5):
            vector = results[batch[int(sample.labels.pop(_MARK))]]
            if isinstance(vector, list):
                vector.append(sample)
        return results

    def _request(self, expression: str, seconds: float) -> Vector:
        """The instant vector of an expression, for whose evaluation Prometheus has so many seconds."""
        from requests import ReadTimeout, RequestException

        wait: Any = seconds + self._timeout_seconds * 0.2
        try:
            found = self._connection().custom_query(expression, {"timeout": f"{seconds:.3f}"}, wait)
        except ReadTimeout:
            raise _Slow(f"Prometheus at {self._url} did not answer within {seconds:g} s") from None
        except RequestException as failed:
            raise _Unreachable(f"Prometheus at {self._url} did not answer: {type(failed).__name__}: {str(failed)[:300]}") from None
        return _vector(found, expression)

    def _connection(self) -> Any:
        # one connection a thread, because sessions of requests are not made to be shared
        if not hasattr(self._local, "connection"):
            from autonomic.signals.prometheus_session import connect

            self._local.connection = connect(self._url, self._judge)
            with self._lock:
                self._connections.append(self._local.connection)
        return self._local.connection

    def _judge(self, status: int, kind: str, why: str) -> None:
        """Raises what an answer that is none means; `kind` and `why` are what Prometheus gives as errorType and error."""
        text = f"{status} {kind} {why}".replace("  ", " ")
        if kind in ("timeout", "canceled") or status == 504:
            raise _Slow(f"Prometheus gave up the evaluation: {text}")
        if status in _REFUSED or kind in ("execution", "internal"):
            raise _Refused(f"Prometheus refused the query: {text}")
        raise _Unreachable(f"Prometheus at {self._url} failed: {text}")

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._workers, "promql")
            return self._pool


class _Round:
    """One reading of all expressions: when it has to end, and why Prometheus is not asked any more ("" while it is)."""

    def __init__(self, end: float) -> None:
        self.end = end
        self.down = ""


def _batches(expressions: Sequence[str], most: int) -> list[list[str]]:
    batches: list[list[str]] = []
    length = 0
    for expression in expressions:
        if not batches or len(batches[-1]) >= most or length + len(expression) > _BATCH_CHARACTERS:
            batches.append([])
            length = 0
        batches[-1].append(expression)
        length += len(expression)
    return batches


def _vector(result: Any, expression: str) -> Vector:
    if result and not isinstance(result[0], dict):
        if _is_text(expression):
            raise _Refused("the query gives a text; it must give an instant vector of numbers")
        return [_Sample({}, float(result[1]), float(result[0]))]
    return [_sample(item) for item in result]


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
    """ "scalar", "vector", or "" for what does not parse, or gives neither."""
    import promql_parser

    try:
        parsed = promql_parser.parse(expression)
    except ValueError:
        return ""
    parsed = _bare(parsed)
    if type(parsed).__name__ in ("StringLiteral", "MatrixSelector", "SubqueryExpr"):
        return ""
    return "scalar" if _scalar(parsed) else "vector"


def _bare(parsed: Any) -> Any:
    import promql_parser

    while isinstance(parsed, promql_parser.ParenExpr):
        parsed = parsed.expr
    return parsed


def _is_text(expression: str) -> bool:
    import promql_parser

    try:
        return type(_bare(promql_parser.parse(expression))).__name__ == "StringLiteral"
    except ValueError:
        return False


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
