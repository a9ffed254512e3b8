"""What a quota leaves no room for is tried again until there is some."""

import pytest

from autonomic.platforms.kubernetes.steps.for_room import ForRoom
from autonomic.seams.clock import VirtualClock
from autonomic.seams.errors import Retryable


def test_what_finds_no_room_is_tried_until_it_is_made_or_nobody_wants_it() -> None:
    clock, tries = VirtualClock(), list[str]()
    waiting = ForRoom(clock)
    room: set[str] = set()

    def make(name: str) -> None:
        tries.append(name)
        if name == "away":
            raise Retryable("the API server is away")
        if name not in room:
            waiting.wait(name, lambda: make(name))

    for name in ("stays", "goes"):
        waiting.wait(name, lambda name=name: make(name))
    waiting.look()
    assert tries == []
    clock.advance(5)
    waiting.look()
    assert tries == ["stays", "goes"]
    waiting.forget("goes")
    clock.advance(5)
    room.add("stays")
    for _ in range(3):
        waiting.look()
        clock.advance(5)
    assert tries == ["stays", "goes", "stays"]
    waiting.wait("away", lambda: make("away"))
    for _ in range(2):
        clock.advance(5)
        with pytest.raises(Retryable):
            waiting.look()
    assert tries[-2:] == ["away", "away"]
