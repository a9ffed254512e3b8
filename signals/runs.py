"""What the platform reports as events: the ends of runs, with the workflow as their subject, and restarts of its parts."""

from collections.abc import Callable
from typing import Any

from autonomic.seams import platform
from autonomic.seams.event import Event
from autonomic.seams.event_types import PART_RESTARTED
from autonomic.seams.platform import Notice

PREFIX = "dev.autonomic.run."
RUN_TYPES = tuple(f"{PREFIX}{status}" for status in ("failed", "succeeded", "stopped"))
EVENT_EXPIRES_SECONDS = 300.0
HOST_TYPES = (*RUN_TYPES, PART_RESTARTED)
"""What comes from notices."""

Watch = Callable[[int], list[Notice]]
"""cursor -> the platform's notices after it; raises `AutonomicError`."""


class RunEvents:
    """The notices of a platform of the end of a run, and of a part that was started again. Without a cursor it begins at the present."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def watch(self, cursor: Any) -> tuple[list[Event], Any]:
        """The events after `cursor` and the cursor after them.

        Raises:
            AutonomicError: the platform does not answer.
        """
        notices = self._watch(cursor or 0)
        events = [] if cursor is None else [_event(notice) for notice in notices if _type(notice) in HOST_TYPES]
        return events, notices[-1].cursor if notices else cursor or 0

    def close(self) -> None:
        """Nothing is kept open."""


def _type(notice: Notice) -> str:
    if notice.kind == platform.PART_RESTARTED:
        return PART_RESTARTED
    kind, _, status = notice.kind.partition("_")
    return f"{PREFIX}{status}" if kind == "run" else ""


def _event(notice: Notice) -> Event:
    if notice.kind == platform.PART_RESTARTED:
        return Event(
            id=f"restart-{notice.target}-{notice.time:.3f}",
            type=PART_RESTARTED,
            source="host",
            target=notice.target,
            observed_at=notice.time,
            expires_at=notice.time + EVENT_EXPIRES_SECONDS,
            data=notice.data,
        )
    data = {"workflow": notice.target, **{name: notice.data.get(name, "") for name in ("run_id", "status", "detail")}}
    return Event(
        id=f"run-{notice.data.get('run_id', notice.cursor)}-{data['status']}",
        type=_type(notice),
        source="runs",
        target=notice.target,
        observed_at=notice.time,
        expires_at=notice.time + EVENT_EXPIRES_SECONDS,
        data=data,
    )
