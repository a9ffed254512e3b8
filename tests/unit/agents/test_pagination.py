import pytest

from autonomic.agents.pagination import number_of, page_after, page_of
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


def test_pages_in_a_given_order_go_on_after_an_item_that_is_not_wanted_any_more() -> None:
    newest_first = ["c", "b", "a"]
    page = page_after(newest_first, str, "", 1)
    assert (page.items, page.next) == (["c"], "c")
    rest = page_after(newest_first, str, page.next, 2, lambda name: name != "c")
    assert (rest.items, rest.next) == (["b", "a"], "")
    assert page_after(newest_first, str, "", 2, lambda name: name != "b").items == ["c", "a"]
    with pytest.raises(ProblemError, match="cursor 'x' is not one that this list gave out"):
        page_after(newest_first, str, "x", 1)


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "٣", "9" * 19])
def test_a_cursor_that_is_no_number_is_refused(cursor: str) -> None:
    with pytest.raises(ProblemError, match="cursor"):
        number_of(cursor)


def test_an_empty_cursor_is_the_first_page() -> None:
    assert number_of("") is None
    assert number_of("12") == 12
