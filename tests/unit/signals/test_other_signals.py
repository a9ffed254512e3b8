from collections.abc import Mapping
from typing import Any

import pytest

from autonomic.seams.errors import Retryable
from autonomic.seams.reading import Reading
from autonomic.seams.signal import Query
from autonomic.seams.state import RoleState, RunState, ServiceState, State
from autonomic.signals.drift import DriftSignal
from autonomic.signals.mlflow import OVERLAP_MS, Cursor
from autonomic.signals.platform import PlatformSignal
from autonomic.signals.promql import PromqlSignal, _freshness, _kind
from autonomic.signals.queries import QUERIES
from autonomic.signals.table import SIGNALS
from autonomic.signals.webhook import WebhookSignal

NOW = 1000.0


def query(signal: str, target: str = "web/api", **args: Any) -> Query:
    return Query(strategy="s", name="n", target=target, signal=signal, args=args)


def one(answers: list[Any]) -> Reading:
    (answer,) = answers
    assert isinstance(answer, Reading)
    return answer


def test_there_is_a_signal_for_every_query_in_one_sorted_table() -> None:
    assert list(SIGNALS) == sorted(QUERIES)


SERVICE = ServiceState(
    roles={"champion": RoleState(model="m", wanted=3, ready=2), "backup": RoleState(model="m", wanted=1, ready=1)},
    weights={"champion": 90, "canary": 10},
    min_replicas=1,
    max_replicas=4,
    queued=7,
    in_flight=2,
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ready_replicas", 2),
        ("wanted_replicas", 3),
        ("backup_ready_replicas", 1),
        ("backup_wanted_replicas", 1),
        ("queued", 7),
        ("in_flight", 2),
        ("champion_weight", 90),
        ("backup_weight", 0),
        ("canary_weight", 10),
        ("active_runs", 0),
    ],
)
def test_each_number_of_a_service(name: str, value: float) -> None:
    signal = PlatformSignal(lambda target: State(target=target, kind="online", service=SERVICE))
    assert one(signal.read([query("platform", platform=name)], NOW)).value == value


def test_runs_that_have_not_ended_are_active() -> None:
    runs = tuple(RunState(id=status, workflow="w", status=status) for status in ("pending", "running", "succeeded", "failed"))
    signal = PlatformSignal(lambda target: State(target=target, kind="batch", runs=runs))
    assert one(signal.read([query("platform", "w", platform="active_runs")], NOW)).value == 2
    assert one(signal.read([query("platform", "w", platform="ready_replicas")], NOW)).status == "missing"


def test_a_target_that_is_not_there_is_missing_and_a_platform_that_is_away_an_error() -> None:
    absent = PlatformSignal(lambda target: State(target=target, kind="absent"))
    for name in ("ready_replicas", "queued"):
        assert one(absent.read([query("platform", platform=name)], NOW)).status == "missing"
    # no run of a workflow that never ran is active, which is known
    assert one(absent.read([query("platform", "w", platform="active_runs")], NOW)).value == 0

    def away(target: str) -> State:
        raise Retryable("the host does not answer")

    assert one(PlatformSignal(away).read([query("platform", platform="queued")], NOW)).status == "error"


def test_a_target_is_observed_once_for_all_its_queries() -> None:
    seen: list[str] = []

    def observe(target: str) -> State:
        seen.append(target)
        return State(target=target, kind="online", service=SERVICE)

    PlatformSignal(observe).read([query("platform", platform="queued"), query("platform", platform="in_flight")], NOW)
    assert seen == ["web/api"]


def test_drift_has_the_time_of_the_detector() -> None:
    signal = DriftSignal(lambda *_: {"time": 990.0, "values": {"drifted": 1, "score": 0.7, "nan": float("nan")}})
    score = one(signal.read([query("drift", drift="score")], NOW))
    assert (score.value, score.time) == (0.7, 990.0)
    assert one(signal.read([query("drift", drift="nan")], NOW)).status == "missing"
    assert one(signal.read([query("drift", drift="other")], NOW)).status == "missing"


def test_drift_that_cannot_be_had_is_missing_or_an_error_and_never_zero() -> None:
    def away(*_: str) -> Mapping[str, Any]:
        raise Retryable("the host does not answer")

    assert one(DriftSignal(away).read([query("drift")], NOW)).status == "error"
    assert one(DriftSignal(lambda *_: None).read([query("drift")], NOW)).status == "missing"
    assert one(DriftSignal(lambda *_: {"time": None, "values": {}}).read([query("drift")], NOW)).status == "missing"
    assert one(DriftSignal(lambda *_: {}).read([query("drift", "web")], NOW)).status == "error"


@pytest.mark.parametrize(
    ("field", "value"),
    [("value", 1.5), ("a.b", 2), ("list.1", 20), ("text", 3.5), ("flag", 1), ("word", None), ("a", None), ("list.7", None), ("x.y", None)],
)
def test_a_webhook_reads_the_number_under_a_dotted_path(field: str, value: float | None) -> None:
    data = {"value": 1.5, "a": {"b": 2}, "list": [10, 20], "text": "3.5", "word": "many", "flag": True}
    reading = one(WebhookSignal(lambda _: (data, 900.0)).read([query("webhook", webhook="t", field=field)], NOW))
    assert (reading.value, reading.status) == (value, "missing" if value is None else "ok")
    assert reading.time == 900.0


def test_without_an_event_a_webhook_is_missing() -> None:
    assert one(WebhookSignal(lambda _: None).read([query("webhook", webhook="t")], NOW)).status == "missing"


def test_without_prometheus_every_reading_is_an_error() -> None:
    assert one(PromqlSignal("").read([query("promql", promql="up")], NOW)).status == "error"


@pytest.mark.parametrize(
    ("kind", "expressions"),
    [
        ("scalar", ["1 + 1", "time()", "scalar(up)", "-(1)"]),
        ("vector", ["up + 1", "vector(1)", "sum(up)", "up # a comment"]),
        ("", ["(((", "up) or (up", ""]),
    ],
)
def test_scalars_vectors_and_what_is_neither_are_told_apart(kind: str, expressions: list[str]) -> None:
    assert [_kind(expression) for expression in expressions] == [kind] * len(expressions)


def test_the_age_of_an_expression_is_that_of_its_selectors_of_the_present() -> None:
    expression = 'sum(rate(x_total{a="1"}[5s])) / sum(up) + y offset 5m + z @ 1700000000'
    assert _freshness(expression, None) == ('max (timestamp(x_total{a="1"}))', "max (timestamp(up{}))")
    assert _freshness("up", "node") == ("max by (node) (timestamp(up{}))",)
    assert _freshness("(((", None) == ()


NOON = 10_000.0


def test_a_run_that_ends_in_the_far_future_holds_up_no_other() -> None:
    odd = Cursor().after({"a": 5_000_000, "typo": 5_000_000_000_000}, NOON)
    assert odd.until == 5_000_000
    assert odd.has("typo")


def test_a_cursor_remembers_late_comers_within_the_overlap_and_forgets_the_rest() -> None:
    first = Cursor().after({"a": 1_000_000, "b": 5_000_000}, NOON)
    assert first.has("b")
    assert not first.has("a")
    assert first.start == 5_000_000 - OVERLAP_MS
    late = first.after({"c": 4_900_000}, NOON)
    assert late.until == 5_000_000
    assert late.has("b")
    assert late.has("c")
    assert Cursor.model_validate(late.model_dump(mode="json")) == late
    assert Cursor().start == 0
