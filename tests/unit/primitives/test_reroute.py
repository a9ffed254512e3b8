import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.primitives.base import Context, Refused, Unneeded
from autonomic.primitives.reroute import Reroute, RerouteArguments
from autonomic.seams.state import RoleState, ServiceState, State


def service(**weights: int) -> State:
    roles = {name: RoleState(model="m", wanted=1, ready=1) for name in weights}
    return State(target="w/s", kind="online", service=ServiceState(roles=roles, weights=weights, min_replicas=1, max_replicas=1))


def weights(state: State, **shares: str) -> dict[str, int]:
    (change,) = Reroute().plan(RerouteArguments.model_validate(shares), state, Context(plan="p"))
    return change.to["weights"]


@pytest.mark.parametrize(
    ("now", "shares", "then"),
    [
        ({"champion": 100, "canary": 0}, {"canary": "10%"}, {"champion": 90, "canary": 10}),
        ({"champion": 80, "canary": 10, "backup": 10}, {"canary": "30%"}, {"champion": 60, "canary": 30, "backup": 10}),
        ({"champion": 80, "canary": 10, "backup": 10}, {"canary": "95%"}, {"champion": 0, "canary": 95, "backup": 5}),
        ({"champion": 80, "canary": 20}, {"champion": "30%"}, {"champion": 30, "canary": 70}),
        ({"champion": 80, "canary": 20}, {"champion": "33.4%"}, {"champion": 33, "canary": 67}),
    ],
)
def test_shares_that_are_not_named_give_way(now: dict[str, int], shares: dict[str, str], then: dict[str, int]) -> None:
    assert weights(service(**now), **shares) == then


def test_it_refuses_what_does_not_add_up() -> None:
    with pytest.raises(Refused, match="120% together"):
        weights(service(champion=90, canary=10), champion="90%", canary="30%")
    with pytest.raises(Refused, match="no other role"):
        weights(service(champion=100), champion="50%")
    with pytest.raises(Refused, match="no canary"):
        weights(service(champion=100), canary="50%")
    with pytest.raises(Refused, match="no share"):
        weights(service(champion=100))


def test_what_is_there_already_is_not_needed() -> None:
    with pytest.raises(Unneeded):
        weights(service(champion=90, canary=10), canary="10%")


@given(st.integers(0, 100), st.integers(0, 100), st.floats(0, 100))
def test_whole_weights_always_add_up_to_one_hundred(canary: int, backup: int, share: float) -> None:
    backup = min(backup, 100 - canary)
    state = service(champion=100 - canary - backup, canary=canary, backup=backup)
    try:
        planned = weights(state, canary=f"{share:.3f}%")
    except Unneeded:
        return
    assert sum(planned.values()) == 100
    assert min(planned.values()) >= 0
