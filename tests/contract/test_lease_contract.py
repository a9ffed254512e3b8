import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from autonomic.agents.journal import SqlJournal
from autonomic.agents.leases import SqlLeases, process_holder


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    return new_database(request.param)


@pytest.fixture
def journal(url: str) -> Iterator[SqlJournal]:
    opened = SqlJournal(url)
    yield opened
    opened.close()


def test_a_lease_has_one_holder_and_its_token_grows_with_each_new_one(journal: SqlJournal) -> None:
    first, second = SqlLeases(journal, "a"), SqlLeases(journal, "b")
    held = first.acquire("planner", 60)
    assert held is not None
    assert second.acquire("planner", 60) is None
    again = first.acquire("planner", 60)
    assert again is not None
    assert again.token == held.token
    first.release(again)
    taken = second.acquire("planner", 60)
    assert taken is not None
    assert taken.token == held.token + 1
    assert first.renew(held, 60) is None
    first.release(held)
    assert second.holder("planner") == taken


def test_a_lease_that_ran_out_goes_to_the_next_and_cannot_be_renewed(journal: SqlJournal) -> None:
    first, second = SqlLeases(journal, "a"), SqlLeases(journal, "b")
    held = first.acquire("planner", 0.05)
    assert held is not None
    time.sleep(0.1)
    assert second.holder("planner") is None
    taken = second.acquire("planner", 60)
    assert taken is not None
    assert taken.token > held.token
    assert first.renew(held, 60) is None


def test_renewal_moves_the_end_and_keeps_the_token(journal: SqlJournal) -> None:
    leases = SqlLeases(journal, "a")
    held = leases.acquire("planner", 60)
    assert held is not None
    later = leases.renew(held, 200)
    assert later is not None
    assert (later.token, later.expires_at > held.expires_at + 90) == (held.token, True)


def test_targets_are_independent(journal: SqlJournal) -> None:
    assert SqlLeases(journal, "a").acquire("one", 60) is not None
    assert SqlLeases(journal, "b").acquire("two", 60) is not None


def test_the_lease_of_a_dead_process_of_this_machine_is_taken_over_at_once(url: str, journal: SqlJournal) -> None:
    code = (
        "import sys; from autonomic.agents.journal import SqlJournal; from autonomic.agents.leases import SqlLeases, process_holder;"
        f"print(SqlLeases(SqlJournal({url!r}), process_holder()).acquire('planner', 600).token, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        token = int(process.stdout.readline())
        own = SqlLeases(journal, process_holder())
        assert own.acquire("planner", 60) is None
        process.kill()
        process.wait()
        taken = own.acquire("planner", 60)
    assert taken is not None
    assert taken.token == token + 1
