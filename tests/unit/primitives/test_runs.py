from collections.abc import Callable
from typing import Any

import pytest

from autonomic.primitives.base import Context, Refused, Unneeded
from autonomic.primitives.retrain import Retrain, RetrainArguments
from autonomic.primitives.run import Run, RunArguments
from autonomic.primitives.stop import Stop, StopArguments
from autonomic.primitives.tune import Tune, TuneArguments
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import RunState, State


def running(*runs: str, status: Any = "running") -> State:
    return State(target="training", kind="batch", runs=tuple(RunState(id=run, workflow="training", status=status) for run in runs))


def test_run_fills_in_the_parameters_and_takes_its_id_from_the_key(batch: State, context: Context) -> None:
    (change,) = Run().plan(RunArguments(parameters={"epochs": 9}), batch, context)
    assert change.to["run_id"] == "run-1-0"
    assert change.to["parameters"] == {"epochs": 9, "base_model": "", "points": ""}
    assert (change.to["package"], change.to["cause"], change.to["spec"]["metadata"]["name"]) == ("abc", "decision-1", "training")
    assert (change,) == Run().plan(RunArguments(parameters={"epochs": 9}), batch, context)


@pytest.mark.parametrize(
    ("target", "why"),
    [("nothing", "not a workflow that was applied"), ("online", "is online; run acts on batch"), ("training/train", "not a workflow")],
)
def test_run_refuses_what_is_no_batch_workflow(target: str, why: str, context: Context) -> None:
    with pytest.raises(Refused, match=why):
        Run().plan(RunArguments(), State(target=target, kind="absent"), context)


def test_an_undeclared_parameter_is_refused(batch: State, context: Context) -> None:
    with pytest.raises(Refused, match=r"epoch: unknown parameter; did you mean 'epochs'\? \(parameters: epochs, base_model, points\)"):
        Run().plan(RunArguments(parameters={"epoch": 9}), batch, context)


def test_taking_a_run_back_stops_it(batch: State, context: Context, done: Callable[..., Outcome]) -> None:
    (change,) = Run().plan(RunArguments(), batch, context)
    back = Run().revert(done(change, {}, {"run_ids": ["run-1-0"]}))
    assert isinstance(back, Change)
    assert (back.primitive, back.to) == ("stop", {"run_ids": ["run-1-0"]})


def test_retrain_starts_from_the_version_in_production(batch: State, context: Context) -> None:
    args = RetrainArguments.model_validate({"from": "models:/mnist@champion", "points": "online/predictor"})
    (change,) = Retrain().plan(args, batch, context)
    assert change.primitive == "retrain"
    assert change.to["parameters"] == {"epochs": 5, "base_model": "models:/mnist/3", "points": "online/predictor"}
    assert "from models:/mnist/3 with the labelled points of online/predictor" in Retrain().describe(change)


def test_a_retraining_in_flight_is_not_doubled(context: Context) -> None:
    args = RetrainArguments.model_validate({"from": "models:/mnist@champion"})
    with pytest.raises(Refused, match="run-a of training is in flight"):
        Retrain().plan(args, running("run-a"), context)
    assert Retrain().plan(args, running("run-a", status="failed"), context)


def test_stop_names_the_active_runs(context: Context) -> None:
    state = State(target="training", kind="batch", runs=(*running("a", "b").runs, *running("c", status="failed").runs))
    (change,) = Stop().plan(StopArguments(), state, context)
    assert change.to == {"run_ids": ["a", "b"]}
    assert Stop().plan(StopArguments(run="b"), state, context)[0].to == {"run_ids": ["b"]}
    with pytest.raises(Refused, match="active are a, b"):
        Stop().plan(StopArguments(run="c"), state, context)
    with pytest.raises(Unneeded):
        Stop().plan(StopArguments(), running(), context)


def test_a_stopped_run_cannot_be_taken_back(context: Context, done: Callable[..., Outcome]) -> None:
    (change,) = Stop().plan(StopArguments(), running("a"), context)
    assert isinstance(Stop().revert(done(change, {})), Irreversible)


def test_tune_hands_a_search_to_the_tuner(batch: State, context: Context) -> None:
    args = TuneArguments(metric="accuracy", space={"epochs": {"integer": [1, 9]}}, trials=4)
    (change,) = Tune().plan(args, batch, context)
    assert change.effector == "tuner"
    assert (change.to["workflow"], change.to["space"], change.to["trials"]) == ("training", {"epochs": {"integer": [1, 9]}}, 4)
    with pytest.raises(Refused, match="momentum: unknown parameter"):
        Tune().plan(args.model_copy(update={"space": {"momentum": {"uniform": [0, 1]}}}), batch, context)
