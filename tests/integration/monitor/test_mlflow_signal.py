import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from autonomic.seams.errors import AutonomicError
from autonomic.seams.reading import Reading
from autonomic.seams.signal import Query
from autonomic.signals.mlflow import RUN_FINISHED, VERSION_CREATED, MlflowEvents, MlflowSignal
from autonomic.workflows.registry.client import Mlflow

EXPERIMENT = "monitor-signal"


@pytest.fixture(scope="module")
def client(mlflow_server: Any) -> Iterator[Mlflow]:
    client = Mlflow(mlflow_server.url)
    yield client
    client.close()


@pytest.fixture(scope="module")
def signal(mlflow_server: Any) -> Iterator[MlflowSignal]:
    signal = MlflowSignal(mlflow_server.url)
    yield signal
    signal.close()


def query(experiment: str | None, aggregate: str = "last", after: dict[str, Any] | None = None, **args: Any) -> Query:
    own: dict[str, Any] = {"metric": "picked", "aggregate": aggregate, "experiment": experiment, **args}
    if after is not None:
        own["after"] = after
    return Query(
        strategy="s", name="picked", target="web", signal="mlflow", args={key: value for key, value in own.items() if value is not None}
    )


def one(signal: MlflowSignal, asked: Query) -> Reading:
    (answer,) = signal.read([asked], time.time())
    assert isinstance(answer, Reading)
    return answer


def run(client: Mlflow, experiment: str, picked: float, ended: float | None, kind: str = "a") -> str:
    run_id = client.create_run(client.experiment(experiment), "run", {"kind": kind}, started_at=(ended or time.time()) - 1)["info"][
        "run_id"
    ]
    client.log(run_id, [{"key": "picked", "value": picked, "timestamp": int(time.time() * 1000), "step": 0}])
    if ended is not None:
        client.end_run(run_id, "FINISHED", ended)
    return run_id


def source(client: Mlflow, run_id: str) -> str:
    return client.run(run_id)["info"]["artifact_uri"] + "/model"


def watch(url: str, cursor: Any, timeout_seconds: float = 5.0) -> tuple[list[Any], Any]:
    with closing(MlflowEvents(url, time.time, timeout_seconds)) as events:
        return events.watch(cursor)


def test_runs_are_aggregated_as_asked(client: Mlflow, signal: MlflowSignal) -> None:
    experiment = f"{EXPERIMENT}-aggregate"
    now = time.time()
    for offset, (picked, kind) in enumerate([(10, "a"), (20, "b"), (60, "a")]):
        run(client, experiment, picked, now + offset, kind)
    for aggregate, value in {"last": 60, "sum": 90, "max": 60, "min": 10, "avg": 30, "count": 3}.items():
        assert one(signal, query(experiment, aggregate)).value == value
    assert one(signal, query(experiment, "sum", filter="tags.kind = 'a'")).value == 70
    assert one(signal, query(experiment, metric="other")).status == "missing"
    assert one(signal, query(experiment, filter="nonsense ===")).status == "error"
    assert one(signal, query("no-such-experiment")).status == "missing"
    run(client, experiment, float("nan"), now + 9, "c")
    for aggregate in ("last", "sum", "max", "min", "avg"):
        assert one(signal, query(experiment, aggregate)).status == "missing", aggregate
    assert one(signal, query(experiment, "max", filter="tags.kind = 'a'")).value == 60


def test_each_run_is_counted_once_also_by_another_process_and_when_it_comes_late(
    client: Mlflow, mlflow_server: Any, signal: MlflowSignal
) -> None:
    experiment = f"{EXPERIMENT}-cursor"
    now = time.time()
    run(client, experiment, 10, now)
    unfinished = run(client, experiment, 5, None)
    asked = query(experiment, "sum", after={})
    assert one(signal, asked).value == 10
    cursor = signal.cursor_after(asked)
    assert cursor is not None
    again = query(experiment, "sum", after=cursor)
    assert one(signal, again).value == 0
    # it ends later, by a clock that is behind
    client.end_run(unfinished, "FINISHED", now - 60)
    run(client, experiment, 100, now + 1)
    with closing(MlflowSignal(mlflow_server.url)) as other:
        assert one(other, again).value == 105
        after = other.cursor_after(again)
        assert one(other, query(experiment, "sum", after=after)).value == 0
        assert one(other, query(experiment, "max", after=after)).status == "missing"


def test_a_version_has_its_tag_first_and_then_the_metric_of_its_run(client: Mlflow, signal: MlflowSignal) -> None:
    model = "monitor-signal"
    run_id = run(client, f"{EXPERIMENT}-versions", 7, time.time())
    client.create_model(model)
    version = client.create_version(model, source(client, run_id), run_id, {})
    client.set_alias(model, "champion", version)
    asked = query(None, model=model, alias="champion")
    assert one(signal, asked).value == 7
    client.set_version_tag(model, version, "picked", "9.5")
    reading = one(signal, asked)
    assert reading.value == 9.5
    assert reading.labels["version"] == version
    client.set_version_tag(model, version, "picked", "many")
    assert one(signal, asked).status == "missing"
    for model_, alias, number in ((model, "candidate", None), (model, None, "99"), ("no-such-model", "champion", None)):
        assert one(signal, query(None, model=model_, alias=alias, version=number)).status == "missing"


def test_news_come_once_and_what_was_before_is_none(client: Mlflow, mlflow_server: Any) -> None:
    experiment = f"{EXPERIMENT}-news"

    def own(cursor: Any) -> tuple[list[Any], Any]:
        # others use this server too, and a run that ends a little ahead, by another clock, comes of age meanwhile
        events, after = watch(mlflow_server.url, cursor)
        ours = [event for event in events if event.data.get("run_id") in runs or event.data.get("model") == "monitor-news"]
        return ours, after

    runs = [run(client, experiment, 1, time.time())]
    events, cursor = own(None)
    assert events == []
    events, cursor = own(cursor)
    assert events == []
    run_id = run(client, experiment, 2, time.time())
    runs.append(run_id)
    client.create_model("monitor-news")
    version = client.create_version("monitor-news", source(client, run_id), run_id, {"stage": "x"})
    events, cursor = own(cursor)
    assert sorted(event.type for event in events) == sorted([RUN_FINISHED, VERSION_CREATED])
    finished = next(event for event in events if event.type == RUN_FINISHED)
    assert finished.data["run_id"] == run_id
    assert finished.data["metrics"] == {"picked": 2.0}
    created = next(event for event in events if event.type == VERSION_CREATED)
    assert (created.data["model"], created.data["version"]) == ("monitor-news", version)
    assert own(cursor)[0] == []


def test_an_mlflow_that_is_away_is_an_error_and_no_news(free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}"
    with closing(MlflowSignal(url, timeout_seconds=1)) as signal:
        answers = signal.read([query("x") for _ in range(20)], time.time())
    assert {answer.status for answer in answers if isinstance(answer, Reading)} == {"error"}
    with pytest.raises(AutonomicError):
        watch(url, None, 1)


def test_a_strategy_that_waits_for_runs_is_told_of_each_once(
    client: Mlflow, mlflow_server: Any, monitor: Any, planner: Any, strategy: Callable[..., Any], until: Callable[..., None]
) -> None:
    monitor.stop()
    changed = monitor.settings.model_copy(update={"mlflow_url": mlflow_server.url})
    changed.save()
    monitor.start()
    monitor.apply(strategy("s", on={"event": RUN_FINISHED}))
    # news begin with the first look, so runs end until one is told
    runs: list[str] = []

    def told() -> list[str]:
        # others use this server too
        ended = [event["data"]["data"]["run_id"] for event in planner.events()]
        return [run_id for run_id in ended if run_id in runs]

    def another() -> bool:
        runs.append(run(client, f"{EXPERIMENT}-told", 3, time.time()))
        time.sleep(1)
        return bool(told())

    until(another)
    until(lambda: told()[-1] == runs[-1])
    monitor.kill()
    monitor.start()
    runs.append(run(client, f"{EXPERIMENT}-told", 4, time.time()))
    until(lambda: told()[-1] == runs[-1])
    assert told() == runs[-len(told()) :]
