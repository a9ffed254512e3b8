"""What is declared against what runs: gaps, what closes them, and the backoff, on a virtual clock."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from autonomic.platforms.host.apps import AppState
from autonomic.platforms.host.converging import ServicesWorld
from autonomic.platforms.host.reconcile import Actual, Backoff, Desired, Gap, Reconciler, compare
from autonomic.seams.clock import VirtualClock
from autonomic.seams.errors import Permanent, Retryable


class Shelf:
    """A world of things by name; `broken` are those that cannot be made, and why."""

    def __init__(self, desired: dict[str, Desired], actual: dict[str, Actual] | None = None) -> None:
        self.desired = desired
        self.actual = actual or {}
        self.broken: dict[str, Exception] = {}
        self.away = ""
        self.closed: list[str] = []

    def gaps(self) -> list[Gap]:
        if self.away:
            raise Retryable(self.away)
        return compare(self.desired, self.actual, dict.fromkeys(self.actual, "shop"))

    def close(self, gap: Gap) -> None:
        self.closed.append(gap.name)
        if gap.name in self.broken:
            raise self.broken[gap.name]
        if gap.close == "delete":
            del self.actual[gap.name]
        else:
            wanted = self.desired[gap.name]
            self.actual[gap.name] = Actual(digest=wanted.digest, replicas=wanted.replicas)


def started(shelf: Shelf) -> tuple[Reconciler, VirtualClock, list[tuple[str, str, dict[str, Any]]]]:
    clock, notices = VirtualClock(), list[tuple[str, str, dict[str, Any]]]()
    return Reconciler(shelf, clock, lambda *notice: notices.append(notice)), clock, notices


WANTED = Desired(target="shop/api", digest="a", replicas=2)


@pytest.mark.parametrize(
    ("found", "close"),
    [
        (None, "create"),
        (Actual(digest="b", replicas=2), "replace"),
        (Actual(digest="a", replicas=3), "scale"),
        (Actual(digest="a", replicas=2, failed="CrashLoopBackOff"), "replace"),
        (Actual(digest="a", replicas=2), None),
        (Actual(), None),
    ],
)
def test_each_difference_has_one_way_to_close_it(found: Actual | None, close: str | None) -> None:
    gaps = compare({"one": WANTED}, {} if found is None else {"one": found})

    assert [gap.close for gap in gaps] == ([close] if close else [])


def test_who_scaled_by_hand_is_named_until_it_is_put_right() -> None:
    shelf = Shelf({"one": WANTED}, {"one": Actual(digest="a", replicas=3, scaled_by="kubectl")})
    reconciler, _, notices = started(shelf)
    said = "one: 2 replicas is declared, 3 replicas is there (scaled by kubectl)"

    assert [str(one) for one in reconciler.turn()] == [said]
    assert notices[0][2]["why"] == "scaled by kubectl"
    assert [str(one) for one in reconciler.turn()] == []


def test_what_is_ours_and_not_declared_is_deleted_and_what_is_not_ours_is_left_alone() -> None:
    gaps = compare({}, {"old": Actual(replicas=1), "foreign": Actual(replicas=1)}, {"old": "shop"})

    assert [(gap.name, gap.close) for gap in gaps] == [("old", "delete")]


def test_whatever_is_missing_comes_back_by_itself_and_both_are_reported() -> None:
    shelf = Shelf({"one": WANTED})
    reconciler, _, notices = started(shelf)

    assert [standing.gap.close for standing in reconciler.turn()] == ["create"]
    assert reconciler.turn() == []
    assert [(kind, target) for kind, target, _ in notices] == [("drifted", "shop/api"), ("converged", "shop/api")]


def test_one_that_cannot_be_made_keeps_no_other_from_being_made_and_its_reason_stands() -> None:
    shelf = Shelf({"bad": WANTED, "good": WANTED, "odd": WANTED})
    shelf.broken = {"bad": Permanent("no model"), "odd": KeyError("surprise")}
    reconciler, _, _ = started(shelf)

    reconciler.turn()
    standing = {one.gap.name: one.error for one in reconciler.turn()}

    assert standing == {"bad": "no model", "odd": "KeyError: 'surprise'"}
    assert "good" in shelf.actual


def test_a_failure_is_tried_again_after_twice_as_long_each_time_but_within_a_minute_and_not_reported_again() -> None:
    shelf = Shelf({"bad": WANTED})
    shelf.broken = {"bad": Permanent("no model")}
    reconciler, clock, notices = started(shelf)
    tries: list[float] = []
    begin = clock.monotonic()

    for _ in range(400):
        before = len(shelf.closed)
        reconciler.turn()
        if len(shelf.closed) > before:
            tries.append(clock.monotonic() - begin)
        clock.sleep(1)

    assert tries[:7] == [0, 1, 3, 7, 15, 31, 63]
    assert {later - earlier for earlier, later in itertools.pairwise(tries[6:])} == {60}
    assert len(notices) == 1


def test_a_gap_that_a_change_is_about_to_close_stands_with_its_backoff_and_is_no_news() -> None:
    shelf = Shelf({"one": WANTED})
    shelf.broken["one"] = Permanent("no code package")
    reconciler, clock, notices = started(shelf)
    reconciler.turn()
    reconciler.turn()
    found, tried, published = shelf.gaps(), len(shelf.closed), len(notices)
    shelf.gaps = lambda: [gap.model_copy(update={"on_hold": True}) for gap in found]  # type: ignore[method-assign]
    clock.sleep(100)
    assert [standing.error for standing in reconciler.turn()] == ["no code package"]
    assert (len(shelf.closed), len(notices)) == (tried, published)
    # one that did not stand before is no gap yet
    fresh, _, first = started(shelf)
    assert fresh.turn() == []
    assert first == []


def test_what_a_change_is_at_work_on_is_left_to_it() -> None:
    services: Any = SimpleNamespace(workflows=dict, made=lambda: {"old": "shop/api", "other": "bar/api"})
    busy: Any = SimpleNamespace(under_way=lambda target: target == "shop/api")
    world = ServicesWorld(services, busy, lambda: dict.fromkeys(("old", "other"), AppState(status="RUNNING", target=1)))
    assert {gap.name: (gap.close, gap.on_hold) for gap in world.gaps()} == {"old": ("delete", True), "other": ("delete", False)}


def test_after_it_was_as_it_should_be_the_next_failure_is_closed_at_once() -> None:
    shelf = Shelf({"one": WANTED})
    shelf.broken = {"one": Permanent("no model")}
    reconciler, clock, _ = started(shelf)
    for _ in range(100):
        reconciler.turn()
        clock.sleep(1)
    shelf.broken = {}
    clock.sleep(60)
    reconciler.turn()
    assert reconciler.turn() == []

    shelf.actual.clear()
    reconciler.turn()

    assert "one" in shelf.actual


def test_a_world_that_does_not_answer_is_told_and_nothing_of_it_is_forgotten() -> None:
    shelf = Shelf({"bad": WANTED})
    shelf.broken = {"bad": Permanent("no model")}
    reconciler, _, _ = started(shelf)
    reconciler.turn()
    shelf.away = "the API server does not answer"

    standing = reconciler.turn()

    assert reconciler.missing == "the API server does not answer"
    assert [str(one) for one in standing] == ["bad: 2 replicas is declared, nothing is there (no model)"]


def test_what_stands_is_found_by_its_workflow_and_its_service() -> None:
    shelf = Shelf({"one": WANTED, "two": WANTED.model_copy(update={"target": "shopping"})})
    shelf.broken = {"one": Permanent("x"), "two": Permanent("x")}
    reconciler, _, _ = started(shelf)
    reconciler.turn()

    assert [one.gap.name for one in reconciler.standing("shop")] == ["one"]
    assert [one.gap.name for one in reconciler.standing("shop/api")] == ["one"]
    assert reconciler.standing("shop/other") == []


def test_a_backoff_of_many_failures_does_not_overflow() -> None:
    clock = VirtualClock()
    backoff = Backoff(clock)

    assert max(backoff.tried("one") for _ in range(2000)) == 60
