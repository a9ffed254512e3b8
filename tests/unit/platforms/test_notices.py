from autonomic.platforms.host.notices import Notices
from autonomic.platforms.host.store import MemoryStore
from autonomic.seams.clock import VirtualClock


def test_a_watcher_sees_each_notice_once_and_in_order() -> None:
    notices = Notices(MemoryStore(), VirtualClock())
    assert notices.watch(0) == []
    for number in range(3):
        notices.tell("rescaled", "web/api", {"replicas": number})
    seen = notices.watch(0)
    assert [notice.data["replicas"] for notice in seen] == [0, 1, 2]
    assert notices.watch(seen[1].cursor) == seen[2:]
    assert notices.watch(seen[2].cursor) == []


def test_cursors_go_on_after_a_restart_and_the_oldest_notices_go() -> None:
    store, clock = MemoryStore(), VirtualClock()
    first = Notices(store, clock, kept=3)
    for _ in range(5):
        first.tell("rescaled", "web/api", {})
    again = Notices(store, clock, kept=3)
    assert [notice.cursor for notice in again.watch(0)] == [3, 4, 5]
    again.tell("rescaled", "web/api", {})
    assert [notice.cursor for notice in again.watch(0)] == [4, 5, 6]
    assert len(store.keys("notice/")) == 3


def test_a_notice_is_kept_as_text_that_utf_8_holds_and_one_that_cannot_be_read_hides_no_other() -> None:
    store, clock = MemoryStore(), VirtualClock()
    Notices(store, clock).tell("run_failed", "w", {"detail": "caf\udce9.csv has no header"})
    store.put("notice/000000000000", {"cursor": "no number"})
    (notice,) = Notices(store, clock).watch(0)
    assert notice.data == {"detail": "caf\ufffd.csv has no header"}
