"""The end of a run is an event that strategies act on, once, whoever restarts in between."""

import pytest

from autonomic.platforms.host.notices import Notices
from autonomic.platforms.host.store import MemoryStore
from autonomic.seams.clock import VirtualClock
from autonomic.signals.kubernetes import concerns
from autonomic.signals.runs import RUN_TYPES, RunEvents


def test_the_end_of_a_run_is_an_event_that_comes_once() -> None:
    store, clock = MemoryStore(), VirtualClock()
    notices = Notices(store, clock)
    notices.tell("run_failed", "training", {"run_id": "run-0", "status": "failed", "detail": "before anybody looked"})
    events, cursor = RunEvents(notices.watch).watch(None)
    assert events == []
    notices.tell("run_running", "training", {"run_id": "run-1", "status": "running", "detail": ""})
    notices.tell("deploy", "wine/api", {})
    notices.tell("run_failed", "training", {"run_id": "run-1", "status": "failed", "detail": "fit: out of memory"})
    notices.tell("run_succeeded", "training", {"run_id": "run-2", "status": "succeeded", "detail": ""})
    # the host and the monitor both start again
    events, cursor = RunEvents(Notices(store, clock).watch).watch(cursor)
    assert [(event.type, event.target) for event in events] == [
        ("dev.autonomic.run.failed", "training"),
        ("dev.autonomic.run.succeeded", "training"),
    ]
    assert events[0].data == {"workflow": "training", "run_id": "run-1", "status": "failed", "detail": "fit: out of memory"}
    assert RunEvents(notices.watch).watch(cursor) == ([], cursor)


@pytest.mark.parametrize("type_", RUN_TYPES)
def test_a_run_concerns_the_strategies_of_its_workflow(type_: str) -> None:
    assert concerns(type_, "training", "training")
    assert not concerns(type_, "training", "wine/api")


def test_a_part_that_was_started_again_is_an_event_that_concerns_every_strategy() -> None:
    notices = Notices(MemoryStore(), VirtualClock())
    _, cursor = RunEvents(notices.watch).watch(None)
    notices.tell("part_restarted", "front", {"part": "front", "why": "HAProxy had ended"})
    ((event,), _) = RunEvents(notices.watch).watch(cursor)
    assert (event.type, event.target, event.data["why"]) == ("dev.autonomic.part.restarted", "front", "HAProxy had ended")
    assert concerns(event.type, event.target, "wine/api")
