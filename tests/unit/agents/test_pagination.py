import pytest

from autonomic.agents.pagination import number_of, page_of
from autonomic.agents.problems import ProblemError


def test_pages_cover_a_list_once() -> None:
    names = [f"n{number:02}" for number in range(7)]
    seen: list[str] = []
    cursor = ""
    for _ in range(10):
        page = page_of(reversed(names), str, cursor, 3)
        seen += page.items
        cursor = page.next
        if not cursor:
            break
    assert seen == names


def test_a_list_that_fits_has_no_next_page() -> None:
    assert page_of(["a", "b"], str, "", 2).next == ""
    assert page_of([], str, "", 2).items == []


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "٣", "9" * 19])
def test_a_cursor_that_is_no_number_is_refused(cursor: str) -> None:
    with pytest.raises(ProblemError, match="cursor"):
        number_of(cursor)


def test_an_empty_cursor_is_the_first_page() -> None:
    assert number_of("") is None
    assert number_of("12") == 12
