import pytest
from pydantic import ValidationError

from autonomic.primitives.base import Context, Refused
from autonomic.primitives.reschedule import Reschedule, RescheduleArguments
from autonomic.seams.plan import Change
from autonomic.seams.state import State

BESIDE = {"workflow": "other", "part": "api"}
UNCLEAR = [{"avoid": {}}, {"avoid": {"part": "a"}}, {"avoid": {"node": "a", "workflow": "b"}}, {"spread": "continent"}]


def plan(args: dict[str, object], state: State, context: Context) -> Change:
    (change,) = Reschedule().plan(RescheduleArguments.model_validate(args), state, context)
    return change


@pytest.mark.parametrize(
    ("args", "placement", "words"),
    [
        ({"avoid": {"node": "node1"}}, {"avoid": [{"node": "node1"}]}, "to nodes away from node1"),
        (
            {"avoid": [{"workflow": "other", "part": "api"}]},
            {"avoid": [{"workflow": "other", "part": "api"}]},
            "to nodes away from other/api",
        ),
        (
            {"nodes": {"disk": "ssd"}, "spread": "zone"},
            {"nodes": {"disk": "ssd"}, "spread": "zone"},
            "to nodes with disk=ssd, spread over each zone",
        ),
        ({}, {}, "as it was declared"),
    ],
)
def test_the_change_says_all_of_the_placement(
    args: dict[str, object], placement: dict[str, object], words: str, online: State, context: Context
) -> None:
    change = plan(args, online, context)
    assert change.to == {"placement": placement}
    assert (change.key, change.expect) == ("plan-1.0", 7)
    assert Reschedule().describe(change) == f"reschedule online/predictor {words}"


def test_a_batch_workflow_may_be_rescheduled_as_a_whole_and_an_online_one_not(context: Context) -> None:
    assert plan({"spread": "node"}, State(target="training", kind="batch"), context).target == "training"
    with pytest.raises(Refused, match="name one of its services"):
        plan({}, State(target="online", kind="online"), context)
    with pytest.raises(Refused, match="not deployed"):
        plan({}, State(target="nothing", kind="absent"), context)


@pytest.mark.parametrize(
    "args", [{"avoid": {}}, {"avoid": {"part": "a"}}, {"avoid": {"node": "a", "workflow": "b"}}, {"spread": "continent"}]
)
def test_what_says_nothing_clear_is_refused(args: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RescheduleArguments.model_validate(args)
