"""From an event to a verified effect, over real HTTP."""

import time
from typing import Any

import httpx
import pytest

BOTH = {"any": [{"event": "some.thing"}, {"every": "10s"}]}


def replicas(system: Any, target: str) -> int:
    return system.see()["states"][target]["service"]["roles"]["champion"]["wanted"]


def test_an_event_becomes_a_verified_effect_and_an_explanation(system: Any, online: Any, grow: Any) -> None:
    system.apply(online("loop"), grow("loop-grow", "loop/s0", verify={"that": "load < 5", "within": "10m"}))
    system.put(readings={"load": 1.0})
    assert system.fire("loop-grow", "loop/s0", "loop-1").status_code == 202
    record = system.decided("loop-1")
    assert system.ended(record["plan"])["phase"] == "verified"
    assert replicas(system, "loop/s0") == 2
    told = system.get(f"/v1/decisions/{record['id']}")["explanation"]
    assert told["readings"]["load"]["value"] == 1.0
    assert {guard["name"] for guard in told["verdict"]["guards"]} >= {"autonomy", "cooldown", "rate limit", "conflict"}
    assert told["plan"]["outcomes"][0]["before"] == {"role": "champion", "replicas": 1}
    assert "rescale of loop/s0 was done" in told["words"]
    assert "load < 5" in told["words"]


def test_an_event_that_comes_twice_counts_once(system: Any, online: Any, grow: Any) -> None:
    system.apply(online("twice"), grow("twice-grow", "twice/s0"))
    system.put(readings={"load": 1.0})
    assert system.fire("twice-grow", "twice/s0", "twice-1").json() == {"accepted": 1, "duplicates": 0}
    assert system.fire("twice-grow", "twice/s0", "twice-1").json() == {"accepted": 1, "duplicates": 1}
    system.ended(system.decided("twice-1")["plan"])
    time.sleep(0.3)
    assert replicas(system, "twice/s0") == 2


def test_the_condition_is_read_again_and_an_event_that_is_over_changes_nothing(system: Any, online: Any, grow: Any) -> None:
    system.apply(online("again"), grow("again-grow", "again/s0"))
    system.put(readings={"load": 0.1})
    system.fire("again-grow", "again/s0", "again-1")
    assert system.decided("again-1")["decision"]["actions"] == []
    system.put(readings={"load": 1.0})
    system.fire("again-grow", "again/s0", "again-2", observed_at=1.0, expires_at=2.0)
    record = system.decided("again-2")
    assert (record["decision"]["actions"], record["plan"]) == ([], "")
    system.fire("unknown-strategy", "again/s0", "again-3")
    assert system.decided("again-3")["plan"] == ""
    assert replicas(system, "again/s0") == 1


def test_what_does_not_come_true_is_taken_back_where_that_cuts_no_needed_capacity(system: Any, online: Any, grow: Any) -> None:
    verify = {"that": "load > 100", "within": "300ms"}
    system.apply(online("back"), grow("back-grow", "back/s0", verify=verify, do=[{"reroute": {"canary": "10%"}}]))
    system.put(readings={"load": 1.0})
    system.fire("back-grow", "back/s0", "back-1")
    assert system.ended(system.decided("back-1")["plan"])["phase"] == "reverted"
    assert system.see()["states"]["back/s0"]["service"]["weights"] == {"champion": 100, "canary": 0}


def test_a_revert_that_would_cut_capacity_while_the_trigger_holds_is_refused(system: Any, online: Any, grow: Any) -> None:
    system.apply(online("hold"), grow("hold-grow", "hold/s0", verify={"that": "load > 100", "within": "300ms"}))
    system.put(readings={"load": 1.0})
    system.fire("hold-grow", "hold/s0", "hold-1")
    status = system.ended(system.decided("hold-1")["plan"])
    assert status["phase"] == "escalated"
    assert "cut capacity" in status["detail"]
    assert replicas(system, "hold/s0") == 2


def test_a_suggestion_waits_for_a_person(system: Any, online: Any, grow: Any) -> None:
    system.apply(online("ask"), grow("ask-grow", "ask/s0", guard={"autonomy": "suggest"}))
    system.put(readings={"load": 1.0})
    system.fire("ask-grow", "ask/s0", "ask-1")
    plan = system.decided("ask-1")["plan"]
    assert system.get(f"/v1/plans/{plan}")["phase"] == "waiting"
    assert plan in [status["plan"]["id"] for status in system.get("/v1/plans")["items"]]
    assert replicas(system, "ask/s0") == 1
    assert system.planner.post(f"/v1/plans/{plan}:approve").status_code == 200
    # at once, while its effect may still be under way
    assert system.planner.post(f"/v1/plans/{plan}:approve").status_code == 409
    assert system.ended(plan)["phase"] == "kept"
    assert replicas(system, "ask/s0") == 2
    assert system.planner.post(f"/v1/plans/{plan}:approve").status_code == 409
    assert "approved it" in system.get(f"/v1/decisions/{system.decided('ask-1')['id']}")["explanation"]["words"]


def test_a_finished_plan_is_taken_back_on_request_and_only_once(system: Any, online: Any) -> None:
    system.apply(online("undo"))
    done = system.planner.post("/v1/primitives/rescale", json={"target": "undo/s0", "args": {"to": 4}}).json()
    system.ended(done["plan"])
    assert replicas(system, "undo/s0") == 4
    answer = system.planner.post(f"/v1/plans/{done['plan']}:revert")
    assert answer.status_code == 202
    system.ended(answer.json()["plan"])
    assert replicas(system, "undo/s0") == 1
    assert system.planner.post(f"/v1/plans/{done['plan']}:cancel").status_code == 409


def test_a_dry_run_says_what_it_would_do_and_does_nothing(system: Any, online: Any) -> None:
    system.apply(online("dry"))
    before = len(system.get("/v1/decisions", limit=1000)["items"])
    told = system.planner.post("/v1/primitives/rescale", json={"target": "dry/s0", "args": {"to": 3}, "dry_run": True}).json()
    assert told["changes"][0]["to"] == {"role": "champion", "replicas": 3}
    assert told["verdict"] == "log"
    assert replicas(system, "dry/s0") == 1
    assert len(system.get("/v1/decisions", limit=1000)["items"]) == before


def test_a_plan_can_be_cancelled_while_it_is_verified(system: Any, online: Any, grow: Any) -> None:
    system.apply(online("stop"), grow("stop-grow", "stop/s0", verify={"that": "load > 100", "within": "10m"}))
    system.put(readings={"load": 1.0})
    system.fire("stop-grow", "stop/s0", "stop-1")
    plan = system.decided("stop-1")["plan"]
    system.until(lambda: system.get(f"/v1/plans/{plan}")["phase"] == "verifying")
    assert system.planner.post(f"/v1/plans/{plan}:cancel").status_code == 202
    assert system.ended(plan)["phase"] == "cancelled"


def test_nothing_is_lost_while_host_and_monitor_are_away(system: Any, online: Any, grow: Any) -> None:
    system.apply(online("away"), grow("away-grow", "away/s0"))
    system.put(readings={"load": 1.0}, down=True)
    try:
        assert system.fire("away-grow", "away/s0", "away-1").status_code == 202
        assert system.planner.get("/v1/workflows/away").json()["state"] is None
        assert system.planner.post("/v1/primitives/rescale", json={"target": "away/s0", "args": {"to": 3}}).status_code == 503
        # what cannot be deployed now is not put in force either
        assert system.planner.post("/v1/apply", json={"documents": [online("unheard")]}).status_code == 503
        assert system.planner.get("/v1/workflows/unheard").status_code == 404
        system.until(lambda: "platform" in system.planner.get("/readyz").json().get("missing", {}))
    finally:
        system.put(down=False)
    system.ended(system.decided("away-1")["plan"])
    assert replicas(system, "away/s0") == 2


def test_notifications_and_events_are_listed_newest_first(system: Any, online: Any, grow: Any) -> None:
    actions = [{"notify": {"message": "look"}}, {"call": {"to": "monitor", "type": "x.y"}}]
    system.apply(online("tell"), grow("tell-grow", "tell/s0", do=actions))
    system.put(readings={"load": 1.0})
    system.fire("tell-grow", "tell/s0", "tell-1")
    assert system.ended(system.decided("tell-1")["plan"])["phase"] == "kept"
    newest = system.get("/v1/events", limit=1)
    assert newest["items"][0]["data"]["message"] == "look"
    assert system.get("/v1/events", limit=1, cursor=newest["next"])["items"][0]["data"]["id"] == "tell-1"
    system.until(lambda: any(event["type"] == "x.y" for event in system.see()["events"]))


def test_the_stream_tells_everything_in_order_and_goes_on_after_a_break(system: Any, online: Any) -> None:
    def read(since: str, count: int) -> list[str]:
        cursors: list[str] = []
        with system.planner.stream("GET", "/v1/stream", headers={"Last-Event-ID": since}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    cursors.append(line.removeprefix("id: "))
                    if len(cursors) == count:
                        return cursors
        return cursors

    system.apply(online("stream"))
    first = read("0", 4)
    assert first == sorted(set(first), key=int)
    assert read("0", 8)[4:] == read(first[-1], 4)


def test_runs_are_known_after_the_platform_forgot_them(system: Any, online: Any) -> None:
    now = time.time()
    run = {"id": "run-x", "workflow": "w", "status": "succeeded", "started_at": now - 1, "finished_at": now, "outputs": {"a": 1}}
    system.put(runs=[run])
    system.until(lambda: [one for one in system.get("/v1/runs")["items"] if one["id"] == "run-x"])
    assert system.planner.get("/v1/runs/run-x/steps/train/log").text == "line 1\nline 2\n"
    system.put(forget_runs=["run-x"])
    assert system.get("/v1/runs/run-x")["outputs"] == {"a": 1}
    assert system.planner.get("/v1/runs/nothing").status_code == 404


def test_applying_changes_all_or_nothing(system: Any, online: Any, grow: Any) -> None:
    good, bad = online("whole"), grow("whole-grow", "whole/s9")
    answer = system.planner.post("/v1/apply", json={"documents": [good, bad]})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert any("s9" in problem["message"] for problem in answer.json()["problems"])
    assert system.planner.get("/v1/workflows/whole").status_code == 404
    diff = system.planner.post("/v1/diff", json={"documents": [good]}).json()
    assert [(change["kind"], change["name"], change["change"]) for change in diff["changes"]] == [("Workflow", "whole", "added")]
    assert system.planner.get("/v1/workflows/whole").status_code == 404
    system.apply(good)
    assert system.apply(good)["changes"] == []
    changed = online("whole", maximum=5)
    assert system.apply(changed, dry_run=True)["changes"][0]["change"] == "changed"

    def told() -> list[str]:
        applied = [event["data"] for event in system.see()["events"] if event["type"] == "dev.autonomic.specs.applied"]
        return [workflow["metadata"]["name"] for workflow in applied[-1]["workflows"]] if applied else []

    system.until(lambda: "whole" in told())


def test_packages_are_passed_on(system: Any) -> None:
    assert system.planner.post("/v1/packages", content=b"PK\x03\x04rest").json() == {"digest": "abc123"}
    assert system.planner.post("/v1/packages", content=b"no zip").status_code == 422


def test_a_planner_that_starts_while_host_and_monitor_are_away_says_so_and_acts_when_they_are_back(
    system: Any, online: Any, grow: Any
) -> None:
    system.apply(online("late"), grow("late-grow", "late/s0"))
    system.put(readings={"load": 1.0}, down=True)
    try:
        # who reads the stream does not hold up the stop, and sees its end
        with system.planner.stream("GET", "/v1/stream") as stream:
            assert system.end("planner") == 0
            stream.read()
        system.start("planner", "/healthz")
        missing = system.until(lambda: system.planner.get("/readyz").json().get("missing", {}).get("platform"))
        assert "the world is down" in missing
        assert system.fire("late-grow", "late/s0", "late-1").status_code == 202
        assert system.planner.get("/v1/workflows/late").json()["detail"]
    finally:
        system.put(down=False)
    system.ended(system.decided("late-1")["plan"])
    assert replicas(system, "late/s0") == 2
    system.until(lambda: system.planner.get("/readyz").status_code == 200)


def test_what_fires_once_waits_for_the_plan_that_is_under_way_and_holds_up_nobody(system: Any, online: Any, grow: Any) -> None:
    checks = grow("turn-checks", "turn/s0", verify={"that": "load > 100", "within": "10m", "else": "keep"}, priority=90)
    late = grow("turn-late", "turn/s0", on=BOTH, when="load > -1", priority=40)
    system.apply(online("turn"), checks, late, grow("turn-urgent", "turn/s0", priority=95))
    system.put(readings={"load": 1.0})
    system.fire("turn-checks", "turn/s0", "turn-1")
    plan = system.decided("turn-1")["plan"]
    system.until(lambda: system.get(f"/v1/plans/{plan}")["phase"] == "verifying")
    for identifier in ("turn-2", "turn-3"):
        system.fire("turn-late", "turn/s0", identifier, trigger="event", expires_at=time.time() + 300)
    # an interval looks again by itself, so that it is refused at once
    system.fire("turn-late", "turn/s0", "turn-4", trigger="every")
    assert system.decided("turn-4")["verdict"]["outcome"] == "refuse"
    time.sleep(2)
    system.end("planner", kill=True)
    system.start("planner")
    time.sleep(2)
    decided = {one["event"]["id"] for one in system.get("/v1/decisions", limit=1000)["items"]}
    assert not decided & {"turn-2", "turn-3"}
    # an event of the same target that need not wait is not held up by those that do
    system.fire("turn-urgent", "turn/s0", "turn-5")
    assert system.ended(system.decided("turn-5")["plan"])["phase"] == "kept"
    first, second = system.decided("turn-2"), system.decided("turn-3")
    assert "it had to wait" in system.get(f"/v1/decisions/{first['id']}")["explanation"]["words"]
    assert first["time"] <= second["time"]
    assert system.ended(first["plan"])["phase"] == system.ended(second["plan"])["phase"] == "kept"
    assert replicas(system, "turn/s0") == 5


def test_what_fires_once_waits_for_a_reading_that_is_missing(system: Any, online: Any, grow: Any) -> None:
    unread = {"on": BOTH, "readings": {"unread": {"promql": "unread"}}, "when": "unread > 0.5"}
    system.apply(online("unread"), grow("unread-grow", "unread/s0", **unread))
    system.fire("unread-grow", "unread/s0", "unread-1", trigger="event", expires_at=time.time() + 300)
    # an interval looks again by itself
    system.fire("unread-grow", "unread/s0", "unread-2", trigger="every")
    record = system.decided("unread-2")
    assert (record["decision"]["actions"], record["plan"]) == ([], "")
    time.sleep(1.5)
    assert "unread-1" not in {one["event"]["id"] for one in system.get("/v1/decisions", limit=1000)["items"]}
    system.put(readings={"unread": 1.0})
    record = system.decided("unread-1")
    assert "cannot be judged" in record["considered"][0]
    assert system.ended(record["plan"])["phase"] == "kept"
    assert replicas(system, "unread/s0") == 2


@pytest.mark.parametrize("kill", [True, False])
def test_everything_is_there_after_a_restart(system: Any, online: Any, grow: Any, kill: bool) -> None:
    name = f"restart-{kill}".lower()
    system.apply(online(name), grow(f"{name}-grow", f"{name}/s0", verify={"that": "load > 100", "within": "10m", "else": "keep"}))
    system.put(readings={"load": 1.0})
    system.fire(f"{name}-grow", f"{name}/s0", name)
    plan = system.decided(name)["plan"]
    system.until(lambda: system.get(f"/v1/plans/{plan}")["phase"] == "verifying")
    system.end("planner", kill=kill)
    with pytest.raises(httpx.HTTPError):
        system.planner.get("/healthz")
    system.put(readings={"load": 200.0})
    system.start("planner")
    assert system.ended(plan)["phase"] == "verified"
    assert replicas(system, f"{name}/s0") == 2
    assert f"{name}-grow" in [strategy["name"] for strategy in system.get("/v1/strategies", limit=1000)["items"]]
