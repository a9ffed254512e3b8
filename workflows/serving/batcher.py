"""Dynamic batching: requests that come close together go through the model together, and a big one shares its turn."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(slots=True)
class Item:
    """Some rows of one request, at most a chunk; `shape` tells with which others they can be put together."""

    request_id: str
    inputs: Arrays
    rows: int
    shape: tuple[tuple[int, ...], ...]
    done: "asyncio.Future[Answer]"


@dataclass(frozen=True, slots=True)
class Answer:
    """The outputs of some rows and the id of each row's prediction."""

    outputs: Arrays
    ids: list[str] = field(default_factory=list)


class Batcher:
    """Runs `work` on one batch at a time, in `executor`; a batch waits at most `max_wait_seconds` for company.

    `work` gets items of one shape and returns an answer or an error for each. Items of several requests have at most
    `max_batch_size` rows together; the rows of one request go in chunks of `chunk_rows` (default: `max_batch_size`), and between two
    of its chunks every other request that waits has its turn. What nobody waits for any more is dropped.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], list[Answer | Exception]],
        executor: Executor,
        max_batch_size: int,
        max_wait_seconds: float,
        chunk_rows: int = 0,
    ) -> None:
        self._work = work
        self._executor = executor
        self._max_batch_size = max_batch_size
        self._chunk_rows = chunk_rows or max_batch_size
        self._max_wait_seconds = max_wait_seconds
        # what is left of each request; the one at the front is next
        self._waiting: deque[deque[Item]] = deque()
        self._came = asyncio.Event()
        self._batch_began: float | None = None

    @property
    def busy_seconds(self) -> float:
        """For how long the batch of now has been computed; 0 while there is none."""
        began = self._batch_began
        return 0.0 if began is None else time.monotonic() - began

    async def infer(self, request_id: str, inputs: Arrays, rows: int) -> Answer:
        """The answer to one request. Where this is cancelled, or one chunk fails, the chunks that are left are dropped."""
        loop = asyncio.get_running_loop()
        shape = tuple(array.shape[1:] for array in inputs.values())
        items: deque[Item] = deque()
        for start in range(0, rows, self._chunk_rows):
            part = {name: array[start : start + self._chunk_rows] for name, array in inputs.items()}
            items.append(Item(request_id, part, min(self._chunk_rows, rows - start), shape, loop.create_future()))
        chunks = list(items)
        self._waiting.append(items)
        self._came.set()
        try:
            answers = await asyncio.gather(*(item.done for item in chunks))
        finally:
            items.clear()
            for item in chunks:
                if not item.done.done():
                    item.done.cancel()
        if len(answers) == 1:
            return answers[0]
        outputs = {name: np.concatenate([answer.outputs[name] for answer in answers]) for name in answers[0].outputs}
        return Answer(outputs, [prediction_id for answer in answers for prediction_id in answer.ids])

    async def run(self) -> None:
        """Works until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [item for item in await self._gather() if not item.done.done()]
            if not batch:
                continue
            self._batch_began = time.monotonic()
            try:
                answers = await loop.run_in_executor(self._executor, self._work, batch)
            except Exception as error:  # noqa: BLE001 - whatever went wrong is the answer; the next batch may work
                answers = [error for _ in batch]
            finally:
                self._batch_began = None
            for item, answer in zip(batch, answers, strict=True):
                if item.done.done():
                    continue
                if isinstance(answer, Exception):
                    item.done.set_exception(answer)
                else:
                    item.done.set_result(answer)

    async def _gather(self) -> list[Item]:
        loop = asyncio.get_running_loop()
        batch: list[Item] = []
        rows = 0
        deadline = math.inf
        while True:
            while self._waiting:
                items = self._waiting[0]
                while items and items[0].done.done():
                    items.popleft()
                if not items:
                    self._waiting.popleft()
                    continue
                item = items[0]
                if batch and (rows + item.rows > self._max_batch_size or item.shape != batch[0].shape):
                    return batch
                if not batch:
                    deadline = loop.time() + self._max_wait_seconds
                batch.append(items.popleft())
                rows += item.rows
                # what is left of this request comes after everybody else
                self._waiting.rotate(-1)
            if batch and (rows >= self._max_batch_size or loop.time() >= deadline):
                return batch
            self._came.clear()
            try:
                async with asyncio.timeout_at(None if math.isinf(deadline) else deadline):
                    await self._came.wait()
            except TimeoutError:
                return batch
