"""Events, and the CloudEvents 1.0 envelope in which they travel."""

from datetime import UTC, datetime
from typing import Any, Literal

from autonomic.seams.event_types import PART_RESTARTED
from autonomic.seams.reading import Reading
from autonomic.seams.word import Word

FIRED = "dev.autonomic.trigger.fired"
SPECS_APPLIED = "dev.autonomic.specs.applied"


class Event(Word):
    """Something happened that a strategy may act on.

    A fired trigger carries the readings that fired it. `expires_at` (seconds since the epoch): an event that is
    handled later is recorded and not acted on. `by` holds the label values of a trigger that fires per label.
    `since`: the condition that fired it began to hold then, None where there is none.
    """

    id: str
    type: str = FIRED
    source: str
    strategy: str = ""
    trigger: str = ""
    target: str = ""
    observed_at: float
    expires_at: float
    since: float | None = None
    readings: dict[str, Reading] = {}
    by: dict[str, str] = {}
    data: dict[str, Any] = {}


class CloudEvent(Word):
    """The structured JSON form of CloudEvents 1.0; `data` is an `Event` or any caller's document."""

    model_config = {"extra": "allow", "frozen": True}

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    data: Any = None


def part_restarted(part: str, why: str, now: float, source: str) -> CloudEvent:
    """The event that a part of the installation was started again at the time `now` (seconds since the epoch)."""
    return CloudEvent(
        id=f"restart-{part}-{now:.3f}",
        source=f"/autonomic/{source}",
        type=PART_RESTARTED,
        subject=part,
        time=datetime.fromtimestamp(now, UTC).isoformat(),
        datacontenttype="application/json",
        data={"part": part, "why": why},
    )
