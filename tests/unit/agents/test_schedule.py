import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autonomic.agents.monitor.alarms import Alarms
from autonomic.agents.monitor.schedule import next_time
from autonomic.agents.monitor.watched import Watched
from autonomic.seams.clock import VirtualClock
from autonomic.strategies.cron import Cron, parse
from autonomic.strategies.spec.strategy import On, Strategy


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def next_of(on: On, after: str) -> str | None:
    found = next_time(on, at(after))
    return None if found is None else datetime.fromtimestamp(found, UTC).isoformat()[:16]


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("*", "0123456"),
        ("0", "0"),
        ("7", "0"),
        ("1-5", "12345"),
        ("5-7", "056"),
        ("0-2", "012"),
        ("fri-mon", "0156"),
        ("*/2", "0246"),
        ("MON,3", "13"),
        ("1/2", "135"),
    ],
)
def test_weekdays_count_from_sunday(field: str, days: str) -> None:
    assert parse(f"0 0 * * {field}").weekdays == {int(day) for day in days}


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 0 * * 8", "'8' is no weekday; write 0 to 7, or sun to sat"),
        ("0 0 * * x", "no weekday"),
        ("0 0 * * -", "no weekday"),
        ("60 0 * * *", "'60' is no minute; write 0 to 59"),
        ("0 24 * * *", "no hour"),
        ("0 0 0 * *", "no day"),
        ("0 0 * foo *", "write 1 to 12, or jan to dec"),
        ("*/0 * * * *", "the step after / is a number from 1"),
        ("0 5-3 * * *", "ends before it begins"),
        ("0 0 * *", "five fields"),
    ],
)
def test_what_is_no_cron_expression_is_refused_with_what_is(expression: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(expression)


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


ZONES = (
    "Europe/Berlin",
    "America/Los_Angeles",
    "America/Santiago",  # midnight is skipped
    "Australia/Lord_Howe",  # half an hour
    "Africa/Cairo",
    "Asia/Tokyo",
    "Asia/Kathmandu",
    "America/Havana",  # midnight again
    "Africa/Casablanca",
    "Pacific/Auckland",
)
STEP = 900
YEAR = (at("2026-01-01T00:00"), at("2027-01-01T00:00"))


def plain_search(cron: Cron, walls: list[datetime]) -> list[float]:
    """Every time of the expression by looking at the wall clock each quarter of an hour."""
    days = {day: cron.on(day) for day in {wall.date() for wall in walls}}
    minutes = set(cron.minutes)
    found: list[float] = []
    highest = walls[0].replace(tzinfo=None)
    for wall in walls[1:]:
        shown = wall.replace(tzinfo=None, fold=0)
        new = [shown]
        if shown - highest != timedelta(seconds=STEP):
            new = [shown - timedelta(seconds=STEP * n) for n in range((shown - highest) // timedelta(seconds=STEP))]
        looked_at = [shown] if cron.every_hour else new
        if any(look.hour * 60 + look.minute in minutes and days.get(look.date(), cron.on(look.date())) for look in looked_at):
            found.append(wall.timestamp())
        highest = max(highest, shown)
    return found


def all_times(cron: Cron, zone: ZoneInfo, start: float, end: float) -> list[float]:
    found: list[float] = []
    time = cron.next_after(start - 1, zone)
    while time is not None and time < end:
        found.append(time)
        time = cron.next_after(time, zone)
    return found


@pytest.mark.parametrize("name", ZONES)
def test_a_year_of_cron_times_is_that_of_a_plain_search(name: str) -> None:
    walls = [datetime.fromtimestamp(time, ZoneInfo(name)) for time in range(int(YEAR[0]) - STEP, int(YEAR[1]), STEP)]
    for expression in ("0 0 * * *", "30 2 * * *", "15 */6 1,15 * fri"):
        cron = parse(expression)
        assert all_times(cron, ZoneInfo(name), *YEAR) == plain_search(cron, walls), expression
    assert len(all_times(parse("0 0 * * *"), ZoneInfo(name), *YEAR)) == 365


def field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most).map(str)
    several = st.lists(number, min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), number, several, st.integers(1, 9).map(lambda step: f"*/{step}"))


CHANGES = [
    (name, time)
    for name in ZONES
    for time, later in pairwise(range(int(YEAR[0]), int(YEAR[1]), 86400))
    if datetime.fromtimestamp(time, ZoneInfo(name)).utcoffset() != datetime.fromtimestamp(later, ZoneInfo(name)).utcoffset()
]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(CHANGES),
    st.sampled_from(["0", "15", "*/15", "30,45", "*/30"]),
    field(0, 23),
    st.one_of(st.just("*"), field(1, 31)),
    st.one_of(st.just("*"), field(0, 7)),
)
def test_around_a_change_of_the_clocks_cron_times_are_those_of_a_plain_search(
    change: tuple[str, int], minute: str, hour: str, day: str, weekday: str
) -> None:
    zone, start, end = ZoneInfo(change[0]), change[1] - 86400, change[1] + 2 * 86400
    walls = [datetime.fromtimestamp(time, zone) for time in range(start - STEP, end, STEP)]
    cron = parse(f"{minute} {hour} {day} * {weekday}")
    assert all_times(cron, zone, start, end) == plain_search(cron, walls)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(CHANGES), st.floats(-90000, 90000))
def test_the_next_time_is_later_than_asked(change: tuple[str, int], offset: float) -> None:
    after = change[1] + offset
    found = next_time(On(cron="*/7 * * * *", timezone=change[0]), after)
    assert found is not None
    assert after < found <= after + 7200


def test_a_day_of_the_month_and_a_weekday_are_alternatives_and_a_skipped_day_is_made_up_for() -> None:
    both = parse("0 0 13 * fri")
    assert [day for day in range(1, 32) if both.on(datetime(2026, 3, day).date())] == [6, 13, 20, 27]
    assert [day for day in range(1, 32) if both.on(datetime(2026, 5, day).date())] == [1, 8, 13, 15, 22, 29]
    # Samoa had no 30 December 2011
    assert next_of(On(cron="0 12 30 12 *", timezone="Pacific/Apia"), "2011-12-01T00:00") == "2011-12-30T10:00"
    assert parse("0 0 31 2 *").next_after(0, ZoneInfo("UTC")) is None
    assert next_of(On(cron="0 0 29 2 *"), "2097-01-01T00:00") == "2104-02-29T00:00"


def test_a_cron_strategy_fires_once_in_the_repeated_hour_of_a_virtual_clock() -> None:
    spec = {"target": "w", "on": {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}, "do": [{"notify": {"message": "x"}}]}
    document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Strategy", "metadata": {"name": "nightly"}, "spec": spec}
    clock = VirtualClock(at("2026-10-25T00:29"))
    alarms, watched = Alarms(clock, lambda _: None), Watched(Strategy.model_validate(document))
    alarms.set_first(watched, watched.triggers[0])
    fired = 0
    for _ in range(2 * 180):
        clock.advance(30)
        fired += len(alarms.due())
    assert fired == 1
