"""The documents in force against what the platform has of them: what is deployed again, and what was chosen to be otherwise."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from autonomic.agents.planner import specs as documents
from autonomic.agents.planner.declared import DeclaredWorld, chosen, difference
from autonomic.agents.planner.specs import Specs
from autonomic.platforms.host.reconcile import Gap
from autonomic.seams.errors import Permanent
from autonomic.seams.plan import Change, Plan
from autonomic.seams.runner import PlanStatus
from autonomic.seams.state import RoleState, ServiceState, State
from autonomic.workflows.spec.workflow import Workflow


def workflow(**spec: Any) -> Workflow:
    online = {"type": "online", "services": [{"name": "api", "model": "models:/m@champion"}], **spec}
    return Workflow.model_validate(
        {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "shop"}, "spec": online}
    )


SHOP = workflow()
OTHER = workflow(services=[{"name": "api", "model": "models:/m@champion", "max_in_flight": 3}])
DEPLOYED = State(target="shop", kind="online", spec=documents.dump(SHOP), package="sha256-1")


def plan(primitive: str, phase: str, document: Workflow = SHOP, target: str = "shop") -> PlanStatus:
    change = Change(key="k", primitive=primitive, target=target, to={"spec": documents.dump(document)})
    made = Plan(id="plan-1", decision="decision-1", strategy="", target="shop", changes=(change,), created_at=0.0)
    return PlanStatus.model_validate({"plan": made.model_dump(), "phase": phase, "updated_at": 0.0})


@pytest.mark.parametrize(
    ("state", "close"),
    [
        (State(target="shop", kind="absent"), "create"),
        (DEPLOYED.model_copy(update={"spec": documents.dump(OTHER)}), "replace"),
        (DEPLOYED.model_copy(update={"package": "sha256-2"}), "replace"),
        (DEPLOYED, None),
    ],
)
def test_a_platform_that_has_not_the_document_or_its_code_has_a_gap(state: State, close: str | None) -> None:
    gap = difference(SHOP, "sha256-1", state)

    assert (gap.close if gap else None) == close


@pytest.mark.parametrize(
    ("plans", "choice"),
    [
        ([], "close"),
        ([plan("deploy", "failed")], "close"),
        ([plan("deploy", "refused")], "close"),
        # it worked, and the platform has lost it
        ([plan("deploy", "kept")], "close"),
        ([plan("deploy", "applying")], "wait"),
        # somebody chose that it be so
        ([plan("delete", "kept")], "leave"),
        ([plan("deploy", "kept", OTHER)], "leave"),
        # a deletion that did not work is none, but what stood before it counts
        ([plan("delete", "failed"), plan("deploy", "kept", OTHER)], "close"),
        # changes of its services say nothing of it
        ([plan("rescale", "kept", target="shop/api"), plan("delete", "kept")], "leave"),
    ],
)
def test_what_a_plan_chose_stays_and_what_failed_or_was_lost_is_deployed_again(plans: list[PlanStatus], choice: str) -> None:
    assert chosen("shop", documents.dump(SHOP), plans) == choice


def world(
    state: State, *, verdict: str = "go", decided: bool = False, service: State | None = None, plans: Sequence[PlanStatus] = ()
) -> DeclaredWorld:
    record: Any = SimpleNamespace(id="decision-1", verdict=SimpleNamespace(outcome=verdict, why="frozen until noon"))
    states = {"shop": state, "shop/api": service or state}
    specs = Specs(workflows={"shop": SHOP}, packages={"shop": "sha256-1"})
    return DeclaredWorld(
        lambda: specs,
        states.__getitem__,
        lambda names: ({name: states[name] for name in names}, {}),
        lambda: plans,
        lambda _: record,
        lambda _: decided,
    )


def test_what_is_being_decided_on_or_deployed_already_is_waited_for() -> None:
    absent = State(target="shop", kind="absent")

    assert [gap.on_hold for gap in world(absent).gaps()] == [False]
    assert [gap.on_hold for gap in world(absent, decided=True).gaps()] == [True]
    assert [gap.on_hold for gap in world(absent, plans=[plan("deploy", "applying")]).gaps()] == [True]


def test_a_gap_says_why_the_last_deploy_did_not_close_it_also_while_the_next_is_under_way() -> None:
    failed = plan("deploy", "failed").model_copy(update={"detail": "the code package sha256-1 is gone"})

    for plans in ([failed], [plan("deploy", "applying"), failed]):
        (gap,) = world(State(target="shop", kind="absent"), plans=plans).gaps()
        assert gap.why == "it is not deployed; the code package sha256-1 is gone"
    (gap,) = world(State(target="shop", kind="absent"), plans=[plan("deploy", "kept"), failed]).gaps()
    assert gap.why == "it is not deployed"


def test_a_gate_that_refuses_is_the_reason_that_stands() -> None:
    gap = Gap(name="shop", target="shop", close="create", desired="its document", actual="nothing")

    world(DEPLOYED).close(gap)
    with pytest.raises(Permanent, match=r"frozen until noon \(autonomic explain decision-1\)"):
        world(DEPLOYED, verdict="refuse").close(gap)


def test_what_fails_by_itself_is_a_fault_and_nothing_that_is_lacking() -> None:
    fault = "the drift detector of shop/api: KeyError: 'pick'"
    failing = DEPLOYED.model_copy(update={"faults": (fault,)})
    ready = ServiceState(roles={}, weights={}, min_replicas=1, max_replicas=1)
    seen = world(failing, service=State(target="shop/api", kind="online", service=ready, faults=(fault,)))

    assert seen.lacking("shop") == ""
    assert seen.faults(["shop"]) == [fault]


def test_apply_is_told_of_replicas_that_are_missing_and_of_what_the_platform_says_of_them() -> None:
    role = RoleState(model="models:/m/1", wanted=2, ready=1, why="CrashLoopBackOff: MLflow refused")
    service = ServiceState(roles={"champion": role}, weights={"champion": 100}, min_replicas=1, max_replicas=2)
    part = State(target="shop/api", kind="online", service=service)

    assert world(DEPLOYED, service=part).lacking("shop") == (
        "shop/api: 1 of 2 replicas of champion are ready (CrashLoopBackOff: MLflow refused)"
    )
    assert world(State(target="shop", kind="absent")).lacking("shop") == "it is not deployed"
    ready = part.model_copy(update={"service": service.model_copy(update={"roles": {"champion": role.model_copy(update={"ready": 2})}})})
    assert world(DEPLOYED, service=ready).lacking("shop") == ""
    assert world(DEPLOYED.model_copy(update={"differs": ("backup is gone",)}), service=ready).lacking("shop") == "backup is gone"


def test_all_workflows_are_looked_at_by_one_question_and_one_that_is_not_known_holds_up_no_other() -> None:
    asked: list[list[str]] = []
    names = [f"shop-{number}" for number in range(5)]
    workflows = {name: SHOP.model_copy(update={"metadata": SHOP.metadata.model_copy(update={"name": name})}) for name in names}
    unknown: dict[str, str] = {}

    def observe_all(targets: Any) -> Any:
        asked.append(list(targets))
        return {name: State(target=name, kind="absent") for name in targets if name not in unknown}, unknown

    def never(_: str) -> State:
        raise AssertionError("one by one")

    specs = Specs(workflows=workflows, packages={})
    seen = DeclaredWorld(lambda: specs, never, observe_all, list, lambda _: Any, lambda _: False)
    assert [gap.name for gap in seen.gaps()] == names
    assert asked == [names]
    unknown["shop-3"] = "the API server does not answer"
    # the others are put right all the same, and of this one it is not said that it is as declared
    assert {gap.name: gap.on_hold for gap in seen.gaps()} == {name: name == "shop-3" for name in names}
    assert seen.faults(names) == ["shop-3: the API server does not answer"]
