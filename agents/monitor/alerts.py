"""Alertmanager's webhook notifications as events."""

import hashlib
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from autonomic.seams.event import CloudEvent

FIRING = "dev.autonomic.alert.firing"
RESOLVED = "dev.autonomic.alert.resolved"
MOST_ALERTS = 2000
Turns = Callable[[str, str], int]
"""(alert, status) -> how often the alert had come back to this status before."""


def _texts(value: Any) -> Any:
    """Null stands for no text, and a number for its own."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        return value
    return {name: "" if item is None else item if isinstance(item, str) else str(item) for name, item in value.items()}


Texts = Annotated[dict[str, str], BeforeValidator(_texts)]


class Alert(BaseModel):
    """One alert of a notification."""

    model_config = ConfigDict(extra="allow")

    status: Literal["firing", "resolved"]
    labels: Texts
    annotations: Texts = {}
    startsAt: str  # noqa: N815 Alertmanager's name
    endsAt: str | None = None  # noqa: N815 Alertmanager's name
    fingerprint: str | None = ""
    generatorURL: str | None = ""  # noqa: N815 Alertmanager's name


class Notification(BaseModel):
    """Alertmanager's webhook document (version 4), as it is sent."""

    model_config = ConfigDict(extra="allow")

    version: str | None = "4"
    status: str | None = ""
    receiver: str | None = ""
    externalURL: str | None = ""  # noqa: N815 Alertmanager's name
    alerts: list[Any]


def events_of(notification: Notification, turns: Turns) -> tuple[list[CloudEvent], list[str]]:
    """One event for each alert, and what is wrong with those that are none: one bad alert spoils no other.

    An alert that is notified again as it stands (same fingerprint, start and status) is the same event; one that fires again after
    it was resolved is another, also where its start is the same. `turns` counts how often each has changed its status.
    """
    events: list[CloudEvent] = []
    problems: list[str] = []
    for place, document in enumerate(notification.alerts):
        try:
            events.append(_event(notification, Alert.model_validate(document), turns))
        except ValidationError as invalid:
            first = invalid.errors()[0]
            problems.append(f"alerts[{place}]: {'.'.join(map(str, first['loc'])) or 'the alert'}: {first['msg']}")
        except (ValueError, OverflowError) as invalid:
            problems.append(f"alerts[{place}]: startsAt: {invalid}")
    return events, problems


def _event(notification: Notification, alert: Alert, turns: Turns) -> CloudEvent:
    fingerprint = alert.fingerprint or _fingerprint(alert.labels)
    starts = _time(alert.startsAt)
    turn = turns(f"{fingerprint}-{starts}", alert.status)
    data: dict[str, Any] = {
        "fingerprint": fingerprint,
        "receiver": notification.receiver or "",
        **alert.model_dump(mode="json", exclude={"fingerprint"}),
    }
    data["value"] = 1 if alert.status == "firing" else 0
    return CloudEvent(
        id=f"{fingerprint}-{starts}-{alert.status}{f'-{turn}' if turn else ''}",
        source=notification.externalURL or "/alertmanager",
        type=FIRING if alert.status == "firing" else RESOLVED,
        subject=alert.labels.get("alertname"),
        time=starts,
        datacontenttype="application/json",
        data=data,
    )


def _time(text: str) -> str:
    """The start in UTC; of a time at the edge of the calendar (year 1) the text as it is."""
    time = datetime.fromisoformat(text)
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    try:
        return aware.astimezone(UTC).isoformat()
    except OverflowError:
        return aware.isoformat()


class StatusTurns:
    """Counts how often each alert has changed its status since it first came; what is kept is handed to `keep`."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known: dict[str, list[Any]] = {key: list(value) for key, value in known.items()}
        self._lock = threading.Lock()

    def __call__(self, alert: str, status: str) -> int:
        """How often an alert had come back to a status before: 0 the first time, and as often as it is repeated."""
        with self._lock:
            last, turns = self._known.pop(alert, ["", -1])
            turns += last != status
            self._known[alert] = [status, turns]
            while len(self._known) > MOST_ALERTS:
                del self._known[next(iter(self._known))]
            return turns // 2

    def kept(self) -> dict[str, Any]:
        """What is to be known after a restart."""
        with self._lock:
            return {key: list(value) for key, value in self._known.items()}


def _fingerprint(labels: dict[str, str]) -> str:
    return hashlib.sha256(repr(sorted(labels.items())).encode()).hexdigest()[:16]
