from collections.abc import Callable

from autonomic.primitives.base import Context
from autonomic.primitives.call import Call, CallArguments
from autonomic.primitives.notify import Notify, NotifyArguments
from autonomic.seams.plan import Irreversible, Outcome
from autonomic.seams.state import State

STATE = State(target="online/predictor", kind="absent")


def test_messages_go_to_the_agents_and_cannot_be_taken_back(context: Context, done: Callable[..., Outcome]) -> None:
    (told,) = Notify().plan(NotifyArguments(message="it is slow"), STATE, context)
    (called,) = Call().plan(CallArguments(to="tuner", type="x.y", data={"a": 1}), STATE, context)
    assert (told.effector, told.to) == ("agents", {"message": "it is slow", "webhook": None})
    assert (called.effector, called.to) == ("agents", {"to": "tuner", "type": "x.y", "data": {"a": 1}})
    assert isinstance(Notify().revert(done(told, {})), Irreversible)
    assert isinstance(Call().revert(done(called, {})), Irreversible)
    assert Notify().describe(told) == "tell people: it is slow"
