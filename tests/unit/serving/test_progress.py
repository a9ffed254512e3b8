import pytest

from autonomic.workflows.serving.progress import Progress


@pytest.mark.parametrize(
    ("timeout", "busy", "silent", "ready", "dead"),
    [
        (10.0, 0.0, 0.0, True, False),
        (10.0, 9.0, 0.0, True, False),
        (10.0, 11.0, 0.0, False, False),
        (10.0, 31.0, 0.0, False, True),
        (20.0, 31.0, 0.0, False, False),
        (20.0, 61.0, 0.0, False, True),
        (0.1, 0.2, 0.0, False, False),
        (0.1, 29.0, 0.0, False, False),
        (0.0, 59.0, 0.0, True, False),
        (0.0, 200.0, 0.0, False, True),
        (10.0, 0.0, 29.0, True, False),
        (10.0, 0.0, 31.0, True, True),
    ],
)
def test_a_batch_that_nobody_waits_for_is_no_readiness_and_one_that_hangs_is_death(
    timeout: float, busy: float, silent: float, ready: bool, dead: bool
) -> None:
    now = [100.0]
    progress = Progress(timeout, lambda: busy, lambda: now[0])
    now[0] += 50
    progress.beat()
    now[0] += silent
    assert (not progress.lack_of_readiness()) == ready
    assert bool(progress.death()) == dead
