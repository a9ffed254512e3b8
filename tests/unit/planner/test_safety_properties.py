"""The rules that keep it safe, held over whatever readings, states and strategies there are."""

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autonomic.agents.planner.judging import Inputs, World, judge
from autonomic.primitives.gate import Snapshot
from autonomic.seams.event import Event
from autonomic.seams.reading import Reading, error, missing
from autonomic.seams.state import ModelVersion, RoleState, ServiceState, State
from autonomic.strategies.readings import fill_again
from autonomic.strategies.spec.strategy import Strategy

TARGET = "online/predictor"
NOW = 1000.0
WON = {
    "drifted_accuracy": "0.9",
    "champion_drifted_accuracy": "0.6",
    "clean_accuracy": "0.97",
    "champion_clean_accuracy": "0.97",
    "judge_trusted": "true",
}
TRAINING = {
    "apiVersion": "autonomic.dev/v1alpha1",
    "kind": "Workflow",
    "metadata": {"name": "training"},
    "spec": {"type": "batch", "parameters": {"base_model": ""}, "steps": [{"name": "train", "command": ["true"]}]},
}
RISKY: list[dict[str, Any]] = [
    {"rescale": {"by": -1}},
    {"rescale": {"to": 1}},
    {"rescale": {"require": {"reading": "a", "per_replica": 20.0}}},
    {"retrain": {"from": "models:/mnist@champion"}, "target": "training"},
    {"promote": {"metric": "drifted_accuracy", "against": "champion_drifted_accuracy"}},
]
CONDITIONS = ["a < 5", "a > 5", "!(a > 5)", "a == a", "a / a < 2", "a > 5 || a <= 5", "a * 0 == 0", "-a < 0 || a < 0 || a == 0"]

unknown = st.one_of(
    st.none(),
    st.just(missing(NOW, "t", "no sample")),
    st.just(error(NOW, "t", "refused")),
    st.sampled_from([math.nan, math.inf, -math.inf, None]).map(lambda value: Reading(status="ok", value=value, time=NOW, source="t")),
    st.floats(6, 1000).map(lambda age: Reading(status="ok", value=1.0, time=NOW - age, source="t")),
)
policies = st.sampled_from(["hold", {"last": "10m"}, {"fallback": 1}, {"fallback": 100}])


def make_strategy(action: dict[str, Any], when: str, **spec: Any) -> Strategy:
    given_spec = {
        "target": TARGET,
        "readings": {"a": {"promql": "a", "max_age": "5s"}},
        "when": when,
        "do": [action],
        "guard": {"autonomy": "auto"},
        **spec,
    }
    document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Strategy", "metadata": {"name": "s"}, "spec": given_spec}
    return Strategy.model_validate(document)


def world(wanted: int = 3) -> World:
    service = ServiceState(
        roles={"champion": RoleState(model="models:/mnist/1", wanted=wanted, ready=wanted)},
        weights={"champion": 100},
        min_replicas=1,
        max_replicas=8,
    )
    states = {TARGET: State(target=TARGET, kind="online", service=service), "training": State(target="training", kind="batch")}
    registry = {"mnist": {"champion": ModelVersion(version="1"), "candidate": ModelVersion(version="2", tags=WON)}}
    return World(workflows={"training": TRAINING}, registry=registry, snapshot=Snapshot(states=states))


def inputs(strategy: Strategy, readings: dict[str, Reading], seen: dict[str, Reading] | None = None, wanted: int = 3) -> Inputs:
    event = Event(id="e", source="monitor", strategy="s", target=TARGET, observed_at=NOW, expires_at=NOW + 30, readings=seen or {})
    filled = fill_again(strategy, readings, event.readings, NOW)
    return Inputs(decision="d", plan="p", now=NOW, strategy=strategy, event=event, readings=filled, world=world(wanted))


@given(unknown, policies, st.sampled_from(RISKY), st.sampled_from(CONDITIONS), st.floats(-100, 100))
def test_a_reading_that_is_not_known_never_scales_in_retrains_or_promotes(
    reading: Reading | None, policy: Any, action: dict[str, Any], when: str, before: float
) -> None:
    strategy = make_strategy(action, when, missing=policy)
    seen = {"a": Reading(status="ok", value=before, time=NOW - 1, source="t")}
    judged = judge(inputs(strategy, {} if reading is None else {"a": reading}, seen))
    changes = judged.plan.changes if judged.plan is not None else ()
    for change in changes:
        # what may be left is scaling out on a substitute
        assert change.primitive == "rescale"
        assert change.to["replicas"] > 3


@given(st.sampled_from(RISKY), st.floats(0, 4.9))
def test_the_same_actions_are_taken_where_the_reading_is_known(action: dict[str, Any], value: float) -> None:
    judged = judge(inputs(make_strategy(action, "a < 5"), {"a": Reading(status="ok", value=value, time=NOW, source="t")}))
    assert judged.plan is not None


@given(st.integers(-8, 8), st.integers(1, 8), st.floats(0, 200))
def test_a_plan_is_absolute_and_the_same_when_it_is_made_again(by: int, wanted: int, need: float) -> None:
    reading = {"a": Reading(status="ok", value=need, time=NOW, source="t")}
    for args in ({"by": by}, {"require": {"reading": "a", "per_replica": 20.0}}):
        given_inputs = inputs(make_strategy({"rescale": args}, "a >= 0"), reading, wanted=wanted)
        judged = judge(given_inputs)
        assert judged.record.model_dump_json() == judge(given_inputs).record.model_dump_json()
        again = judge(Inputs.model_validate_json(given_inputs.model_dump_json(by_alias=True)))
        assert judged.record.model_dump_json() == again.record.model_dump_json()
        for change in judged.record.changes:
            assert set(change.to) == {"role", "replicas"}
            assert 1 <= change.to["replicas"] <= 8
            assert change.key == "p.0"


@given(st.integers(-8, -1), st.integers(2, 8), st.sampled_from([True, False]))
def test_capacity_is_not_cut_while_somebody_wants_more(by: int, wanted: int, pressed: bool) -> None:
    given_inputs = inputs(
        make_strategy({"rescale": {"by": by}}, "a >= 0"), {"a": Reading(status="ok", value=1.0, time=NOW, source="t")}, wanted=wanted
    )
    snapshot = given_inputs.world.snapshot.model_copy(update={"pressing": ("keep-latency",) if pressed else ()})
    judged = judge(given_inputs.model_copy(update={"world": given_inputs.world.model_copy(update={"snapshot": snapshot})}))
    assert (judged.plan is None) == pressed
