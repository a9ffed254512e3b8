from autonomic.agents.planner.retention import EVERY_SECONDS, Retention
from autonomic.seams.clock import VirtualClock


def test_it_forgets_once_an_hour_while_its_planner_acts() -> None:
    clock = VirtualClock()
    asked: list[float] = []
    active = True
    Retention(clock, 100.0, lambda: active, [asked.append]).start()
    clock.advance(120)
    assert asked == [clock.now() - 60 - 100]
    active = False
    clock.advance(2 * EVERY_SECONDS)
    assert len(asked) == 1
    active = True
    clock.advance(EVERY_SECONDS)
    assert len(asked) == 2


def test_what_cannot_be_forgotten_keeps_nothing_else() -> None:
    clock = VirtualClock()
    asked: list[float] = []

    def broken(before: float) -> None:
        raise OSError("the disk is full")

    Retention(clock, 100.0, lambda: True, [broken, asked.append]).start()
    clock.advance(120 + EVERY_SECONDS)
    assert len(asked) == 2
