"""Asks several signals at the same time; whatever happens, there is an answer to every query."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from autonomic.agents.logs import logger
from autonomic.seams.reading import error
from autonomic.seams.signal import Answer, Query, Signal

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
        try:
            return self.signals[signal].read(queries, now)
        except Exception as failure:  # noqa: BLE001 the boundary that turns a fault of a signal into readings
            _log.error("signal failed", exc_info=failure, extra={"signal": signal})
            return [error(now, signal, f"{type(failure).__name__}: {failure}") for _ in queries]

    def close(self) -> None:
        """Lets go of the threads and the connections."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for signal in self.signals.values():
            if (close := getattr(signal, "close", None)) is not None:
                close()
