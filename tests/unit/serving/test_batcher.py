import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from autonomic.workflows.serving.batcher import Answer, Batcher, Item


def answer(item: Item) -> Answer:
    return Answer({"y": item.inputs["x"] * 2}, [f"{item.request_id}-{n}" for n in range(item.rows)])


class Recorder:
    """Doubles each row, remembers the batches, and can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, items: Sequence[Item]) -> list[Answer | Exception]:
        self.go.wait(5)
        self.batches.append([item.rows for item in items])
        return [ValueError("odd") if item.request_id == "bad" else answer(item) for item in items]


Work = Callable[[Sequence[Item]], list[Answer | Exception]]


def run(work: Work, size: int, wait: float, test: Callable[[Batcher], Awaitable[None]]) -> None:
    async def body() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(work, executor, size, wait)
            task = asyncio.create_task(batcher.run())
            await test(batcher)
            task.cancel()

    asyncio.run(body())


def rows(count: int, width: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.arange(count * width).reshape(count, width)}


def test_requests_that_come_together_are_computed_together() -> None:
    work = Recorder()

    async def test(batcher: Batcher) -> None:
        answers = await asyncio.gather(*(batcher.infer(str(n), rows(1), 1) for n in range(5)))
        assert [each.ids for each in answers] == [[f"{n}-0"] for n in range(5)]

    run(work, 4, 0.05, test)
    assert work.batches == [[1, 1, 1, 1], [1]]


def test_without_a_wait_a_batch_is_what_came_while_the_last_was_computed() -> None:
    work = Recorder()
    work.go.clear()

    async def test(batcher: Batcher) -> None:
        first = asyncio.ensure_future(batcher.infer("0", rows(1), 1))
        await asyncio.sleep(0.05)
        rest = [asyncio.ensure_future(batcher.infer(str(n), rows(1), 1)) for n in range(3)]
        await asyncio.sleep(0)
        work.go.set()
        await asyncio.gather(first, *rest)

    run(work, 8, 0.0, test)
    assert work.batches == [[1], [1, 1, 1]]


def test_a_request_larger_than_a_batch_is_split_and_put_together_again() -> None:
    work = Recorder()

    async def test(batcher: Batcher) -> None:
        got = await batcher.infer("r", rows(10), 10)
        np.testing.assert_array_equal(got.outputs["y"], rows(10)["x"] * 2)
        assert len(got.ids) == 10

    run(work, 4, 0.0, test)
    assert work.batches == [[4], [4], [2]]


def test_rows_of_different_shapes_are_never_mixed() -> None:
    work = Recorder()

    async def test(batcher: Batcher) -> None:
        await asyncio.gather(batcher.infer("1", rows(1), 1), batcher.infer("2", rows(1, 3), 1), batcher.infer("3", rows(1, 3), 1))

    run(work, 8, 0.02, test)
    assert work.batches == [[1], [1, 1]]


def test_one_request_that_fails_does_not_fail_the_others() -> None:
    async def test(batcher: Batcher) -> None:
        good, bad = await asyncio.gather(batcher.infer("good", rows(1), 1), batcher.infer("bad", rows(1), 1), return_exceptions=True)
        assert isinstance(good, Answer)
        assert isinstance(bad, ValueError)

    run(Recorder(), 8, 0.02, test)


def test_the_batcher_goes_on_after_its_work_raised() -> None:
    calls: list[int] = []

    def work(items: Sequence[Item]) -> list[Answer | Exception]:
        calls.append(len(items))
        if len(calls) == 1:
            raise OSError("disk full")
        return [answer(item) for item in items]

    async def test(batcher: Batcher) -> None:
        with pytest.raises(OSError, match="disk full"):
            await batcher.infer("1", rows(1), 1)
        assert (await batcher.infer("2", rows(1), 1)).ids == ["2-0"]

    run(work, 1, 0.0, test)


def test_requests_given_up_are_not_computed() -> None:
    work = Recorder()
    work.go.clear()

    async def test(batcher: Batcher) -> None:
        first = asyncio.ensure_future(batcher.infer("0", rows(1), 1))
        await asyncio.sleep(0.05)
        given_up = asyncio.ensure_future(batcher.infer("1", rows(2), 2))
        last = asyncio.ensure_future(batcher.infer("2", rows(3), 3))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        work.go.set()
        await asyncio.gather(first, last)

    run(work, 8, 0.0, test)
    assert work.batches == [[1], [3]]


def test_a_big_request_gives_every_other_its_turn_between_its_chunks() -> None:
    work = Recorder()
    order: list[str] = []

    async def ask(batcher: Batcher, name: str, count: int) -> None:
        await batcher.infer(name, rows(count), count)
        order.append(name)

    async def test(batcher: Batcher) -> None:
        work.go.clear()
        asked = [asyncio.ensure_future(ask(batcher, "big", 40))]
        await asyncio.sleep(0.02)
        asked += [asyncio.ensure_future(ask(batcher, name, count)) for name, count in (("two", 8), ("one", 4), ("small", 1))]
        await asyncio.sleep(0.02)
        work.go.set()
        await asyncio.gather(*asked)

    run(work, 4, 0.0, test)
    assert order == ["one", "small", "two", "big"]
    assert work.batches.index([1]) <= 4
    assert sum(sum(batch) for batch in work.batches) == 53


def test_a_request_that_is_not_put_together_with_others_goes_in_chunks_all_the_same() -> None:
    work = Recorder()

    async def body() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(work, executor, 1, 0.0, chunk_rows=8)
            task = asyncio.create_task(batcher.run())
            await asyncio.gather(batcher.infer("big", rows(20), 20), batcher.infer("a", rows(1), 1), batcher.infer("b", rows(1), 1))
            task.cancel()

    asyncio.run(body())
    assert work.batches == [[8], [1], [1], [8], [4]]


def test_what_is_left_of_a_request_is_dropped_when_nobody_waits_for_it_or_one_chunk_failed() -> None:
    batches: list[str] = []
    go, begun = threading.Event(), threading.Event()

    def work(items: Sequence[Item]) -> list[Answer | Exception]:
        batches.append(items[0].request_id)
        begun.set()
        assert go.wait(30)
        return [ValueError("odd") if item.request_id == "bad" else answer(item) for item in items]

    async def test(batcher: Batcher) -> None:
        gone = asyncio.ensure_future(batcher.infer("gone", rows(100), 100))
        await asyncio.to_thread(begun.wait, 30)
        assert batcher.busy_seconds > 0
        gone.cancel()
        bad = asyncio.ensure_future(batcher.infer("bad", rows(100), 100))
        last = asyncio.ensure_future(batcher.infer("last", rows(1), 1))
        await asyncio.sleep(0)
        go.set()
        with pytest.raises(ValueError, match="odd"):
            await bad
        assert (await last).ids == ["last-0"]
        assert (await batcher.infer("next", rows(1), 1)).ids == ["next-0"]

    run(work, 4, 0.0, test)
    assert batches == ["gone", "bad", "last", "next"]
