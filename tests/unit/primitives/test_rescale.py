import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.primitives.base import Context, Refused, Unneeded
from autonomic.primitives.rescale import Rescale, RescaleArguments
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.reading import Reading, error, missing, number
from autonomic.seams.state import RoleState, ServiceState, State


def plan(args: dict[str, object], state: State, context: Context) -> Change:
    (change,) = Rescale().plan(RescaleArguments.model_validate(args), state, context)
    return change


@pytest.mark.parametrize(("args", "replicas"), [({"by": 1}, 3), ({"by": -1}, 1), ({"to": 4}, 4), ({"by": 9}, 4), ({"to": 0}, 1)])
def test_the_change_is_absolute_and_within_the_bounds(args: dict[str, object], replicas: int, online: State, context: Context) -> None:
    change = plan(args, online, context)
    assert change.to == {"role": "champion", "replicas": replicas}
    assert (change.key, change.expect, change.effector) == ("plan-1.0", 7, "platform")
    assert Rescale().describe(change) == f"rescale the champion of online/predictor to {replicas} replicas"


def test_a_backup_may_go_to_none(online: State, context: Context) -> None:
    assert plan({"to": 0, "role": "backup"}, online, context).to == {"role": "backup", "replicas": 0}


def test_what_is_there_already_is_not_needed(online: State, context: Context) -> None:
    with pytest.raises(Unneeded, match="has 2 replicas already"):
        plan({"to": 2}, online, context)


def test_at_the_bound_the_message_names_it(online: State, context: Context) -> None:
    full = plan({"to": 4}, online, context)
    service = online.service
    assert service is not None
    roles = {"champion": service.roles["champion"].model_copy(update={"wanted": full.to["replicas"]})}
    state = online.model_copy(update={"service": service.model_copy(update={"roles": roles})})
    with pytest.raises(Unneeded, match="bounds are 1 to 4"):
        plan({"by": 1}, state, context)


def test_a_requirement_becomes_a_number(online: State, context: Context) -> None:
    context = context.model_copy(update={"readings": {"qps": number(61, 0.0, "test")}})
    assert plan({"require": {"reading": "qps", "per_replica": 20}}, online, context).to["replicas"] == 4


@pytest.mark.parametrize("reading", [None, missing(0, "t", "gone"), error(0, "t", "no"), number(math.nan, 0, "t")])
def test_an_unknown_requirement_is_refused(reading: Reading | None, online: State, context: Context) -> None:
    context = context.model_copy(update={"readings": {"qps": reading} if reading else {}})
    with pytest.raises(Refused, match="not known"):
        plan({"require": {"reading": "qps", "per_replica": 20}}, online, context)


def test_a_substituted_requirement_never_scales_in(online: State, context: Context) -> None:
    substitute = number(5, 0.0, "test").model_copy(update={"substituted": True})
    context = context.model_copy(update={"readings": {"qps": substitute}})
    with pytest.raises(Refused, match="never scales in"):
        plan({"require": {"reading": "qps", "per_replica": 20}}, online, context)


def test_it_needs_a_service_with_that_role(online: State, context: Context) -> None:
    with pytest.raises(Refused, match="no canary"):
        plan({"to": 1, "role": "canary"}, online, context)
    with pytest.raises(Refused, match="not deployed"):
        plan({"to": 1}, State(target="online/x", kind="absent"), context)
    with pytest.raises(Refused, match="not a service"):
        plan({"to": 1}, State(target="online", kind="online"), context)


def test_the_revert_is_the_state_before(online: State, context: Context, done: Callable[..., Outcome]) -> None:
    change = plan({"by": 1}, online, context)
    back = Rescale().revert(done(change, {"role": "champion", "replicas": 2}))
    assert isinstance(back, Change)
    assert (back.key, back.to) == ("plan-1.0.revert", {"role": "champion", "replicas": 2})


@given(st.integers(-20, 20), st.integers(1, 8), st.integers(0, 8), st.integers(0, 8))
def test_planning_it_again_after_it_was_done_by_its_number_is_not_needed(by: int, wanted: int, low: int, more: int) -> None:
    def state(replicas: int) -> State:
        service = ServiceState(
            roles={"champion": RoleState(model="m", wanted=replicas, ready=replicas)},
            weights={"champion": 100},
            min_replicas=low,
            max_replicas=low + more + 1,
        )
        return State(target="w/s", kind="online", service=service)

    try:
        change = plan({"by": by}, state(wanted), Context(plan="p"))
    except Unneeded:
        return
    assert low <= change.to["replicas"] <= low + more + 1
    with pytest.raises(Unneeded):
        plan({"to": change.to["replicas"]}, state(change.to["replicas"]), Context(plan="p"))
