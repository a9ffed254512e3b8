"""The order of steps: a directed graph given as name -> the names it needs."""

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

Needs = Mapping[str, Iterable[str]]


def unknown_needs(needs: Needs) -> list[tuple[str, str]]:
    """(step, name) for every name that a step needs and that is no step."""
    return [(step, name) for step, names in needs.items() for name in names if name not in needs]


def find_cycle(needs: Needs) -> tuple[str, ...]:
    """The members of one cycle in order, the first one again at the end; empty where there is none."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        # graphlib names predecessors first; a reader follows `needs` the other way
        return tuple(reversed(error.args[1]))
    return ()


def topological_order(needs: Needs) -> tuple[str, ...]:
    """Every step after all that it needs.

    Raises:
        graphlib.CycleError: there is no such order.
    """
    return tuple(TopologicalSorter(needs).static_order())


def ancestors(needs: Needs, step: str) -> frozenset[str]:
    """All that `step` needs, directly or through others (itself too where it stands in a cycle)."""
    found: set[str] = set()
    waiting = list(needs.get(step, ()))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += needs.get(name, ())
    return frozenset(found)


def last_steps(needs: Needs) -> tuple[str, ...]:
    """The steps that no other step needs, in the order given."""
    needed = {name for names in needs.values() for name in names}
    return tuple(step for step in needs if step not in needed)
