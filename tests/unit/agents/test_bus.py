import json
import threading
import time
from collections.abc import Callable, Sequence

from autonomic.agents.bus import UNDELIVERABLE, Delivery, HttpBus, MemoryBus
from autonomic.agents.journal import SqlJournal
from autonomic.seams.clock import SystemClock
from autonomic.seams.event import CloudEvent


def event(identifier: str) -> CloudEvent:
    return CloudEvent(id=identifier, source="test", type="t")


def send(journal: SqlJournal, *identifiers: str, to: str = "there") -> None:
    with journal.transaction() as transaction:
        transaction.send_many(to, [event(identifier) for identifier in identifiers])


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen within 10 s"
        time.sleep(0.005)


class Destination:
    def __init__(self, refuse: Sequence[str] = (), down: int = 0) -> None:
        self.got: list[str] = []
        self.calls = 0
        self.refuse = set(refuse)
        self.down = down

    def __call__(self, events: Sequence[str]) -> Delivery:
        self.calls += 1
        if self.down:
            self.down -= 1
            return Delivery(0, "unreachable")
        identifiers = [json.loads(text)["id"] for text in events]
        if self.refuse & set(identifiers):
            return Delivery(422, "no")
        self.got += identifiers
        return Delivery(202, "")


def bus_to(journal: SqlJournal, **routes: Destination) -> HttpBus:
    return HttpBus(journal, SystemClock(), {}, "token", routes=routes)


def test_a_commit_is_delivered_at_once_and_in_order() -> None:
    journal, there = SqlJournal("sqlite://"), Destination()
    bus = bus_to(journal, there=there)
    bus.start()
    send(journal, "1", "2")
    send(journal, "3")
    until(lambda: len(there.got) == 3)
    bus.stop()
    assert there.got == ["1", "2", "3"]
    assert journal.outbox_sizes() == {}


def test_what_cannot_be_delivered_now_comes_later_in_its_order() -> None:
    journal, there = SqlJournal("sqlite://"), Destination(down=2)
    send(journal, "1", "2")
    bus = bus_to(journal, there=there)
    bus.start()
    send(journal, "3")
    until(lambda: len(there.got) == 3)
    bus.stop()
    assert there.got == ["1", "2", "3"]


def test_one_destination_that_is_down_does_not_hold_up_another() -> None:
    journal, here, there = SqlJournal("sqlite://"), Destination(), Destination(down=10**9)
    bus = bus_to(journal, here=here, there=there)
    bus.start()
    send(journal, "1", to="there")
    send(journal, "2", to="here")
    until(lambda: here.got == ["2"])
    bus.stop()
    assert there.got == []
    assert journal.outbox_sizes() == {"there": 1}


def test_an_event_that_is_refused_is_kept_apart_and_the_others_go_on() -> None:
    journal, there = SqlJournal("sqlite://"), Destination(refuse=["4"])
    send(journal, *map(str, range(10)))
    bus = bus_to(journal, there=there)
    bus.start()
    until(lambda: journal.outbox_sizes() == {})
    bus.stop()
    assert there.got == [str(n) for n in range(10) if n != 4]
    (kept,) = journal.read(kinds=[UNDELIVERABLE])
    assert kept.data["event"]["id"] == "4"
    assert kept.data["status"] == 422


def test_an_idle_bus_asks_nobody() -> None:
    journal, there = SqlJournal("sqlite://"), Destination()
    bus = bus_to(journal, there=there)
    bus.start()
    with journal.transaction() as transaction:
        transaction.put_state("k", 1)
    time.sleep(0.1)
    bus.stop()
    assert there.calls == 0


def test_in_memory_events_reach_their_handler_in_the_thread_that_committed() -> None:
    journal = SqlJournal("sqlite://")
    got: list[tuple[str, int]] = []

    def planner(arrived: CloudEvent) -> None:
        got.append((arrived.id, threading.get_ident()))
        if arrived.id == "1":
            send(journal, "2", to="planner")

    bus = MemoryBus([journal], {"planner": planner})
    bus.start()
    send(journal, "1", to="planner")
    assert got == [("1", threading.get_ident()), ("2", threading.get_ident())]
    assert journal.outbox_sizes() == {}
