import pytest

from autonomic.workflows.runs.attempt_logs import joined


@pytest.mark.parametrize(
    ("logs", "attempt", "tail", "text"),
    [
        ({}, None, None, ""),
        ({1: "a\n"}, None, None, "a\n"),
        ({1: "a", 2: "b\n"}, None, None, "a\n[autonomic: attempt 2]\nb\n"),
        ({2: "b\n", 1: "a\n"}, None, 2, "[autonomic: attempt 2]\nb\n"),
        ({1: None, 2: "b\n"}, None, None, "[autonomic: the log of attempt 1 is gone]\n[autonomic: attempt 2]\nb\n"),
        ({1: "a\n", 2: "b\n"}, 1, None, "a\n"),
        ({1: "a\n", 2: "b\n"}, 2, 1, "b\n"),
        ({1: "a\n"}, 2, None, None),
    ],
)
def test_the_logs_of_attempts_are_put_together_in_order(logs: dict, attempt: int | None, tail: int | None, text: str | None) -> None:
    assert joined(logs, attempt, tail) == text


def test_what_was_printed_stays_the_beginning_when_another_attempt_begins() -> None:
    first = joined({1: "a\n"}) or ""
    assert (joined({1: "a\n", 2: "b"}) or "").startswith(first)
