"""A role that is declared by an alias serves what the alias names, wherever it was moved."""

from typing import Any

import pytest

from autonomic.agents.planner.aliases import AliasWorld
from autonomic.agents.planner.specs import Specs
from autonomic.primitives.people import Freeze
from autonomic.seams.decision import Action, Decision, DecisionRecord, Verdict
from autonomic.seams.errors import Permanent
from autonomic.seams.state import RoleState, ServiceState, State
from autonomic.workflows.spec.workflow import Workflow

TARGET = "shop/api"


class World:
    """A service, a registry, and the upgrades that were asked for."""

    def __init__(self, **roles: str) -> None:
        self.roles = roles
        self.named = {"champion": "6", "backup": "5"}
        self.busy: set[str] = set()
        self.freezes: list[Freeze] = []
        self.asked: list[Action] = []
        self.verdict: Any = "go"
        service = {"name": "api", "model": "models:/m@champion", "backup": "models:/m@backup"}
        document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "shop"}}
        workflow = Workflow.model_validate({**document, "spec": {"type": "online", "services": [service]}})
        specs = Specs(workflows={"shop": workflow})
        self.world = AliasWorld(lambda: specs, self.observe, lambda _: self.named, lambda: self.busy, lambda: self.freezes, self.follow)

    def observe(self, target: str) -> State:
        if not self.roles:
            return State(target=target, kind="absent")
        roles = {role: RoleState(model=uri, wanted=1, ready=1) for role, uri in self.roles.items()}
        service = ServiceState(roles=roles, weights={"champion": 100}, min_replicas=1, max_replicas=1)
        return State(target=target, kind="online", service=service)

    def follow(self, action: Action, reason: str) -> DecisionRecord:
        self.asked.append(action)
        verdict = Verdict(outcome=self.verdict, guards=(), why=reason)
        decision = Decision(strategy="", target=action.target, why=reason)
        return DecisionRecord(id="decision-1", time=0.0, event={}, readings={}, decision=decision, verdict=verdict)


BOTH = {"champion": "models:/m/6", "backup": "models:/m/5"}


def test_an_alias_that_was_moved_by_hand_is_a_difference_and_is_followed() -> None:
    world = World(**BOTH)
    assert world.world.gaps() == []
    world.named["champion"] = "7"
    (gap,) = world.world.gaps()
    assert str(gap) == "shop/api: version 7 as champion (models:/m@champion) is declared, version 6 is there"
    world.world.close(gap)
    assert world.asked == [Action(primitive="upgrade", target=TARGET, args={"champion": "models:/m@champion"})]


@pytest.mark.parametrize(
    "roles",
    [
        {},
        {**BOTH, "champion": "file:///models/a"},
        {**BOTH, "champion": "models:/another/1"},
    ],
)
def test_what_is_not_deployed_or_was_put_on_another_model_is_left_alone(roles: dict[str, str]) -> None:
    assert World(**roles).world.gaps() == []


def test_an_alias_that_nobody_has_is_not_followed_and_a_backup_comes_back_with_its_alias() -> None:
    world = World(champion="models:/m/6")
    world.named = {"champion": "6"}
    assert world.world.gaps() == []
    world.named["backup"] = "4"
    (gap,) = world.world.gaps()
    assert "version 4" in gap.desired
    assert gap.actual == "no backup"


def test_two_roles_of_a_service_follow_in_one_plan() -> None:
    world = World(**BOTH)
    world.named = {"champion": "7", "backup": "6"}
    (gap,) = world.world.gaps()
    world.world.close(gap)
    assert [sorted(action.args) for action in world.asked] == [["backup", "champion"]]


@pytest.mark.parametrize("busy", [TARGET, "shop"])
def test_what_a_plan_changes_now_is_left_to_it(busy: str) -> None:
    world = World(**BOTH)
    world.named["champion"] = "7"
    world.busy = {busy}
    assert world.world.gaps() == []


def test_a_freeze_and_the_gate_say_why_it_does_not_follow() -> None:
    world = World(**BOTH)
    world.named["champion"] = "7"
    world.verdict = "refuse"
    with pytest.raises(Permanent, match="the gate does not let it follow"):
        world.world.close(world.world.gaps()[0])
    world.freezes = [Freeze(target="", why="incident 7", by="ada", since=0.0)]
    (gap,) = world.world.gaps()
    assert "incident 7" in gap.why
    before = len(world.asked)
    with pytest.raises(Permanent, match="when the freeze ends"):
        world.world.close(gap)
    assert len(world.asked) == before
