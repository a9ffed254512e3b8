import threading
from collections.abc import Callable, Iterator

import pytest

from autonomic.agents.journal import Committed, SqlJournal
from autonomic.seams.event import CloudEvent
from autonomic.seams.journal import Record, StateConflict


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def journal(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[SqlJournal]:
    opened = SqlJournal("sqlite://" if request.param == "memory" else new_database(request.param))
    yield opened
    opened.close()


def event(identifier: str, source: str = "test") -> CloudEvent:
    return CloudEvent(id=identifier, source=source, type="t", data={"n": identifier})


def record(kind: str, subject: str = "", time: float = 1.0) -> Record:
    return Record(time=time, kind=kind, subject=subject, data={"kind": kind})


def write(journal: SqlJournal, value: object) -> None:
    with journal.transaction() as transaction:
        transaction.append(record("a"))
        transaction.put_state("k", value)


def write_and_raise(journal: SqlJournal) -> None:
    with journal.transaction() as transaction:
        transaction.append(record("a"))
        transaction.put_state("k", 1)
        transaction.send("planner", event("1"))
        transaction.accept(event("2"))
        raise ZeroDivisionError


def test_a_transaction_that_raises_leaves_nothing(journal: SqlJournal) -> None:
    with pytest.raises(ZeroDivisionError):
        write_and_raise(journal)
    assert journal.read() == []
    assert journal.state("k") == (None, 0)
    assert journal.outbox_sizes() == {}
    with journal.transaction() as transaction:
        assert transaction.accept(event("2"))


def test_records_come_back_in_the_order_of_their_commits(journal: SqlJournal) -> None:
    with journal.transaction() as transaction:
        first = transaction.append(record("a", "x"))
        transaction.append_many([record("b", "x"), record("a", "y")])
    assert [found.kind for found in journal.read()] == ["a", "b", "a"]
    assert [found.cursor for found in journal.read(first, kinds=["a"])] == [3]
    assert [found.cursor for found in journal.read(subject="x")] == [1, 2]
    assert [found.cursor for found in journal.latest(kinds=["a", "b"], limit=2)] == [3, 2]
    assert [found.cursor for found in journal.latest(kinds=["a", "b"], before=2)] == [1]
    assert journal.last_cursor() == 3


def test_a_state_is_put_only_against_its_newest_version(journal: SqlJournal) -> None:
    with journal.transaction() as transaction:
        assert transaction.put_state("k", {"a": 1}, expected_version=0) == 1
        assert transaction.put_state("k", {"a": 2}, expected_version=1) == 2
    with pytest.raises(StateConflict, match="has version 2, not 1"), journal.transaction() as transaction:
        transaction.put_state("k", {"a": 3}, expected_version=1)
    assert journal.state("k") == ({"a": 2}, 2)
    with journal.transaction() as transaction:
        transaction.delete_state("k")
    assert journal.state("k") == (None, 0)


def test_states_are_found_by_prefix_and_not_beyond_it(journal: SqlJournal) -> None:
    with journal.transaction() as transaction:
        transaction.put_states({"a/1": 1, "a/ü": 2, "a0": 3, "b/1": 4, "A/1": 5, "a_%": 6})
    assert journal.states("a/") == {"a/1": 1, "a/ü": 2}


def test_an_event_that_comes_twice_is_accepted_once(journal: SqlJournal) -> None:
    with journal.transaction() as transaction:
        assert transaction.accept(event("1"))
        assert not transaction.accept(event("1"))
        assert transaction.accept(event("1", source="other"))
        batch = [event("3"), event("1"), event("2"), event("3")]
        assert [new.id for new in transaction.accept_many(batch)] == ["3", "2"]
    with journal.transaction() as transaction:
        assert transaction.accept_many(batch) == []


def test_the_outbox_keeps_the_order_of_each_destination(journal: SqlJournal) -> None:
    with journal.transaction() as transaction:
        transaction.send_many("planner", [event("1"), event("2")])
        transaction.send("host", event("3"))
        transaction.send("planner", event("4"))
    waiting = journal.outbox("planner")
    assert [CloudEvent.model_validate_json(text).id for _, text in waiting] == ["1", "2", "4"]
    journal.delivered([sequence for sequence, _ in waiting[:2]])
    assert journal.outbox_sizes() == {"planner": 1, "host": 1}


def test_who_listens_is_told_after_the_commit_and_not_of_a_rollback(journal: SqlJournal) -> None:
    told: list[tuple[Committed, int]] = []
    journal.listen(lambda committed: told.append((committed, journal.last_cursor())))
    with journal.transaction() as transaction:
        transaction.put_state("k", 1)
    assert told == []
    with journal.transaction() as transaction:
        transaction.append(record("a"))
        transaction.send("planner", event("1"))
    with pytest.raises(ZeroDivisionError):
        write_and_raise(journal)
    assert told == [(Committed(frozenset({"planner"}), True), 1)]


def test_who_writes_reads_what_they_wrote(journal: SqlJournal) -> None:
    with journal.transaction() as transaction:
        transaction.put_state("k", 1)
        assert journal.states("k") == {"k": 1}
        with pytest.raises(RuntimeError, match="transaction is open"), journal.transaction():
            pass


def test_threads_share_a_journal_without_losing_a_write(journal: SqlJournal) -> None:
    def count() -> None:
        for _ in range(50):
            with journal.transaction() as transaction:
                value, version = transaction.state("n")
                transaction.put_state("n", (value or 0) + 1, version)
                transaction.append(record("count"))
            journal.read(limit=1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.state("n") == (200, 200)
    assert journal.last_cursor() == 200


def test_what_is_not_json_is_refused_and_nothing_is_written(journal: SqlJournal) -> None:
    with pytest.raises(TypeError):
        write(journal, object())
    assert journal.read() == []


def test_a_number_or_text_that_no_database_takes_costs_itself_alone(journal: SqlJournal) -> None:
    write(journal, {"good": 1, "nan": float("nan"), "half": "a\ud83d"})
    assert journal.state("k")[0] == {"good": 1, "nan": None, "half": "a\ufffd"}
    assert len(journal.read()) == 1


def test_old_records_are_forgotten_and_what_is_known_is_kept(journal: SqlJournal) -> None:
    with journal.transaction() as transaction:
        transaction.append_many([record("event", time=1), record("decision", time=1), record("event", time=9)])
        transaction.put_state("known", 1)
    journal.prune(5)
    assert [(found.kind, found.time) for found in journal.read()] == [("event", 9)]
    assert journal.states("") == {"known": 1}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_second_process_sees_what_the_first_committed(new_database: Callable[[str], str], kind: str) -> None:
    url = new_database(kind)
    first, second = SqlJournal(url), SqlJournal(url)
    with first.transaction() as transaction:
        transaction.append(record("a"))
    assert [found.kind for found in second.read()] == ["a"]
    first.close()
    second.close()
