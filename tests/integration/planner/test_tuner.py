"""Searches over real HTTP."""

from typing import Any

SPACE = {"learning_rate": {"loguniform": [0.0001, 0.1]}}


def test_a_search_runs_at_the_host_and_its_end_is_told(system: Any, batch: Any) -> None:
    system.apply(batch("tuned", learning_rate=0.001, epochs=1))
    body = {"workflow": "tuned", "metric": "accuracy", "space": SPACE, "id": "search-one"}
    answer = system.tuner.post("/v1/searches", json=body)
    assert answer.status_code == 201, answer.text
    assert system.tuner.post("/v1/searches", json=body).status_code == 200
    system.until(lambda: "search-one" in system.see()["searches"])
    best = {"parameters": {"learning_rate": 0.01}, "value": 0.9}
    system.put(searches={"search-one": {"status": "succeeded", "best": best, "trials": [{"id": 1}]}})
    found = system.until(lambda: (one := system.tuner.get("/v1/searches/search-one").json())["status"] == "succeeded" and one)
    assert found["best"] == best

    def told() -> Any:
        events = [item["data"] for item in system.get("/v1/events", limit=100)["items"]]
        return next((event["data"] for event in events if event.get("type") == "dev.autonomic.search.finished"), None)

    assert system.until(told)["best"] == best
    assert not [key for key in system.see()["effects"] if "tune" in key], "the tuner applies nothing by itself"


def test_a_search_goes_on_after_a_restart_and_can_be_stopped(system: Any, batch: Any) -> None:
    system.apply(batch("tuned", learning_rate=0.001, epochs=1))
    identifier = system.tuner.post("/v1/searches", json={"workflow": "tuned", "metric": "accuracy", "space": SPACE}).json()["id"]
    system.until(lambda: identifier in system.see()["searches"])
    system.end("tuner", kill=True)
    system.put(down=True)
    try:
        system.start("tuner", "/healthz")
        missing = system.until(lambda: system.tuner.get("/readyz").json().get("missing"))
        assert "the world is down" in missing["platform"]
    finally:
        system.put(down=False)
    system.until(lambda: system.tuner.get("/readyz").status_code == 200)
    assert system.tuner.get(f"/v1/searches/{identifier}").json()["status"] == "running"
    assert system.tuner.post(f"/v1/searches/{identifier}:stop").json()["status"] == "stopped"
    assert system.see()["searches"][identifier]["status"] == "stopped"
    assert identifier in [one["id"] for one in system.tuner.get("/v1/searches").json()["items"]]


def test_the_planner_hands_a_search_to_the_tuner(system: Any, batch: Any) -> None:
    system.apply(batch("tuned", learning_rate=0.001, epochs=1))
    body = {"target": "tuned", "args": {"metric": "accuracy", "space": SPACE, "trials": 3}}
    done = system.planner.post("/v1/primitives/tune", json=body).json()
    status = system.ended(done["plan"])
    assert status["phase"] == "kept", status
    search = status["outcomes"][0]["after"]["search"]
    assert system.tuner.get(f"/v1/searches/{search}").json()["request"]["trials"] == 3


def test_a_search_that_does_not_fit_is_refused_with_every_reason(system: Any, batch: Any, online: Any) -> None:
    system.apply(batch("tuned", learning_rate=0.001, epochs=1), online("served"))
    space = {"depth": {"choice": [1]}, "epochs": {"integer": [3, 1]}, "learning_rate": {"loguniform": [0, 1]}}
    answer = system.tuner.post("/v1/searches", json={"workflow": "tuned", "metric": "a", "space": space})
    assert answer.status_code == 422
    assert {problem["path"] for problem in answer.json()["problems"]} == {"space.depth", "space.epochs", "space.learning_rate"}
    for body, status in (
        ({"workflow": "served", "metric": "a", "space": SPACE}, 400),
        ({"workflow": "nothing", "metric": "a", "space": SPACE}, 400),
        ({"workflow": "tuned", "metric": "a", "space": {}}, 422),
        ({"workflow": "tuned", "metric": "a", "space": SPACE, "trials": 0}, 422),
        ({"workflow": "tuned", "metric": "a", "space": SPACE, "mode": "best"}, 422),
        ({"workflow": "tuned", "metric": "a", "space": SPACE, "id": "../x"}, 422),
        ({}, 422),
    ):
        answer = system.tuner.post("/v1/searches", json=body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert system.tuner.get("/v1/searches/nothing").status_code == 404
    assert system.tuner.post("/v1/searches/nothing:stop").status_code == 404
