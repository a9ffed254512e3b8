"""Objects of a real cluster, put in force by a real planner process."""

import random
import time
from typing import Any

HEAD = {"apiVersion": "autonomic.dev/v1alpha1"}


def workflow(name: str, maximum: int = 3) -> dict[str, Any]:
    service = {"name": "api", "model": "models:/m/1", "replicas": {"min": 1, "max": maximum}}
    return {**HEAD, "kind": "Workflow", "metadata": {"name": name}, "spec": {"type": "online", "services": [service]}}


def strategy(name: str, target: str, **spec: Any) -> dict[str, Any]:
    told = {
        "target": target,
        "on": {"call": True},
        "readings": {"load": {"promql": "load"}},
        "when": "load > 0.5",
        "do": [{"rescale": {"by": 1}}],
        "guard": {"autonomy": "auto"},
        **spec,
    }
    return {**HEAD, "kind": "Strategy", "metadata": {"name": name}, "spec": told}


def changes(planner: Any, name: str) -> list[str]:
    return [change["change"] for change in planner.applied() if change["name"] == name]


def in_force(planner: Any, name: str) -> dict[str, Any]:
    found = planner.get(f"/v1/strategies/{name}")
    return found["spec"]["spec"] if found else {}


def test_what_is_applied_is_in_force_and_shown(cluster: Any, planner: Any) -> None:
    # as kubectl reads a file in which `on:` has no quotes
    grow = strategy("grow", "web/api")
    grow["spec"][True] = grow["spec"].pop("on")
    cluster.apply(grow, workflow("web"))
    planner.until(lambda: planner.get("/v1/strategies/grow"))
    assert in_force(planner, "grow")["on"]["call"] is True
    planner.until(lambda: cluster.condition("workflow", "web", "Ready").get("status") == "True")
    planner.until(lambda: cluster.get("workflow", "web")["status"].get("lastAction") == "deploy done")
    planner.until(lambda: cluster.get("workflow", "web")["status"].get("replicas") == "1/1")
    planner.until(lambda: cluster.condition("strategy", "grow", "Accepted").get("reason") == "Valid")
    planner.until(lambda: cluster.get("strategy", "grow")["status"].get("state") == "active")
    assert (changes(planner, "web"), changes(planner, "grow")) == (["added"], ["added"])
    table = [line.split() for line in cluster.kubectl("get", "workflows,strategies").splitlines() if line]
    assert table[0] == ["NAME", "TYPE", "STATE", "REPLICAS", "VERSION", "LAST", "ACTION", "AGE"]
    assert table[1][:7] == ["workflow.autonomic.dev/web", "online", "serving", "1/1", "1", "deploy", "done"]
    assert table[2] == ["NAME", "TARGET", "STATE", "AUTONOMY", "VERSION", "LAST", "ACTION", "AGE"]
    assert table[3][:5] == ["strategy.autonomic.dev/grow", "web/api", "active", "auto", "1"]
    assert cluster.kubectl("get", "autonomic", "-o", "name").split() == ["strategy.autonomic.dev/grow", "workflow.autonomic.dev/web"]


def rescales(cluster: Any, kind: str, name: str) -> list[str]:
    """What the planner's events on an object say of rescaling, as an operator reads them."""
    described = cluster.kubectl("describe", kind, name)
    return [line for line in described.splitlines() if "Rescale" in line and "autonomic-planner" in line]


def test_each_action_is_an_event_with_its_reason(cluster: Any, planner: Any) -> None:
    planner.world.post("/world", json={"readings": {"load": 0.9}})
    now = time.time()
    data = {"id": "e1", "source": "monitor", "strategy": "grow", "trigger": "when", "target": "web/api"}
    event = {"specversion": "1.0", "id": "e1", "source": "monitor", "type": "dev.autonomic.trigger.fired"}
    planner.client.post("/v1/events", json={**event, "data": {**data, "observed_at": now, "expires_at": now + 30}})
    planner.until(lambda: cluster.get("strategy", "grow")["status"].get("lastAction") == "rescale done")
    planner.until(lambda: cluster.get("workflow", "web")["status"]["replicas"] == "2/2")
    for kind, name in (("workflow", "web"), ("strategy", "grow")):
        [line] = planner.until(lambda kind=kind, name=name: rescales(cluster, kind, name))
        assert "web/api: done: load > 0.5 is true" in line
        assert "Accepted" in cluster.kubectl("describe", kind, name)
    planner.world.post("/world", json={"readings": {"load": 0.0}})


def test_what_changes_is_changed_once(cluster: Any, planner: Any) -> None:
    cluster.apply(strategy("grow", "web/api", when="load > 0.7"))
    planner.until(lambda: cluster.condition("strategy", "grow", "Accepted").get("status") == "True")
    assert in_force(planner, "grow")["when"] == "load > 0.7"
    grow = cluster.get("strategy", "grow")
    assert grow["status"]["version"] == str(grow["metadata"]["generation"])
    cluster.kubectl("annotate", "strategy", "grow", "seen=yes")
    cluster.apply(strategy("other", "web/api"))
    planner.until(lambda: planner.get("/v1/strategies/other"))
    assert changes(planner, "grow") == ["added", "changed"]


def test_what_is_wrong_is_told_whole_and_changes_nothing(cluster: Any, planner: Any) -> None:
    bad = strategy("grow", "web/api", when="lod > 1", verify={"that": "lod < 1", "within": "1s"}, on={"cron": "61 * * * *"})
    cluster.apply(bad, strategy("third", "web/api"))
    refused = planner.until(lambda: cluster.condition("strategy", "grow", "Accepted"))
    assert (refused["status"], refused["reason"]) == ("False", "Invalid")
    for where in ("3 errors", "spec.when: ", "spec.verify.that: ", "spec.on.cron: "):
        assert where in refused["message"]
    assert in_force(planner, "grow")["when"] == "load > 0.7"
    planner.until(lambda: planner.get("/v1/strategies/third"))
    assert "Refused" in planner.until(lambda: cluster.kubectl("get", "events", "--field-selector=involvedObject.name=grow,type=Warning"))
    cluster.apply(strategy("grow", "web/api"))
    planner.until(lambda: cluster.condition("strategy", "grow", "Accepted").get("status") == "True")
    assert changes(planner, "grow") == ["added", "changed", "changed"]


def test_who_applies_the_same_document_by_hand_does_not_win(cluster: Any, planner: Any) -> None:
    answer = planner.client.post("/v1/apply", json={"documents": [strategy("grow", "web/api", when="load > 9")]})
    assert answer.status_code == 200
    planner.until(lambda: in_force(planner, "grow")["when"] == "load > 0.5")


def test_what_is_deleted_is_gone(cluster: Any, planner: Any) -> None:
    cluster.apply(workflow("brief"), strategy("brief", "brief/api"))
    planner.until(lambda: cluster.condition("workflow", "brief", "Ready").get("status") == "True")
    cluster.kubectl("delete", "workflow", "brief", "--timeout=120s")
    planner.until(lambda: planner.get("/v1/workflows/brief") is None)
    planner.until(lambda: "brief" not in planner.world.get("/world").json()["states"])
    left = planner.until(
        lambda: cluster.condition("strategy", "brief", "Accepted").get("status") == "False" and cluster.get("strategy", "brief")
    )
    assert "unknown workflow 'brief'" in left["status"]["conditions"][0]["message"]
    assert planner.get("/v1/strategies/brief") is None
    cluster.kubectl("delete", "strategy", "brief", "other", "third", "--timeout=120s")
    planner.until(lambda: planner.get("/v1/strategies/other") is None)
    assert (changes(planner, "brief"), changes(planner, "other")) == (["added", "added", "removed", "removed"], ["added", "removed"])


def test_nothing_is_done_while_the_api_server_is_away(cluster: Any, planner: Any) -> None:
    cluster.apply(workflow("away"), strategy("away", "away/api"))
    planner.until(lambda: cluster.condition("workflow", "away", "Ready").get("status") == "True")
    planner.way.close()
    cluster.apply(strategy("grow", "web/api", when="load > 0.6"))
    cluster.kubectl("delete", "workflow", "away", "--timeout=120s")
    cluster.kubectl("delete", "strategy", "away", "--timeout=120s")
    unready = planner.until(lambda: (answer := planner.client.get("/readyz")).status_code == 503 and answer)
    assert "does not answer" in unready.json()["missing"]["custom resources"]
    assert in_force(planner, "grow")["when"] == "load > 0.5"
    assert planner.get("/v1/workflows/away")
    planner.way.open()
    planner.until(lambda: in_force(planner, "grow")["when"] == "load > 0.6" and planner.get("/v1/workflows/away") is None)
    planner.until(lambda: planner.client.get("/readyz").status_code == 200)
    planner.until(lambda: changes(planner, "away") == ["added", "added", "removed", "removed"])


def test_what_follows_is_done_when_the_platform_is_back(cluster: Any, planner: Any) -> None:
    planner.world.post("/world", json={"down": True})
    cluster.apply(workflow("patient"))
    planner.until(lambda: cluster.condition("workflow", "patient", "Accepted").get("status") == "True")
    planner.until(lambda: cluster.condition("workflow", "patient", "Ready").get("reason") == "PlatformAway")
    assert cluster.condition("workflow", "patient", "Ready")["status"] == "Unknown"
    planner.kill()
    planner.world.post("/world", json={"down": False})
    planner.start()
    planner.until(lambda: cluster.condition("workflow", "patient", "Ready").get("status") == "True")
    assert planner.world.get("/world").json()["states"]["patient"]["revision"] == 1
    assert changes(planner, "patient") == ["added"]


def test_a_planner_that_is_killed_applies_each_generation_once(cluster: Any, planner: Any) -> None:
    rng = random.Random(7)
    for number in range(3):
        cluster.apply(workflow(f"w{number}"), strategy(f"s{number}", f"w{number}/api"), workflow("web", 4 + number))
        time.sleep(rng.uniform(0, 0.3))
        planner.kill()
        planner.start()
    for name in ("w0", "w1", "w2", "web"):
        planner.until(lambda name=name: cluster.condition("workflow", name, "Ready").get("status") == "True")
    for number in range(3):
        planner.until(lambda number=number: cluster.condition("strategy", f"s{number}", "Accepted").get("status") == "True")
        assert (changes(planner, f"w{number}"), changes(planner, f"s{number}")) == (["added"], ["added"])
    # a generation that was replaced while nobody was there was never seen; the last one always is
    planner.until(lambda: planner.get("/v1/workflows/web")["spec"]["spec"]["services"][0]["replicas"]["max"] == 6)
    seen = changes(planner, "web")
    assert seen == ["added"] + (len(seen) - 1) * ["changed"]
    assert 2 <= len(seen) <= 4
    # each generation that was seen is deployed, and told of once
    about = "--field-selector=involvedObject.kind=Workflow,involvedObject.name=web,reason=Deploy"
    planner.until(lambda: len(cluster.kubectl("get", "events", about, "-o", "name").split()) >= len(seen))
    for name in ("w0", "w1", "w2", "web"):
        planner.until(lambda name=name: cluster.get("workflow", name)["status"].get("lastAction") == "deploy done")
    assert len(cluster.kubectl("get", "events", about, "-o", "name").split()) == len(seen)
    world = planner.world.get("/world").json()
    assert [world["states"][name]["revision"] for name in ("w0", "w1", "w2", "web")] == [1, 1, 1, len(seen)]
    assert set(world["effects"].values()) == {1}


def test_what_is_deleted_while_nobody_is_there_is_gone_afterwards(cluster: Any, planner: Any) -> None:
    planner.kill()
    cluster.kubectl("delete", "workflow", "w0", "w1", "--timeout=120s")
    cluster.kubectl("delete", "strategy", "s0", "s1", "--timeout=120s")
    planner.start()
    planner.until(lambda: planner.get("/v1/workflows/w1") is None and planner.get("/v1/strategies/s1") is None)
    planner.until(lambda: not {"w0", "w1"} & planner.world.get("/world").json()["states"].keys())
    assert planner.get("/v1/workflows/w2")


def test_nothing_happens_while_nothing_changes(cluster: Any, planner: Any) -> None:
    def look() -> Any:
        return [cluster.get("workflow", name) for name in ("web", "w2")], cluster.get("strategy", "s2"), planner.applied()

    def settled() -> Any:
        # what was done before the last kill may still have to be told
        first = look()
        time.sleep(1.5)
        return first if look() == first else None

    before = planner.until(settled)
    time.sleep(3)
    assert look() == before
