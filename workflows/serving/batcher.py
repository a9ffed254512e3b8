"""Dynamic batching: requests that come close together go through the model together."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(slots=True)
class Item:
    """Some rows of one request, at most a batch full; `shape` tells with which others they can be put together."""

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

    `work` gets items of one shape with at most `max_batch_size` rows together and returns an answer or an error for each.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], list[Answer | Exception]],
        executor: Executor,
        max_batch_size: int,
        max_wait_seconds: float,
    ) -> None:
        self._work = work
        self._executor = executor
        self._max_batch_size = max_batch_size
        self._max_wait_seconds = max_wait_seconds
        self._waiting: deque[Item] = deque()
        self._came = asyncio.Event()

    async def infer(self, request_id: str, inputs: Arrays, rows: int) -> Answer:
        """The answer to one request; more rows than a batch holds are split."""
        loop = asyncio.get_running_loop()
        shape = tuple(array.shape[1:] for array in inputs.values())
        items: list[Item] = []
        for start in range(0, rows, self._max_batch_size):
            part = {name: array[start : start + self._max_batch_size] for name, array in inputs.items()}
            items.append(Item(request_id, part, min(self._max_batch_size, rows - start), shape, loop.create_future()))
        self._waiting.extend(items)
        self._came.set()
        answers = await asyncio.gather(*(item.done for item in items))
        if len(answers) == 1:
            return answers[0]
        outputs = {name: np.concatenate([answer.outputs[name] for answer in answers]) for name in answers[0].outputs}
        return Answer(outputs, [prediction_id for answer in answers for prediction_id in answer.ids])

    async def run(self) -> None:
        """Works until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._gather()
            try:
                answers = await loop.run_in_executor(self._executor, self._work, batch)
            except Exception as error:  # noqa: BLE001 - whatever went wrong is the answer; the next batch may work
                answers = [error for _ in batch]
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
                item = self._waiting[0]
                if item.done.done():
                    self._waiting.popleft()
                    continue
                if batch and (rows + item.rows > self._max_batch_size or item.shape != batch[0].shape):
                    return batch
                if not batch:
                    deadline = loop.time() + self._max_wait_seconds
                batch.append(self._waiting.popleft())
                rows += item.rows
            if batch and (rows == self._max_batch_size or loop.time() >= deadline):
                return batch
            self._came.clear()
            try:
                async with asyncio.timeout_at(None if math.isinf(deadline) else deadline):
                    await self._came.wait()
            except TimeoutError:
                return batch
