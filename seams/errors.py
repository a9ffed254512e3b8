"""The errors of the product. Each message quotes what was received, says what is allowed and what happens next."""

from collections.abc import Sequence
from dataclasses import dataclass

from autonomic.seams.text import shown


class AutonomicError(Exception):
    """Base of every error that this product raises on purpose. Its message holds no password and fits UTF-8."""

    def __init__(self, message: str = "") -> None:
        super().__init__(shown(message))


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of one document, placed where its writer finds it (lines and columns count from 1)."""

    message: str
    file: str = "<input>"
    line: int = 1
    column: int = 1
    path: str = ""

    def __str__(self) -> str:
        where = f" ({self.path})" if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {self.message}{where}"


class SpecError(AutonomicError):
    """What a user wrote cannot be accepted; carries every problem of every file at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Retryable(AutonomicError):
    """It may work later; try again after `delay_seconds`."""

    def __init__(self, message: str, delay_seconds: float = 1.0) -> None:
        self.delay_seconds = delay_seconds
        super().__init__(message)


class Permanent(AutonomicError):
    """It will not work however often it is tried; somebody has to change something first."""
