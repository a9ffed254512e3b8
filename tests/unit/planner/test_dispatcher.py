import threading
import time
from collections import defaultdict

from autonomic.agents.planner.dispatcher import Dispatcher
from autonomic.seams.errors import Retryable


def until(true: object) -> None:
    end = time.monotonic() + 20
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.005)


def test_items_of_a_target_are_handled_in_order_and_never_at_once() -> None:
    seen: dict[str, list[int]] = defaultdict(list)
    busy: set[str] = set()

    def handle(item: tuple[str, int]) -> None:
        target, number = item
        assert target not in busy
        busy.add(target)
        time.sleep(0.0005)
        seen[target].append(number)
        busy.discard(target)

    dispatcher = Dispatcher(handle)
    for number in range(40):
        for target in "abc":
            dispatcher.put(target, (target, number))
    until(lambda: dispatcher.waiting() == 0)
    dispatcher.stop()
    assert dict(seen) == {target: list(range(40)) for target in "abc"}


def test_an_item_that_may_work_later_holds_up_its_own_target_only() -> None:
    done: list[str] = []
    tries: list[str] = []
    free = threading.Event()

    def handle(item: str) -> None:
        if item == "a1" and not free.is_set():
            tries.append(item)
            raise Retryable("away", 0.01)
        done.append(item)

    dispatcher = Dispatcher(handle)
    for item in ("a1", "a2", "b1"):
        dispatcher.put(item[0], item)
    until(lambda: len(tries) > 2)
    assert done == ["b1"]
    free.set()
    until(lambda: dispatcher.waiting() == 0)
    dispatcher.stop()
    assert done == ["b1", "a1", "a2"]


def test_nothing_is_handled_after_the_stop() -> None:
    done: list[str] = []
    dispatcher: Dispatcher[str] = Dispatcher(done.append)
    dispatcher.stop()
    dispatcher.put("a", "a1")
    time.sleep(0.05)
    assert done == []
