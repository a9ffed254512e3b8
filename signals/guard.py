"""One bad value never spoils its neighbours: each question and each answer is guarded alone."""

from collections.abc import Callable
from typing import TypeVar

from autonomic.seams.errors import AutonomicError
from autonomic.seams.reading import error
from autonomic.seams.signal import Answer

Found = TypeVar("Found")


def guarded(source: str, now: float, answer: Callable[[], Answer]) -> Answer:
    """What `answer` gives; where it raises, a reading of `source` that is an error and says why."""
    try:
        return answer()
    except Exception as failure:  # noqa: BLE001 whatever a source holds, it costs the one reading that asked for it
        return error(now, source, reason(failure))


def asked(question: Callable[[], Found]) -> Found | str:
    """What `question` gives; where it raises, why."""
    try:
        return question()
    except Exception as failure:  # noqa: BLE001 whatever goes wrong with one target, the others are asked
        return reason(failure)


def reason(failure: Exception) -> str:
    """Why something failed, for a reading: our own errors explain themselves, others need their type."""
    return str(failure) if isinstance(failure, AutonomicError) else f"{type(failure).__name__}: {failure}"
