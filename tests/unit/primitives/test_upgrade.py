from collections.abc import Callable

import pytest

from autonomic.primitives.arguments import UpgradeArguments
from autonomic.primitives.base import Context, Refused, Unneeded
from autonomic.primitives.upgrade import Upgrade
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.state import ModelVersion, State


def test_aliases_become_versions_and_only_what_differs_is_changed(online: State, context: Context, done: Callable[..., Outcome]) -> None:
    args = UpgradeArguments(champion="models:/mnist@candidate", backup="models:/mnist/2", canary="file:///models/a")
    (change,) = Upgrade().plan(args, online, context)
    assert change.to == {"models": {"champion": "models:/mnist/5", "canary": "file:///models/a"}}
    back = Upgrade().revert(done(change, {"models": {"champion": "models:/mnist/3", "canary": ""}}))
    assert isinstance(back, Change)
    assert back.to == {"models": {"champion": "models:/mnist/3", "canary": ""}}


def test_what_is_there_already_is_not_needed(online: State, context: Context) -> None:
    with pytest.raises(Unneeded):
        Upgrade().plan(UpgradeArguments(champion="models:/mnist@champion"), online, context)


def test_an_unknown_alias_and_a_quarantined_version_are_refused(online: State, context: Context) -> None:
    with pytest.raises(Refused, match="aliases are backup, candidate, champion"):
        Upgrade().plan(UpgradeArguments(champion="models:/mnist@best"), online, context)
    registry = {"mnist": {"candidate": ModelVersion(version="5", tags={"quarantined": "it lost"})}}
    with pytest.raises(Refused, match="quarantined: it lost"):
        Upgrade().plan(UpgradeArguments(champion="models:/mnist@candidate"), online, context.model_copy(update={"registry": registry}))
