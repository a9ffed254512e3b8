from typing import Any

import pytest

from autonomic.agents.journal import SqlJournal
from autonomic.agents.planner import mirror
from autonomic.seams.clock import VirtualClock
from autonomic.seams.errors import Retryable
from autonomic.seams.platform import Notice
from autonomic.seams.state import RunState


class Platform:
    def __init__(self) -> None:
        self.known: list[RunState] = []
        self.notices: list[Notice] = []
        self.asked = 0
        self.away = False

    def runs(self) -> Any:
        self.asked += 1
        return self.known

    def watch(self, cursor: int) -> list[Notice]:
        if self.away:
            raise Retryable("away")
        return [notice for notice in self.notices if notice.cursor > cursor]


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def journal() -> SqlJournal:
    return SqlJournal("sqlite://")


def copier(journal: SqlJournal, platform: Platform) -> mirror.RunMirror:
    return mirror.RunMirror(journal, VirtualClock(), platform)


def test_each_change_of_a_run_is_recorded_once(journal: SqlJournal, platform: Platform) -> None:
    copies = copier(journal, platform)
    platform.known = [RunState(id="r", workflow="w", status="running", started_at=1.0)]
    copies.copy()
    copies.copy()
    platform.known = [platform.known[0].model_copy(update={"status": "succeeded"})]
    copies.copy()
    assert [record.data["status"] for record in journal.read(kinds=[mirror.RUN])] == ["running", "succeeded"]


def test_a_run_that_ended_stays_when_the_platform_forgets_it_or_says_otherwise(journal: SqlJournal, platform: Platform) -> None:
    platform.known = [RunState(id="r", workflow="w", status="succeeded", started_at=1.0)]
    copier(journal, platform).copy()
    platform.known = [RunState(id="r", workflow="w", status="pending"), RunState(id="s", workflow="w", status="running", started_at=2.0)]
    copier(journal, platform).copy()
    platform.known = []
    copier(journal, platform).copy()
    assert [(run.id, run.status) for run in mirror.runs(journal)] == [("s", "running"), ("r", "succeeded")]
    assert mirror.run(journal, "unknown") is None


def test_runs_are_not_asked_for_while_nothing_moves(journal: SqlJournal, platform: Platform) -> None:
    copies = copier(journal, platform)
    copies.copy()
    for _ in range(3):
        copies.copy()
    assert platform.asked == 1
    platform.notices = [Notice(cursor=1, time=1.0, kind="run_started", target="w")]
    copies.copy()
    assert platform.asked == 2
    assert [record.subject for record in journal.read(kinds=[mirror.NOTICE])] == ["w"]
    copies.copy()
    assert len(journal.read(kinds=[mirror.NOTICE])) == 1


def test_a_part_of_the_platform_that_was_started_again_is_an_event(journal: SqlJournal, platform: Platform) -> None:
    data = {"part": "front", "why": "HAProxy had ended"}
    platform.notices = [Notice(cursor=1, time=1.0, kind="part_restarted", target="front", data=data)]
    copier(journal, platform).copy()
    copier(journal, platform).copy()
    (event,) = journal.read(kinds=["event"])
    assert (event.subject, event.data["type"], event.data["data"]) == ("front", "dev.autonomic.part.restarted", data)


def test_a_platform_that_is_away_changes_nothing(journal: SqlJournal, platform: Platform) -> None:
    platform.away = True
    with pytest.raises(Retryable):
        copier(journal, platform).copy()
    assert journal.read() == []


def test_runs_that_ended_long_ago_are_forgotten_and_not_copied_again(journal: SqlJournal, platform: Platform) -> None:
    clock = VirtualClock()
    copies = mirror.RunMirror(journal, clock, platform, keep_seconds=100)
    now = clock.now()
    ended = RunState(id="ended", workflow="w", status="succeeded", started_at=now - 5, finished_at=now)
    running = RunState(id="running", workflow="w", status="running", started_at=now)
    platform.known = [ended, running]
    copies.copy()
    clock.advance(90)
    mirror.forget(journal, clock.now() - 100)
    assert {run.id for run in mirror.runs(journal)} == {"ended", "running"}
    clock.advance(20)
    mirror.forget(journal, clock.now() - 100)
    copies.copy()
    assert {run.id for run in mirror.runs(journal)} == {"running"}
    assert [record.subject for record in journal.read(kinds=[mirror.RUN])] == ["ended", "running"]
