import pytest

from autonomic.platforms.host.causes import MOST_CHARACTERS, cause_of

FRAMES = 'Traceback (most recent call last):\n  File "x.py", line 3, in f\n' + "    more()\n" * 200


AXIS = "numpy.exceptions.AxisError: out of bounds\nand more"


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("two replicas wait for CPUs", "two replicas wait for CPUs"),
        (f"It failed twice.\n{FRAMES}ValueError: no such thing", "ValueError: no such thing"),
        (f"{FRAMES}KeyError: 'a'\n\nDuring handling\n\n{FRAMES}{AXIS}", AXIS),
        (
            f"{FRAMES}autonomic.seams.errors.Permanent: no class Net\n\nThe above exception was\n{FRAMES}RuntimeError: it failed",
            "no class Net",
        ),
        (f"{FRAMES}{'x' * 900}", "x" * MOST_CHARACTERS),
    ],
)
def test_the_cause_is_what_is_left_of_a_traceback(message: str, cause: str) -> None:
    assert cause_of(message) == cause
