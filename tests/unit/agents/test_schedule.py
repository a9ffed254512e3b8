from datetime import UTC, datetime

import pytest

from autonomic.agents.monitor.schedule import next_time
from autonomic.strategies.cron import weekdays
from autonomic.strategies.spec.strategy import On


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def next_of(on: On, after: str) -> str | None:
    found = next_time(on, at(after))
    return None if found is None else datetime.fromtimestamp(found, UTC).isoformat()[:16]


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("*", "*"),
        ("0", "sun"),
        ("7", "sun"),
        ("1-5", "mon,tue,wed,thu,fri"),
        ("5-7", "sun,fri,sat"),
        ("0-2", "sun,mon,tue"),
        ("fri-mon", "sun,mon,fri,sat"),
        ("*/2", "sun,tue,thu,sat"),
        ("MON,3", "mon,wed"),
        ("1/2", "mon,wed,fri"),
    ],
)
def test_weekdays_count_from_sunday(field: str, names: str) -> None:
    assert weekdays(field) == names


@pytest.mark.parametrize("field", ["8", "x", "-", ""])
def test_what_is_no_weekday_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="weekday"):
        weekdays(field)


def test_cron_keeps_its_time_zone_over_the_change_to_summer_time() -> None:
    on = On(cron="0 9 * * *", timezone="Europe/Madrid")
    assert next_of(on, "2026-03-28T00:00") == "2026-03-28T08:00"
    assert next_of(on, "2026-03-28T08:00:01") == "2026-03-29T07:00"
    assert next_of(On(cron="0 18 * * 5"), "2026-11-23T00:00") == "2026-11-27T18:00"


def test_a_date_comes_once() -> None:
    on = On(at=datetime.fromisoformat("2026-12-01T10:00:00+01:00"))
    assert next_of(on, "2026-11-30T00:00") == "2026-12-01T09:00"
    assert next_of(on, "2026-12-01T09:00:01") is None


def test_a_date_without_a_zone_is_in_the_given_one() -> None:
    on = On(at=datetime.fromisoformat("2026-12-01T10:00:00"), timezone="Asia/Tokyo")
    assert next_of(on, "2026-11-30T00:00") == "2026-12-01T01:00"
