from collections.abc import Callable

import pytest

from autonomic.primitives.base import Context, Refused, Unneeded
from autonomic.primitives.upgrade import Upgrade, UpgradeArguments
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.state import ModelVersion, State


def test_aliases_become_versions_and_only_what_differs_is_changed(online: State, context: Context, done: Callable[..., Outcome]) -> None:
    args = UpgradeArguments(champion="models:/mnist@candidate", backup="models:/mnist/2", canary="file:///models/a")
    _, change = Upgrade().plan(args, online, context)
    assert change.to == {"models": {"champion": "models:/mnist/5", "canary": "file:///models/a"}}
    back = Upgrade().revert(done(change, {"models": {"champion": "models:/mnist/3", "canary": ""}}))
    assert isinstance(back, Change)
    assert (back.effector, back.to) == ("platform", {"models": {"champion": "models:/mnist/3", "canary": ""}})


def declared(context: Context, **models: str) -> Context:
    spec = {"type": "online", "services": [{"name": "predictor", **models}]}
    online = {**context.workflows["online"], "spec": spec}
    return context.model_copy(update={"workflows": {**context.workflows, "online": online}})


def test_a_role_that_is_declared_by_an_alias_takes_it_along(online: State, context: Context, done: Callable[..., Outcome]) -> None:
    both = declared(context, model="models:/mnist@champion", backup="models:/mnist@backup")
    registry, service = Upgrade().plan(UpgradeArguments(champion="models:/mnist/9"), online, both)
    assert (registry.effector, registry.to["aliases"]) == ("registry", {"champion": "9", "backup": "3"})
    assert service.to == {"models": {"champion": "models:/mnist/9", "backup": "models:/mnist/3"}}
    assert "champion becomes version 9" in Upgrade().describe(registry)
    before = {"model": "mnist", "aliases": {"champion": "3", "backup": "2"}, "tags": {}}
    back = Upgrade().revert(done(registry, before))
    assert isinstance(back, Change)
    assert (back.effector, back.to) == ("registry", before)


def test_a_service_that_follows_an_alias_leaves_the_other_aliases_alone(online: State, context: Context) -> None:
    both = declared(context, model="models:/mnist@champion", backup="models:/mnist@backup")
    versions = {**context.registry["mnist"], "champion": ModelVersion(version="7")}
    moved = both.model_copy(update={"registry": {"mnist": versions}})
    (service,) = Upgrade().plan(UpgradeArguments(champion="models:/mnist@champion"), online, moved)
    assert service.to == {"models": {"champion": "models:/mnist/7"}}


def test_a_fixed_version_moves_no_alias(online: State, context: Context) -> None:
    (service,) = Upgrade().plan(UpgradeArguments(champion="models:/mnist/9"), online, declared(context, model="models:/mnist/3"))
    assert service.effector == "platform"


def test_what_is_there_already_is_not_needed(online: State, context: Context) -> None:
    with pytest.raises(Unneeded):
        Upgrade().plan(UpgradeArguments(champion="models:/mnist@champion"), online, context)


def test_an_unknown_alias_and_a_quarantined_version_are_refused(online: State, context: Context) -> None:
    with pytest.raises(Refused, match="aliases are backup, candidate, champion"):
        Upgrade().plan(UpgradeArguments(champion="models:/mnist@best"), online, context)
    registry = {"mnist": {"candidate": ModelVersion(version="5", tags={"quarantined": "it lost"})}}
    with pytest.raises(Refused, match="quarantined: it lost"):
        Upgrade().plan(UpgradeArguments(champion="models:/mnist@candidate"), online, context.model_copy(update={"registry": registry}))
