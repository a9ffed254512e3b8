from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from autonomic.primitives.base import Context, Refused, Unneeded
from autonomic.primitives.gate import Snapshot, cuts_capacity
from autonomic.primitives.resize import Resize, ResizeArguments
from autonomic.seams.plan import Change
from autonomic.seams.state import State
from autonomic.workflows.spec.workflow import StepResources

GIB = 2**30
RESOURCES = {"cpu": 1.0, "memory": "1Gi", "min": {"cpu": 0.5}, "max": {"cpu": 2.0, "memory": "4Gi"}}


def plan(args: dict[str, object], state: State, context: Context) -> Change:
    (change,) = Resize().plan(ResizeArguments.model_validate(args), state, context)
    return change


@pytest.fixture
def sized(online: State) -> State:
    """A service of one core and one GiB, whose size may change."""
    return online.model_copy(update={"spec": {**online.spec, "resources": RESOURCES}})


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ({"cpu": 1.5}, {"cpu": 1.5}),
        ({"cpu": 9}, {"cpu": 2.0}),
        ({"cpu": "100m", "memory": "2Gi"}, {"cpu": 0.5, "memory": 2 * GIB}),
        ({"times": {"memory": 2}}, {"memory": 2 * GIB}),
        ({"times": {"memory": 9}, "cpu": 2}, {"memory": 4 * GIB, "cpu": 2.0}),
    ],
)
def test_the_change_is_absolute_and_within_the_bounds(
    args: dict[str, object], wanted: Mapping[str, Any], sized: State, context: Context
) -> None:
    change = plan(args, sized, context)
    assert change.to == {"resources": {"cpu": 1.0, "memory": GIB, "gpu": 0.0, **wanted}}
    assert (change.key, change.expect) == ("plan-1.0", 7)


def test_it_says_what_it_does(sized: State, context: Context) -> None:
    assert Resize().describe(plan({"cpu": 2}, sized, context)) == "resize online/predictor to 2 CPU, 1024 MiB"


@pytest.mark.parametrize("args", [{"cpu": 1}, {"memory": "1Ki"}])
def test_what_is_there_or_at_its_bound_is_not_needed(args: dict[str, object], sized: State, context: Context) -> None:
    with pytest.raises(Unneeded, match="already, or this is its bound"):
        plan(args, sized, context)


def test_what_was_never_declared_is_refused(online: State, sized: State, context: Context) -> None:
    undeclared = online.model_copy(update={"spec": {"resources": {"cpu": 1}}})
    with pytest.raises(Refused, match="declares no memory"):
        plan({"memory": "1Gi"}, undeclared, context)
    with pytest.raises(Refused, match="is not deployed"):
        plan({"cpu": 1}, State(target="nothing/api", kind="absent"), context)
    with pytest.raises(Refused, match="neither a service nor a step"):
        plan({"cpu": 1}, State(target="online", kind="online"), context)


def test_a_step_has_the_size_that_its_next_attempt_gets(context: Context) -> None:
    document = {
        "spec": {
            "type": "batch",
            "steps": [{"name": "train", "resources": StepResources.model_validate(RESOURCES).model_dump(mode="json")}],
        }
    }
    known = context.model_copy(update={"workflows": {"training": document}})
    state = State(target="training/train", kind="batch")
    assert plan({"times": {"memory": 2}}, state, known).to["resources"]["memory"] == 2 * GIB
    resized = state.model_copy(update={"spec": {"resources": {"cpu": 1.0, "memory": 2 * GIB, "gpu": 0.0}}})
    assert plan({"times": {"memory": 2}}, resized, known).to["resources"]["memory"] == 4 * GIB


@pytest.mark.parametrize("args", [{}, {"times": {}}, {"cpu": 1, "times": {"cpu": 2}}, {"times": {"cpu": 0}}])
def test_arguments_that_say_nothing_or_two_things_are_refused(args: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ResizeArguments.model_validate(args)


def test_only_less_than_there_is_cuts_capacity(sized: State, context: Context) -> None:
    snapshot = Snapshot(states={sized.target: sized.model_copy(update={"spec": {"resources": {"cpu": 1.0, "memory": GIB}}})})
    assert cuts_capacity(plan({"cpu": 0.5, "memory": "2Gi"}, sized, context), snapshot)
    assert not cuts_capacity(plan({"cpu": 2}, sized, context), snapshot)
