from typing import Any

import pytest

from autonomic.agents.monitor.alerts import FIRING, RESOLVED, Notification, events_of

NOTIFICATION: dict[str, Any] = {
    "version": "4",
    "groupKey": '{}:{alertname="HighLatency"}',
    "truncatedAlerts": 0,
    "status": "firing",
    "receiver": "autonomic",
    "groupLabels": {"alertname": "HighLatency"},
    "commonLabels": {"alertname": "HighLatency"},
    "commonAnnotations": {},
    "externalURL": "http://alertmanager:9093",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "HighLatency", "service": "predictor"},
            "annotations": {"summary": "slow"},
            "startsAt": "2026-11-23T18:00:00.000Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus/graph",
            "fingerprint": "b4c2d1",
        },
        {
            "status": "resolved",
            "labels": {"alertname": "HighLatency", "service": "other"},
            "annotations": {},
            "startsAt": "2026-11-23T17:00:00.000Z",
            "endsAt": "2026-11-23T17:30:00.000Z",
            "generatorURL": "http://prometheus/graph",
            "fingerprint": "0f0f0f",
        },
    ],
}


def test_each_alert_is_an_event() -> None:
    firing, resolved = events_of(Notification.model_validate(NOTIFICATION))
    assert (firing.type, resolved.type) == (FIRING, RESOLVED)
    assert firing.source == "http://alertmanager:9093"
    assert firing.subject == "HighLatency"
    assert firing.data["labels"]["service"] == "predictor"
    assert (firing.data["value"], resolved.data["value"]) == (1, 0)


def test_an_alert_that_is_notified_again_is_the_same_event() -> None:
    first = events_of(Notification.model_validate(NOTIFICATION))
    moved = {
        **NOTIFICATION,
        "alerts": [{**NOTIFICATION["alerts"][0], "startsAt": "2026-11-23T19:00:00+01:00", "annotations": {"summary": "x"}}],
    }
    assert events_of(Notification.model_validate(moved))[0].id == first[0].id


@pytest.mark.parametrize("change", [{"startsAt": "2026-11-23T18:00:01Z"}, {"status": "resolved"}, {"fingerprint": "other"}])
def test_a_new_start_a_new_status_or_another_alert_is_another_event(change: dict[str, str]) -> None:
    first = events_of(Notification.model_validate(NOTIFICATION))[0]
    changed = {**NOTIFICATION, "alerts": [{**NOTIFICATION["alerts"][0], **change}]}
    assert events_of(Notification.model_validate(changed))[0].id != first.id
