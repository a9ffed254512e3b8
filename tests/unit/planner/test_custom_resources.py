"""Which objects of a cluster are put in force, and what they are told."""

from typing import Any

from autonomic.agents.planner.custom_resources import telling
from autonomic.agents.planner.custom_resources.choosing import Choice, Given, Key, choose, in_force, read
from autonomic.agents.planner.custom_resources.telling import Action, Facts, Ready
from autonomic.agents.planner.specs import Specs
from autonomic.platforms.kubernetes.events import event
from autonomic.seams.state import RoleState, ServiceState, State

NOW = 1_800_000_000.0
IDLE = Facts("idle", Ready("True", "InForce", "it runs when it is asked to"))


def item(kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "ml", "uid": f"uid-{name}", "generation": 1, "resourceVersion": "1", **metadata}
    return {"apiVersion": "autonomic.dev/v1alpha1", "kind": kind, "metadata": meta, "spec": spec}


def workflow(name: str = "web", *services: str) -> dict[str, Any]:
    made = [{"name": service, "model": "models:/m/1"} for service in services or ("api",)]
    return item("Workflow", name, {"type": "online", "services": made})


def strategy(name: str = "grow", target: str = "web/api", **spec: Any) -> dict[str, Any]:
    return item("Strategy", name, {"target": target, "do": [{"rescale": {"by": 1}}], **spec})


def given(*items: dict[str, Any]) -> dict[Key, Given]:
    return {(one["kind"], one["metadata"]["name"]): read(one) for one in items}


def specs(choice: Choice) -> Specs:
    found = choice.models.items()
    return Specs.model_validate(
        {
            "workflows": {name: model for (kind, name), model in found if kind == "Workflow"},
            "strategies": {name: model for (kind, name), model in found if kind == "Strategy"},
        }
    )


def test_what_kubernetes_adds_is_no_part_of_a_document() -> None:
    one = read(workflow() | {"status": {"state": "serving"}})
    assert one.model is not None
    assert one.model.metadata.name == "web"
    assert read(item("Workflow", "web", workflow()["spec"], labels={"autonomic.dev/team": "web"})).model.metadata.team == "web"  # type: ignore[union-attr]


def test_on_is_read_as_kubectl_sends_it() -> None:
    assert read(strategy(true={"every": "3s"})).model == read(strategy(on={"every": "3s"})).model


def test_what_fits_is_chosen_together() -> None:
    choice = choose(given(strategy(), workflow()), (), Specs())
    assert set(choice.models) == {("Workflow", "web"), ("Strategy", "grow")}
    assert choice.errors == {}


def test_what_was_chosen_is_not_chosen_anew() -> None:
    documents = given(strategy(readings={"load": {"promql": "load"}}, when="load > 1"), workflow())
    before = specs(choose(documents, (), Specs()))
    assert in_force(before) == choose(documents, documents, before).models


def test_a_bad_document_keeps_no_other_out_and_tells_all_its_errors() -> None:
    bad = strategy("bad", when="nothing > 1", expires="0s", do=[{"rescale": {"to": -1}}])
    worse = strategy("worse", when="nothing > 1", expires="0s")
    choice = choose(given(workflow(), strategy(), bad, worse), (), Specs())
    assert set(choice.models) == {("Workflow", "web"), ("Strategy", "grow")}
    assert len(choice.errors["Strategy", "worse"]) == 2
    assert "to" in choice.errors["Strategy", "bad"][0]


def test_the_version_before_an_error_stays() -> None:
    before = specs(choose(given(workflow(), strategy()), (), Specs()))
    choice = choose(given(workflow(), strategy(when="nothing > 1")), in_force(before), before)
    assert choice.models == in_force(before)
    assert set(choice.errors) == {("Strategy", "grow")}


def test_a_strategy_waits_for_its_workflow() -> None:
    choice = choose(given(strategy()), (), Specs())
    assert choice.models == {}
    assert "unknown workflow 'web'" in choice.errors["Strategy", "grow"][0]


def test_what_is_gone_from_the_cluster_leaves_force_with_the_strategies_that_aim_at_it() -> None:
    before = specs(choose(given(workflow(), strategy(), workflow("other")), (), Specs()))
    choice = choose(given(strategy(), workflow("other")), in_force(before), before)
    assert set(choice.models) == {("Workflow", "other")}
    assert "unknown workflow 'web'" in choice.errors["Strategy", "grow"][0]
    again = choose(given(strategy(), workflow("other"), workflow()), [("Strategy", "grow")], specs(choice))
    assert set(again.models) == {("Workflow", "other"), ("Workflow", "web"), ("Strategy", "grow")}
    assert again.errors == {}


def test_what_is_applied_another_way_stays() -> None:
    before = specs(choose(given(workflow(), strategy()), (), Specs()))
    assert choose({}, (), before).models == in_force(before)


def test_a_workflow_that_breaks_a_strategy_of_the_cluster_takes_it_out_of_force() -> None:
    before = specs(choose(given(workflow(), strategy()), (), Specs()))
    choice = choose(given(workflow("web", "front"), strategy()), in_force(before), before)
    assert set(choice.models) == {("Workflow", "web")}
    assert set(choice.errors) == {("Strategy", "grow")}


def test_a_workflow_that_breaks_somebody_elses_strategy_is_refused() -> None:
    before = specs(choose(given(workflow(), strategy()), (), Specs()))
    choice = choose(given(workflow("web", "front")), [("Workflow", "web")], before)
    assert choice.models == in_force(before)
    assert "the strategy grow" in choice.errors["Workflow", "web"][0]


def test_a_status_keeps_the_time_of_what_did_not_change() -> None:
    first = telling.status({}, 1, (), IDLE, None, NOW)
    assert telling.status(first, 1, (), IDLE, None, NOW + 60) == first
    second = telling.status(first, 2, ("spec.when: no", "spec.do: no"), IDLE, None, NOW + 60)
    accepted, ready = second["conditions"]
    assert (accepted["status"], accepted["reason"]) == ("False", "Invalid")
    assert accepted["message"] == "2 errors: spec.when: no\nspec.do: no"
    assert accepted["lastTransitionTime"] != ready["lastTransitionTime"] == first["conditions"][1]["lastTransitionTime"]
    assert second["observedGeneration"] == 2


def test_the_last_action_stays_when_nothing_was_done_since() -> None:
    action = Action("k", "rescale", "web/api", "grow", "done", "load > 1 is true", NOW)
    first = telling.status({}, 1, (), IDLE, action, NOW)
    assert (first["lastAction"], first["lastActionTime"]) == ("rescale done", "2027-01-15T08:00:00Z")
    assert telling.status(first, 1, (), IDLE, None, NOW) == first


def test_an_event_has_one_name_for_one_cause() -> None:
    one = event(workflow(), telling.COMPONENT, "plan-1.0", "Rescale", "x" * 2000, NOW)
    assert one["metadata"] == event(workflow(), telling.COMPONENT, "plan-1.0", "Rescale", "other", NOW + 9)["metadata"]
    assert one["metadata"] != event(workflow(), telling.COMPONENT, "plan-1.1", "Rescale", "x", NOW)["metadata"]
    assert len(one["message"]) <= 1024
    assert one["involvedObject"]["uid"] == "uid-web"


def service(ready: int, wanted: int, model: str = "models:/m/7", why: str = "") -> State:
    role = RoleState(model=model, wanted=wanted, ready=ready, why=why)
    found = ServiceState(roles={"champion": role}, weights={}, min_replicas=1, max_replicas=9)
    return State(target="web/api", kind="online", service=found)


def test_an_online_workflow_is_told_by_its_champions() -> None:
    facts = telling.of_service({"api": service(2, 2), "front": service(1, 2, "models:/n/3")})
    assert (facts.state, facts.more["replicas"], facts.more["version"]) == ("degraded", "3/4", "api=7, front=3")
    assert telling.of_service({"api": service(2, 2)}).ready.status == "True"
    assert telling.of_service({"api": service(0, 2)}).state == "down"
    crashes = telling.of_service({"api": service(0, 2, why="CrashLoopBackOff: MLflow at http://here refused")})
    assert crashes.ready.message == "0 of 2 replicas are ready: CrashLoopBackOff: MLflow at http://here refused"
    assert telling.of_service({"api": State(target="web/api", kind="absent")}).state == "absent"
