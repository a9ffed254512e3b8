"""Asks several signals at the same time; whatever happens, there is an answer to every query, and one at fault spoils no other."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import monotonic

from autonomic.agents.logs import logger
from autonomic.seams.reading import error
from autonomic.seams.signal import Answer, Query, Signal
from autonomic.signals.guard import reason

LONGEST_SECONDS = 15.0
"""A signal has its own, shorter time limits; this one holds for a signal that breaks its word."""
_log = logger(__name__)


class Reader:
    """Reads queries of any signals. Threads may share it."""

    def __init__(self, signals: Mapping[str, Signal], longest_seconds: float = LONGEST_SECONDS) -> None:
        self.signals = dict(signals)
        self._longest_seconds = longest_seconds
        self._pools = {name: ThreadPoolExecutor(8, f"read-{name}") for name in signals}

    def read(self, queries: Sequence[Query], now: float) -> list[Answer]:
        """The answer to each query, in their order."""
        places: dict[str, list[int]] = {}
        for place, query in enumerate(queries):
            places.setdefault(query.signal, []).append(place)
        if len(places) == 1:
            signal = next(iter(places))
            return self._ask(signal, queries, now)
        asked: dict[str, Future[list[Answer]]] = {
            signal: self._pools[signal].submit(self._ask, signal, [queries[place] for place in mine], now)
            for signal, mine in places.items()
            if signal in self._pools
        }
        wait(asked.values(), self._longest_seconds)
        answers: list[Answer] = [error(now, query.signal, "the signal did not answer in time") for query in queries]
        for signal, mine in places.items():
            if signal in asked and asked[signal].done():
                for place, answer in zip(mine, asked[signal].result(), strict=True):
                    answers[place] = answer
        return answers

    def _ask(self, signal: str, queries: Sequence[Query], now: float) -> list[Answer]:
        if signal not in self.signals:
            return [error(now, signal, f"there is no signal {signal!r}; there are {', '.join(sorted(self.signals))}") for _ in queries]
        return self._guarded(signal, queries, now, monotonic() + self._longest_seconds)

    def _guarded(self, signal: str, queries: Sequence[Query], now: float, end: float) -> list[Answer]:
        """The answers; where the signal raises, halves are asked apart until the query at fault stands alone."""
        try:
            answers = self.signals[signal].read(queries, now)
            if len(answers) != len(queries):
                raise ValueError(f"the signal gave {len(answers)} answers to {len(queries)} queries")
            return answers
        except Exception as failure:  # noqa: BLE001 the boundary that turns a fault of a signal into readings
            if len(queries) == 1 or monotonic() > end:
                _log.error("signal failed", exc_info=failure, extra={"signal": signal, "strategy": queries[0].strategy})
                return [error(now, signal, reason(failure)) for _ in queries]
        half = len(queries) // 2
        return [*self._guarded(signal, queries[:half], now, end), *self._guarded(signal, queries[half:], now, end)]

    def close(self) -> None:
        """Lets go of the threads and the connections."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for signal in self.signals.values():
            if (close := getattr(signal, "close", None)) is not None:
                close()
