import threading

import pytest

from autonomic.platforms.kubernetes.objects.store import Lost
from autonomic.platforms.kubernetes.patience import insist, until_found
from autonomic.seams.errors import Retryable


def test_what_comes_late_is_found_and_what_does_not_come_is_none() -> None:
    answers = iter([None, None, "result"])
    assert until_found(lambda: next(answers), threading.Event(), 60) == "result"
    assert until_found(lambda: None, threading.Event(), 0) is None


def test_a_question_that_fails_for_now_is_asked_again() -> None:
    failures = iter([Retryable("away", 0.0), None])

    def call() -> str:
        if (failure := next(failures)) is not None:
            raise failure
        return "done"

    assert insist(call, threading.Event()) == "done"


def test_whoever_stops_looks_no_further() -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Lost, match="stopping"):
        until_found(lambda: None, stopping, 60)
