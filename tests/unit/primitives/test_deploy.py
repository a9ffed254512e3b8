from collections.abc import Callable

import pytest

from autonomic.primitives.base import Context, Refused
from autonomic.primitives.delete import Delete, DeleteArguments
from autonomic.primitives.deploy import Deploy, DeployArguments
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State

ABSENT = State(target="online", kind="absent")


def test_deploy_carries_the_document(context: Context) -> None:
    (change,) = Deploy().plan(DeployArguments(), ABSENT, context)
    assert change.to == {"spec": context.workflows["online"], "package": ""}
    assert Deploy().describe(change) == "deploy online with the services predictor"
    with pytest.raises(Refused, match="is batch"):
        Deploy().plan(DeployArguments(), State(target="training", kind="absent"), context)


def test_a_first_deployment_is_taken_back_by_deleting_it(context: Context, done: Callable[..., Outcome]) -> None:
    (change,) = Deploy().plan(DeployArguments(), ABSENT, context)
    first, later = Deploy().revert(done(change, {})), Deploy().revert(done(change, {"spec": {"old": 1}, "package": ""}))
    assert isinstance(first, Change)
    assert isinstance(later, Change)
    assert (first.primitive, first.to) == ("delete", {})
    assert (later.primitive, later.to) == ("deploy", {"spec": {"old": 1}, "package": ""})


def test_delete_is_irreversible_and_needs_a_workflow_in_service(context: Context, done: Callable[..., Outcome]) -> None:
    (change,) = Delete().plan(DeleteArguments(), State(target="online", kind="online", revision=3), context)
    assert (change.to, change.expect) == ({}, 3)
    assert isinstance(Delete().revert(done(change, {"spec": {}})), Irreversible)
    with pytest.raises(Refused, match="not deployed"):
        Delete().plan(DeleteArguments(), ABSENT, context)
    with pytest.raises(Refused, match="not an online workflow"):
        Delete().plan(DeleteArguments(), State(target="online/predictor", kind="online"), context)
