from typing import Any

import pytest

from autonomic.agents.monitor.alerts import FIRING, RESOLVED, Notification, StatusTurns, events_of
from autonomic.seams.event import CloudEvent

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


def events(notification: dict[str, Any], turns: StatusTurns | None = None) -> list[CloudEvent]:
    found, problems = events_of(Notification.model_validate(notification), turns or StatusTurns({}))
    assert not problems
    return found


def test_each_alert_is_an_event() -> None:
    firing, resolved = events(NOTIFICATION)
    assert (firing.type, resolved.type) == (FIRING, RESOLVED)
    assert firing.source == "http://alertmanager:9093"
    assert firing.subject == "HighLatency"
    assert firing.data["labels"]["service"] == "predictor"
    assert (firing.data["value"], resolved.data["value"]) == (1, 0)


def test_an_alert_that_is_notified_again_is_the_same_event() -> None:
    first = events(NOTIFICATION)
    moved = {
        **NOTIFICATION,
        "alerts": [{**NOTIFICATION["alerts"][0], "startsAt": "2026-11-23T19:00:00+01:00", "annotations": {"summary": "x"}}],
    }
    assert events(moved)[0].id == first[0].id


@pytest.mark.parametrize("change", [{"startsAt": "2026-11-23T18:00:01Z"}, {"status": "resolved"}, {"fingerprint": "other"}])
def test_a_new_start_a_new_status_or_another_alert_is_another_event(change: dict[str, str]) -> None:
    first = events(NOTIFICATION)[0]
    changed = {**NOTIFICATION, "alerts": [{**NOTIFICATION["alerts"][0], **change}]}
    assert events(changed)[0].id != first.id


def test_an_alert_that_fires_again_with_the_same_start_is_another_event_also_after_a_restart() -> None:
    turns = StatusTurns({})
    identifiers: list[str] = []
    for status in ("firing", "firing", "resolved", "firing", "firing", "resolved"):
        alert = {**NOTIFICATION["alerts"][0], "status": status}
        identifiers.append(events({**NOTIFICATION, "alerts": [alert]}, turns)[0].id)
        turns = StatusTurns(turns.kept())
    first, again, resolved, anew, anew_again, resolved_anew = identifiers
    assert (first, anew) == (again, anew_again)
    assert len({first, resolved, anew, resolved_anew}) == 4


def test_a_null_a_number_or_the_year_1_refuses_nothing_and_a_bad_alert_spoils_no_other() -> None:
    good = NOTIFICATION["alerts"][0]
    odd = [
        {**good, "annotations": None, "generatorURL": None},
        {**good, "annotations": {"summary": None, "value": 3}, "fingerprint": None},
        {**good, "startsAt": "0001-01-01T00:00:00+05:00"},
        {**good, "startsAt": "yesterday"},
        {"status": "odd"},
        None,
        good,
    ]
    found, problems = events_of(Notification.model_validate({"receiver": None, "alerts": odd}), StatusTurns({}))
    assert [event.data["annotations"] for event in found] == [{}, {"summary": "", "value": "3"}, {"summary": "slow"}, {"summary": "slow"}]
    assert [problem.partition(":")[0] for problem in problems] == ["alerts[3]", "alerts[4]", "alerts[5]"]
