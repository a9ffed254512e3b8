from hypothesis import given
from hypothesis import strategies as st

from autonomic.workflows.serving.placement import (
    MAX_WEIGHT,
    FrontReplica,
    FrontService,
    place,
    server_weights,
    slot_weights,
)


def service(**changes: object) -> FrontService:
    return FrontService.model_validate({"workflow": "w", "service": "s", "slots": 4} | changes)


def replica(name: str, role: str = "champion", state: str = "ready") -> FrontReplica:
    return FrontReplica.model_validate({"id": name, "role": role, "address": "127.0.0.1", "port": 9000, "state": state})


@given(st.integers(0, 100), st.integers(1, 4), st.integers(1, 4))
def test_roles_get_their_share_of_the_traffic(canary: int, champions: int, canaries: int) -> None:
    weights = server_weights({"champion": 100 - canary, "canary": canary}, {"champion": champions, "canary": canaries})
    assert all(0 <= weight <= MAX_WEIGHT for weight in weights.values())
    total = weights["champion"] * champions + weights["canary"] * canaries
    assert abs(weights["canary"] * canaries / total - canary / 100) < 0.01
    assert (weights["canary"] == 0) == (canary == 0)
    assert (weights["champion"] == 0) == (canary == 100)


def test_weights_are_as_small_as_they_can_be_so_that_turns_alternate() -> None:
    assert server_weights({"champion": 90, "canary": 10}, {"champion": 1, "canary": 1}) == {"champion": 9, "canary": 1}
    assert server_weights({"champion": 100}, {"champion": 3}) == {"champion": 1}


def test_the_share_of_a_role_without_replicas_goes_to_the_others() -> None:
    assert server_weights({"champion": 90, "canary": 10}, {"champion": 2, "canary": 0}) == {"champion": 1, "canary": 0}


def test_nobody_gets_traffic_where_no_share_is_given() -> None:
    assert server_weights({"champion": 0, "canary": 0}, {"champion": 2, "canary": 1}) == {"champion": 0, "canary": 0}


def test_replicas_keep_their_slots_and_newcomers_take_the_free_ones() -> None:
    first = place(None, service(), [replica("x"), replica("y")])
    assert {slot: each.id for slot, each in first.replicas.items()} == {"a1": "x", "a2": "y"}
    second = place(first, service(), [replica("y"), replica("z")])
    # x may still answer in a1, so z goes elsewhere
    assert {slot: each.id for slot, each in second.replicas.items()} == {"a2": "y", "a3": "z"}


def test_backups_stand_by_until_they_get_a_share() -> None:
    waiting = place(None, service(), [replica("x"), replica("b", "backup")])
    assert set(waiting.replicas) == {"a1", "b1"}
    assert slot_weights(waiting) == {"a1": 1, "b1": 1}
    sharing = place(waiting, service(weights={"champion": 50, "backup": 50}), [replica("x"), replica("b", "backup")])
    assert {slot: each.id for slot, each in sharing.replicas.items()} == {"a1": "x", "a2": "b"}
    assert slot_weights(sharing) == {"a1": 1, "a2": 1}


def test_draining_replicas_do_not_count_for_the_shares() -> None:
    placement = place(
        None, service(weights={"champion": 50, "canary": 50}), [replica("x"), replica("y", state="drain"), replica("c", "canary")]
    )
    weights = slot_weights(placement)
    assert weights["a1"] == weights["a3"] == 1


@given(st.lists(st.sets(st.integers(0, 30)), max_size=6))
def test_every_replica_has_one_slot_whatever_came_and_went(sets: list[set[int]]) -> None:
    placement = None
    for wanted in sets:
        before = dict(placement.replicas) if placement else {}
        placement = place(placement, service(), [replica(str(n), "backup" if n % 5 == 0 else "champion") for n in wanted])
        assert sorted(each.id for each in placement.replicas.values()) == sorted(map(str, wanted))
        assert set(placement.replicas) <= set(placement.slots())
        stayed = {slot: each.id for slot, each in before.items() if int(each.id) in wanted}
        assert stayed.items() <= {slot: each.id for slot, each in placement.replicas.items()}.items()
