from graphlib import CycleError
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.workflows.spec.graph import ancestors, find_cycle, last_steps, topological_order, unknown_needs

DIAMOND = {"load": (), "left": ("load",), "right": ("load",), "join": ("left", "right"), "alone": ()}


def test_the_order_puts_every_step_after_what_it_needs() -> None:
    order = topological_order(DIAMOND)
    assert sorted(order) == sorted(DIAMOND)
    assert all(order.index(name) < order.index(step) for step, names in DIAMOND.items() for name in names)


def test_a_cycle_is_named_with_its_members_in_the_direction_of_needs() -> None:
    needs = {"a": ("c",), "b": ("a",), "c": ("b",), "d": ("a",)}
    cycle = find_cycle(needs)
    assert cycle[0] == cycle[-1]
    assert set(cycle) == {"a", "b", "c"}
    assert all(after in needs[before] for before, after in pairwise(cycle))
    with pytest.raises(CycleError):
        topological_order(needs)


def test_a_step_that_needs_itself_is_a_cycle() -> None:
    assert find_cycle({"a": ("a",)}) == ("a", "a")


def test_no_cycle_is_found_where_there_is_none() -> None:
    assert find_cycle(DIAMOND) == ()


def test_unknown_needs_are_listed_with_the_step() -> None:
    assert unknown_needs({"a": ("b", "x"), "b": ()}) == [("a", "x")]


def test_ancestors_and_last_steps() -> None:
    assert ancestors(DIAMOND, "join") == {"left", "right", "load"}
    assert ancestors(DIAMOND, "load") == frozenset()
    assert last_steps(DIAMOND) == ("join", "alone")


@given(st.integers(1, 8).flatmap(lambda n: st.lists(st.sets(st.integers(0, n - 1)), min_size=n, max_size=n)))
def test_there_is_either_a_cycle_or_an_order(edges: list[set[int]]) -> None:
    needs = {str(step): tuple(str(name) for name in sorted(names)) for step, names in enumerate(edges)}
    cycle = find_cycle(needs)
    if cycle:
        assert all(after in needs[before] for before, after in pairwise(cycle))
    else:
        order = topological_order(needs)
        assert all(order.index(name) < order.index(step) for step, names in needs.items() for name in names)
