import json
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

BATCH = {"Content-Type": "application/cloudevents-batch+json"}
Until = Callable[..., None]
Make = Callable[..., dict[str, Any]]


def event(identifier: str, type_: str = "my.type", data: Any = None) -> dict[str, Any]:
    return {"specversion": "1.0", "id": identifier, "source": "test", "type": type_, "data": data}


def ids(peer: Any) -> list[str]:
    return [told["data"]["data"]["event"]["id"] for told in peer.events()]


def test_an_event_goes_through_to_the_planner_and_counts_once(monitor: Any, planner: Any, strategy: Make, until: Until) -> None:
    monitor.apply(strategy("s", on={"event": "my.type"}))
    answer = monitor.call("POST", "/v1/events", content=json.dumps([event("1"), event("2"), event("1")]), headers=BATCH)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 3, "duplicates": 1})
    binary = {"ce-id": "3", "ce-source": "test", "ce-type": "my.type", "ce-specversion": "1.0"}
    assert monitor.call("POST", "/v1/events", json={"n": 7}, headers=binary).status_code == 202
    assert monitor.call("POST", "/v1/events", json=event("2")).json() == {"accepted": 1, "duplicates": 1}
    until(lambda: len(planner.events()) >= 3)
    time.sleep(0.3)
    assert ids(planner) == ["1", "2", "3"]
    told = planner.events()[2]
    assert (told["type"], told["subject"]) == ("dev.autonomic.trigger.fired", "s/event")
    assert told["data"]["data"]["n"] == 7
    page = monitor.call("GET", "/v1/events?limit=2").json()
    rest = monitor.call("GET", f"/v1/events?limit=100&cursor={page['next']}").json()
    assert (len(page["items"]), rest["next"]) == (2, "")
    assert sorted(item["kind"] for item in page["items"] + rest["items"]) == ["event"] * 3 + ["event.outside"] * 3


def test_a_planner_that_is_down_gets_its_events_later_in_order(monitor: Any, planner: Any, strategy: Make, until: Until) -> None:
    monitor.apply(strategy("s", on={"event": "my.type"}))
    planner.down()
    for number in range(5):
        monitor.call("POST", "/v1/events", json=event(str(number)))
    until(lambda: 'autonomic_outbox_events{destination="planner"} 5.0' in monitor.call("GET", "/metrics").text)
    planner.up()
    until(lambda: len(planner.events()) >= 5)
    assert ids(planner) == ["0", "1", "2", "3", "4"]


def test_kill_9_between_commit_and_delivery_loses_nothing(monitor: Any, planner: Any, host: Any, strategy: Make, until: Until) -> None:
    monitor.apply(strategy("s", on={"event": "my.type"}))
    acknowledged: set[str] = set()
    host.statuses["/v1/labels/web/api"] = 503
    for turn in range(3):
        planner.statuses["/v1/events"] = 503 if turn % 2 else 202

        def send(turn: int = turn) -> None:
            for number in range(2000):
                identifier = f"{turn}-{number}"
                try:
                    if monitor.call("POST", "/v1/events", json=event(identifier)).status_code == 202:
                        acknowledged.add(identifier)
                except httpx.HTTPError:
                    return

        label = {"workflow": "web", "service": "api", "labels": [{"prediction_id": f"p{turn}", "label": turn}]}
        assert monitor.call("POST", "/v1/labels", json=label).status_code == 202
        sender = threading.Thread(target=send)
        sender.start()
        before = len(acknowledged)
        until(lambda before=before, turn=turn: len(acknowledged) >= before + 5 + 20 * turn)
        monitor.kill()
        sender.join()
        monitor.start()
    planner.statuses.clear()
    host.statuses.clear()
    until(lambda: acknowledged <= set(ids(planner)), 60)
    until(lambda: sum(len(body) for path, body in host.posts if path == "/v1/labels/web/api") >= 3)
    # at least once: what comes again is the same event, which the planner's inbox knows by its id
    by_id = {told["id"]: told["data"]["data"]["event"]["id"] for told in planner.events()}
    assert len(by_id) == len(set(by_id.values()))
    assert [row["prediction_id"] for _, body in host.posts for row in body] == ["p0", "p1", "p2"]


def test_what_was_applied_and_what_held_survive_a_restart(monitor: Any, planner: Any, host: Any, strategy: Make, until: Until) -> None:
    host.pages["/v1/sd"] = [
        {"targets": [f"127.0.0.1:{host.port}"], "labels": {"workflow": "web", "service": "api", "__metrics_path__": "/r"}}
    ]
    host.pages["/r"] = "x 5\n"
    spec = {"on": {"every": "100ms"}, "readings": {"x": {"scrape": {"metric": "x"}}}, "when": "x > 1", "guard": {"cooldown": "1h"}}
    monitor.apply(strategy("s", **spec))
    until(lambda: len(planner.events()) == 1)
    assert monitor.stop() == 0
    monitor.start()
    until(lambda: bool(monitor.readings("s")["x"]))
    time.sleep(0.5)
    assert len(planner.events()) == 1
    assert planner.events()[0]["data"]["readings"]["x"]["value"] == 5


def test_each_breach_reaches_the_planner(monitor: Any, planner: Any, host: Any, strategy: Make, until: Until) -> None:
    host.pages["/v1/sd"] = [
        {"targets": [f"127.0.0.1:{host.port}"], "labels": {"workflow": "web", "service": "api", "__metrics_path__": "/r"}}
    ]
    host.pages["/r"] = "x 0\n"
    monitor.apply(strategy("s", on={"every": "50ms"}, readings={"x": {"scrape": {"metric": "x"}}}, when="x > 1"))
    until(lambda: bool(monitor.readings("s")["x"]))
    for _ in range(3):
        known = len(planner.events())
        host.pages["/r"] = "x 5\n"
        until(lambda known=known: len(planner.events()) > known)
        host.pages["/r"] = "x 0\n"
        until(lambda: monitor.readings("s")["x"][0]["value"] == 0)


def test_alerts_of_alertmanager_fire_once(monitor: Any, planner: Any, strategy: Make, until: Until) -> None:
    monitor.apply(
        strategy("s", on={"event": "dev.autonomic.alert.firing"}),
        strategy("level", on={"call": True}, readings={"up": {"webhook": "dev.autonomic.alert.firing"}}, when="up > 0"),
    )
    alert = {"status": "firing", "labels": {"alertname": "Slow"}, "annotations": {}, "startsAt": "2026-11-23T18:00:00Z", "fingerprint": "f"}
    for state in (alert, {**alert, "status": "resolved"}):
        # Alertmanager repeats a notification until it is answered, and later once in a while
        for duplicates in (0, 1):
            body = {"version": "4", "status": state["status"], "receiver": "r", "alerts": [state]}
            answer = monitor.call("POST", "/v1/alerts", json=body).json()
            assert answer == {"accepted": 1, "duplicates": duplicates, "problems": []}
    until(lambda: len(planner.events()) == 1)
    assert planner.events()[0]["data"]["data"]["labels"] == {"alertname": "Slow"}
    fired = monitor.call("POST", "/v1/triggers/level/call:fire").json()
    assert len(fired["events"]) == 1
    read = monitor.call("POST", "/v1/readings:read", "read", json={"strategy": "level"}).json()
    assert read["readings"]["up"]["value"] == 1


def test_parts_that_are_down_are_said_and_come_back(monitor: Any, host: Any, strategy: Make, until: Until) -> None:
    host.pages["/v1/state/web/api"] = {
        "target": "web/api",
        "kind": "online",
        "service": {"roles": {"champion": {"model": "m", "wanted": 2, "ready": 2}}, "weights": {}, "min_replicas": 1, "max_replicas": 4},
    }
    readings = {"n": {"platform": "ready_replicas"}, "qps": {"promql": "sum(up)"}, "runs": {"mlflow": {"metric": "m"}}}
    monitor.apply(strategy("s", on={"every": "200ms"}, readings=readings, when="n < 1 || qps < 1 || runs < 1"))

    def statuses() -> list[str]:
        return [read[0]["status"] for read in monitor.readings("s").values() if read]

    until(lambda: statuses() == ["ok", "error", "error"])
    until(lambda: set(monitor.call("GET", "/readyz").json().get("missing", {})) == {"signal promql", "signal mlflow"})
    assert monitor.call("GET", "/readyz").status_code == 503
    host.down()
    until(lambda: statuses() == ["error", "error", "error"])
    assert monitor.call("GET", "/v1/points?target=web/api").status_code == 503
    host.up()
    until(lambda: statuses()[0] == "ok")


def test_the_process_is_small_and_quiet(monitor: Any, strategy: Make, until: Until) -> None:
    monitor.apply(strategy("s", on={"every": "15s"}, readings={"x": {"scrape": {"metric": "x"}}}, when="x > 1"))
    until(lambda: bool(monitor.readings("s")["x"]))
    time.sleep(0.5)
    assert monitor.process is not None
    status = dict(line.split(":", 1) for line in Path(f"/proc/{monitor.process.pid}/status").read_text().splitlines())
    assert int(status["VmRSS"].split()[0]) < 130_000

    def cpu_seconds() -> float:
        fields = Path(f"/proc/{monitor.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def used(seconds: float) -> float:
        before = cpu_seconds()
        time.sleep(seconds)
        return (cpu_seconds() - before) / seconds

    # other processes slow this one down through the caches, so the first quiet look of many counts
    assert any(used(1.5) <= 0.017 for _ in range(20))
    assert stat.S_IMODE(monitor.settings.tokens_path.stat().st_mode) == 0o600
    log = monitor.log.read_text()
    assert all(json.loads(line)["agent"] == "monitor" for line in log.splitlines())
    assert not any(token in log for token in monitor.tokens.values.values())


def test_nothing_heavy_is_imported_at_the_start() -> None:
    heavy = {"torch", "ray", "mlflow", "pandas", "river", "optuna", "requests", "kubernetes"}
    code = f"import sys, autonomic.agents.monitor.app; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
