"""Drift detectors and the progress of steps, on every real platform."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

TARGET = ("watched", "api")
Send = Callable[..., None]


@pytest.fixture(scope="module")
def deploy(real: Any) -> Callable[..., None]:
    """Deploys the watched service; `fields` are its own."""

    def put(**fields: Any) -> None:
        service = {"name": "api", "model": real.case.old, "log": True, "resources": {"cpu": 0.1}, **fields}
        real.apply("deploy", "watched", spec=real.document("watched", {"type": "online", "services": [service]}), package="")

    return put


@pytest.fixture(scope="module")
def send(real: Any, deploy: Callable[..., None]) -> Send:
    """Sends inputs to the service, which logs them as predictions."""
    deploy(drift={"detector": "light_detector:LevelDetector", "every": "100ms", "with": {"level": 5.0}})
    url = f"{real.platform.urls()['watched/api']}/v2/models/api/infer"

    def infer(*values: float) -> None:
        for value in values:
            assert httpx.post(url, json={"id": f"asked-{value:g}", "x": [value] * 4}, trust_env=False, timeout=30).status_code == 200

    return infer


def said(real: Any, name: str) -> float | None:
    return real.platform.drift(*TARGET)["values"].get(name)


def eventually(real: Any, name: str, value: float) -> None:
    real.wait(lambda: said(real, name), lambda found: found == value)


def test_the_detector_sees_what_was_answered_and_picks_where_it_drifts(real: Any, send: Send) -> None:
    send(1.0)
    eventually(real, "seen", 1.0)
    assert said(real, "drifted") == 0.0
    assert real.platform.points(*TARGET) == []
    send(9.0)
    eventually(real, "picked", 1)
    eventually(real, "drifted", 1.0)
    spoken = real.platform.drift(*TARGET)["time"]
    assert 0 <= time.time() - spoken < 60
    (point,) = real.platform.points(*TARGET, "unlabelled")
    # who labels sees the request and the input
    assert point["request_id"] == "asked-9"
    found = real.platform.look_up(*TARGET, [point["prediction_id"], "nobody-made-it"], inputs=True)
    (tensor,) = found.pop(point["prediction_id"])
    assert (tensor["data"][0], found) == (9.0, {})
    label = {"prediction_id": point["prediction_id"], "label": 2, "time": time.time()}
    assert real.platform.add_labels(*TARGET, [label])["added"] == 1
    assert real.platform.add_labels(*TARGET, [label])["unchanged"] == 1
    eventually(real, "labelled", 1)
    assert real.platform.points(*TARGET, "unlabelled") == []


def test_the_detector_speaks_on_after_the_writer_died(real: Any, send: Send) -> None:
    before = real.platform.drift(*TARGET)
    real.case.restart()
    real.wait(lambda: real.platform.drift(*TARGET)["time"], lambda spoken: spoken > before["time"])
    # it is the one that spoke before: it has seen each prediction once
    assert said(real, "seen") == before["values"]["seen"]
    send(9.0)
    eventually(real, "seen", before["values"]["seen"] + 1)


def test_another_champion_has_another_detector(real: Any, send: Send) -> None:
    told = time.time()
    real.apply("upgrade", "watched/api", models={"champion": real.case.new})
    # until it has spoken nothing is known: what was said of the old one counts no more
    first = real.wait(lambda: real.platform.drift(*TARGET), lambda found: bool(found["values"]))
    assert first["time"] > told
    assert first["values"]["picked"] == 0


def test_nothing_is_watched_where_nothing_is_asked_for(real: Any, send: Send, deploy: Callable[..., None]) -> None:
    deploy()
    assert real.platform.drift(*TARGET) == {"time": 0.0, "values": {}, "error": "", "warning": ""}
    real.apply("delete", "watched")
    assert real.platform.drift(*TARGET) is None


def test_a_running_step_tells_how_far_it_is(real: Any) -> None:
    until = real.shared / "go-on"
    step = {"name": "work", "run": "half_way", "with": {"until": str(until)}}
    real.apply("run", "telling", run_id="run-telling", spec=real.batch("telling", step), parameters={}, package=real.package)
    run = real.wait(lambda: real.platform.run("run-telling"), lambda run: run.steps["work"].detail == "50% half way")
    assert run.steps["work"].status == "running"
    until.touch()
    run = real.wait(lambda: real.platform.run("run-telling"), lambda run: run.status == "succeeded")
    assert run.steps["work"].detail == ""
    until.unlink()
