"""Alertmanager's webhook notifications as events."""

import hashlib
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from autonomic.seams.event import CloudEvent

FIRING = "dev.autonomic.alert.firing"
RESOLVED = "dev.autonomic.alert.resolved"


class Alert(BaseModel):
    """One alert of a notification."""

    model_config = ConfigDict(extra="allow")

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    startsAt: datetime  # noqa: N815 Alertmanager's name
    endsAt: datetime | None = None  # noqa: N815 Alertmanager's name
    fingerprint: str = ""
    generatorURL: str = ""  # noqa: N815 Alertmanager's name


class Notification(BaseModel):
    """Alertmanager's webhook document (version 4), as it is sent."""

    model_config = ConfigDict(extra="allow")

    version: str = "4"
    status: str = ""
    receiver: str = ""
    externalURL: str = ""  # noqa: N815 Alertmanager's name
    alerts: list[Alert]


def events_of(notification: Notification) -> list[CloudEvent]:
    """One event for each alert; an alert that is notified again (same fingerprint, start and status) is the same event."""
    return [_event(notification, alert) for alert in notification.alerts]


def _event(notification: Notification, alert: Alert) -> CloudEvent:
    fingerprint = alert.fingerprint or _fingerprint(alert.labels)
    starts = alert.startsAt if alert.startsAt.tzinfo else alert.startsAt.replace(tzinfo=UTC)
    data: dict[str, Any] = {
        "fingerprint": fingerprint,
        "receiver": notification.receiver,
        **alert.model_dump(mode="json", exclude={"fingerprint"}),
    }
    data["value"] = 1 if alert.status == "firing" else 0
    return CloudEvent(
        id=f"{fingerprint}-{starts.astimezone(UTC).isoformat()}-{alert.status}",
        source=notification.externalURL or "/alertmanager",
        type=FIRING if alert.status == "firing" else RESOLVED,
        subject=alert.labels.get("alertname"),
        time=starts.isoformat(),
        datacontenttype="application/json",
        data=data,
    )


def _fingerprint(labels: dict[str, str]) -> str:
    return hashlib.sha256(repr(sorted(labels.items())).encode()).hexdigest()[:16]
