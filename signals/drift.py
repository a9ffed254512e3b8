"""`drift`: what a service's detector says of its predictions, asked from the host."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autonomic.seams.reading import Reading, error, missing, number
from autonomic.seams.signal import Answer, Query
from autonomic.signals.guard import asked, guarded

Drift = Callable[[str, str], Mapping[str, Any] | None]
"""(workflow, service) -> {"time": seconds, "values": {name: number}}, None without such a service; raises `AutonomicError`."""


class DriftSignal:
    """Readings of detectors; each target is asked once, however many queries there are."""

    def __init__(self, drift: Drift) -> None:
        self._drift = drift

    def read(self, queries: Sequence[Query], now: float) -> list[Answer]:
        told: dict[str, Mapping[str, Any] | str] = {}
        for query in queries:
            if query.target not in told:
                told[query.target] = self._ask(query.target)
        return [guarded("drift", now, lambda query=query: _answer(query, told[query.target], now)) for query in queries]

    def _ask(self, target: str) -> Mapping[str, Any] | str:
        workflow, _, service = target.partition("/")
        if not service:
            return f"drift is of a service; the target {target!r} names none"
        return asked(lambda: self._drift(workflow, service) or {})


def _answer(query: Query, told: Mapping[str, Any] | str, now: float) -> Reading:
    if isinstance(told, str):
        return error(now, "drift", told)
    if told.get("error"):
        return error(now, "drift", f"the detector of {query.target} does not work: {told['error']}")
    name = query.args.get("drift", "drifted")
    values = told.get("values") or {}
    time = told.get("time")
    if name not in values or values[name] is None or not isinstance(time, int | float):
        return missing(now, "drift", f"the detector has not said {name!r}; it says {', '.join(sorted(values)) or 'nothing yet'}")
    found = number(values[name], float(time), "drift")
    return found.model_copy(update={"detail": str(told["warning"])}) if found.status == "ok" and told.get("warning") else found
