import pytest

from autonomic.agents.journal import SqlJournal
from autonomic.agents.planner.effectors import NOTIFICATION, AgentsEffector, TunerEffector, search_id
from autonomic.seams.errors import Retryable
from autonomic.seams.plan import Change


@pytest.fixture
def journal() -> SqlJournal:
    return SqlJournal("sqlite://")


def change(primitive: str, **to: object) -> Change:
    return Change(key="plan-1.0", primitive=primitive, target="web/api", effector="agents", to=dict(to))


def test_a_message_is_written_once_for_its_key(journal: SqlJournal) -> None:
    effector = AgentsEffector(journal, frozenset({"monitor"}))
    assert effector.lookup("plan-1.0") is None
    first = effector.apply(change("notify", message="look", webhook=None), 1)
    assert effector.apply(change("notify", message="look", webhook=None), 1) == first == effector.lookup("plan-1.0")
    assert [record.data["message"] for record in journal.read(kinds=[NOTIFICATION])] == ["look"]


def test_what_was_done_long_ago_is_forgotten(journal: SqlJournal) -> None:
    effector = AgentsEffector(journal, frozenset({"monitor"}))
    done = effector.apply(change("notify", message="look", webhook=None), 1)
    effector.forget(done.finished_at)
    assert effector.lookup("plan-1.0") == done
    effector.forget(done.finished_at + 0.001)
    assert effector.lookup("plan-1.0") is None


def test_a_call_of_an_agent_goes_through_the_outbox_once(journal: SqlJournal) -> None:
    effector = AgentsEffector(journal, frozenset({"monitor"}))
    for _ in range(2):
        effector.apply(change("call", to="monitor", type="x.y", data={"a": 1}), 1)
    waiting = journal.outbox("monitor")
    assert len(waiting) == 1
    assert '"id":"plan-1.0"' in waiting[0][1]


def test_what_is_no_address_is_refused(journal: SqlJournal) -> None:
    outcome = AgentsEffector(journal, frozenset({"monitor"})).apply(change("call", to="ftp://x", type="x.y"), 1)
    assert outcome.status == "refused"
    assert "ftp://x" in outcome.detail


def test_an_endpoint_that_is_away_is_tried_later_and_nothing_is_written(journal: SqlJournal, free_port: int) -> None:
    effector = AgentsEffector(journal, frozenset())
    with pytest.raises(Retryable):
        effector.apply(change("notify", message="look", webhook=f"http://127.0.0.1:{free_port}/x"), 1)
    assert journal.read() == []
    assert effector.lookup("plan-1.0") is None


def test_a_tuner_that_is_away_is_tried_later(free_port: int) -> None:
    effector = TunerEffector(f"http://127.0.0.1:{free_port}", "token")
    with pytest.raises(Retryable):
        effector.lookup("plan-1.0")
    effector.close()


def test_the_id_of_a_search_follows_from_the_key() -> None:
    assert search_id("plan-1.0") == search_id("plan-1.0") != search_id("plan-1.1")
