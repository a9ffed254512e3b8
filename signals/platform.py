"""`platform`: numbers of a target's state, as the platform sees it."""

from collections.abc import Callable, Sequence

from autonomic.seams.reading import Reading, error, missing, number
from autonomic.seams.signal import Answer, Query
from autonomic.seams.state import FINISHED, State
from autonomic.signals.guard import asked, guarded

Observe = Callable[[str], State]
"""The state of a target; raises `AutonomicError`."""


class PlatformSignal:
    """Readings of states; each target is observed once, however many queries there are."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe

    def read(self, queries: Sequence[Query], now: float) -> list[Answer]:
        states: dict[str, State | str] = {}
        for query in queries:
            if query.target not in states:
                states[query.target] = asked(lambda query=query: self._observe(query.target))
        return [guarded("platform", now, lambda query=query: _answer(query, states[query.target], now)) for query in queries]


def _answer(query: Query, state: State | str, now: float) -> Reading:
    if isinstance(state, str):
        return error(now, "platform", state)
    value = value_of(state, query.args["platform"])
    if value is None:
        return missing(now, "platform", f"{state.target} is {state.kind} and has no {query.args['platform']}")
    return number(value, now, "platform")


def value_of(state: State, name: str) -> float | None:
    """What `name` (see `PlatformQuery`) is in `state`; None where the target has no such thing."""
    if name == "active_runs":
        # a workflow that never ran is unknown to the platform, and has no run that is active
        return float(sum(run.status not in FINISHED for run in state.runs))
    service = state.service
    if service is None:
        return None
    if name in ("queued", "in_flight"):
        return float(getattr(service, name))
    role, _, what = name.partition("_")
    if role not in ("champion", "backup", "canary"):
        role, what = "champion", name
    if what == "weight":
        return float(service.weights.get(role, 0))
    found = service.roles.get(role)
    if found is None:
        return None if role == "champion" else 0.0
    return float(found.ready if what == "ready_replicas" else found.wanted)
