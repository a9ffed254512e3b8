import pytest
from pydantic import ValidationError

from autonomic.primitives.base import Context, Refused, Unneeded
from autonomic.primitives.gate import Snapshot, cuts_capacity
from autonomic.primitives.retarget import Retarget, RetargetArguments
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.state import State


def plan(args: dict[str, object], state: State, context: Context) -> Change:
    (change,) = Retarget().plan(RetargetArguments.model_validate(args), state, context)
    return change


@pytest.fixture
def scaled(online: State) -> State:
    """A workload that is scaled by its CPU and by what waits."""
    return online.model_copy(update={"spec": {"targets": {"cpu": 80.0, "waiting": 5.0}}})


@pytest.mark.parametrize(
    ("args", "value"),
    [
        ({"metric": "cpu", "to": 60}, 60),
        ({"metric": "cpu", "times": 0.5}, 40),
        ({"metric": "cpu", "times": 0.5, "min": 50}, 50),
        ({"metric": "waiting", "times": 2, "max": 8}, 8),
    ],
)
def test_the_change_is_absolute_and_within_the_bounds(args: dict[str, object], value: float, scaled: State, context: Context) -> None:
    change = plan(args, scaled, context)
    assert change.to == {"metric": args["metric"], "value": value}
    assert (change.key, change.expect) == ("plan-1.0", 7)


def test_it_says_what_it_does_and_is_taken_back(scaled: State, context: Context, done: type[Outcome]) -> None:
    change = plan({"metric": "cpu", "to": 60}, scaled, context)
    assert Retarget().describe(change) == "keep cpu of online/predictor at 60"
    back = Retarget().revert(done(change, before={"metric": "cpu", "value": 80.0}))
    assert isinstance(back, Change)
    assert back.to == {"metric": "cpu", "value": 80.0}


def test_what_is_so_already_is_not_needed(scaled: State, context: Context) -> None:
    with pytest.raises(Unneeded, match="kept at 80 already"):
        plan({"metric": "cpu", "times": 2, "max": 80}, scaled, context)


def test_a_metric_that_is_not_there_or_not_clear_is_refused(online: State, scaled: State, context: Context) -> None:
    with pytest.raises(Refused, match="is not scaled by a metric"):
        plan({"to": 60}, online, context)
    with pytest.raises(Refused, match="is scaled by cpu, waiting; name one"):
        plan({"to": 60}, scaled, context)
    with pytest.raises(Refused, match="not scaled by 'memory'; it is scaled by cpu, waiting"):
        plan({"metric": "memory", "to": 60}, scaled, context)
    alone = online.model_copy(update={"spec": {"targets": {"cpu": 80.0}}})
    assert plan({"to": 60}, alone, context).to == {"metric": "cpu", "value": 60}


def test_a_higher_value_is_less_capacity(scaled: State, context: Context) -> None:
    snapshot = Snapshot(states={scaled.target: scaled})
    assert cuts_capacity(plan({"metric": "cpu", "to": 90}, scaled, context), snapshot)
    assert not cuts_capacity(plan({"metric": "cpu", "to": 60}, scaled, context), snapshot)
    # what cannot be compared counts as a cut
    assert cuts_capacity(plan({"metric": "cpu", "to": 60}, scaled, context), Snapshot())


@pytest.mark.parametrize("args", [{}, {"to": 1, "times": 2}, {"to": 0}, {"times": -1}, {"to": 1, "min": 3, "max": 2}])
def test_arguments_that_say_nothing_or_too_much_are_not_valid(args: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RetargetArguments.model_validate(args)
