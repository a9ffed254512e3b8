from collections.abc import Callable

import pytest

from autonomic.primitives.arguments import PromoteArguments
from autonomic.primitives.base import Context, Refused
from autonomic.primitives.promote import Promote
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.state import ModelVersion, State


def with_tags(context: Context, **tags: str | None) -> Context:
    versions = context.registry["mnist"]
    changed = {**versions["candidate"].tags, **tags}
    candidate = ModelVersion(version="5", tags={name: value for name, value in changed.items() if value is not None})
    return context.model_copy(update={"registry": {"mnist": {**versions, "candidate": candidate}}})


def refusal(state: State, context: Context) -> Refused:
    with pytest.raises(Refused) as refused:
        Promote().plan(PromoteArguments(), state, context)
    return refused.value


def test_a_better_version_becomes_champion_and_the_champion_backup(online: State, context: Context) -> None:
    registry, upgrade = Promote().plan(PromoteArguments(), online, context)
    assert (registry.effector, registry.key) == ("registry", "plan-1.0")
    assert registry.to == {"model": "mnist", "aliases": {"champion": "5", "candidate": "", "backup": "3"}, "tags": {}}
    assert (upgrade.effector, upgrade.primitive, upgrade.key, upgrade.expect) == ("platform", "upgrade", "plan-1.1", 7)
    assert upgrade.to == {"models": {"champion": "models:/mnist/5", "backup": "models:/mnist/3"}}
    assert "champion becomes version 5" in Promote().describe(registry)


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"drifted_accuracy": "0.60"}, "drifted slice is 0.6000, the champion's 0.6200"),
        ({"drifted_accuracy": "0.6219"}, "must be better by 0.002"),
        ({"drifted_gain_low": "-0.05"}, "may be chance"),
        ({"drifted_gain_low": "0"}, "may be chance"),
        ({"clean_accuracy": "0.95"}, "clean hold-out is 0.9500"),
        ({"judge_trusted": "false", "judge_reason": "12 of 40 labels contradict"}, "12 of 40 labels contradict"),
    ],
)
def test_a_version_that_loses_is_quarantined_with_the_reason(tags: dict[str, str], why: str, online: State, context: Context) -> None:
    refused = refusal(online, with_tags(context, **tags))
    assert why in str(refused)
    (away,) = refused.instead
    assert away.effector == "registry"
    assert away.to["aliases"] == {"candidate": ""}
    assert why in away.to["tags"]["5"]["quarantined"]


def test_exactly_the_margin_is_enough(online: State, context: Context) -> None:
    tags = with_tags(context, drifted_accuracy="0.622", clean_accuracy="0.96")
    assert len(Promote().plan(PromoteArguments(), online, tags)) == 2


def test_a_gain_that_is_surely_above_nought_is_promoted(online: State, context: Context) -> None:
    assert len(Promote().plan(PromoteArguments(), online, with_tags(context, drifted_gain_low="0.04"))) == 2


@pytest.mark.parametrize("value", [None, "", "good", "nan", "inf"])
@pytest.mark.parametrize(
    "tag", ["drifted_accuracy", "champion_drifted_accuracy", "clean_accuracy", "champion_clean_accuracy", "judge_trusted"]
)
def test_a_version_that_was_not_judged_is_neither_promoted_nor_quarantined(
    tag: str, value: str | None, online: State, context: Context
) -> None:
    refused = refusal(online, with_tags(context, **{tag: value}))
    assert "was not judged" in str(refused)
    assert refused.instead == ()


def test_it_refuses_without_candidate_registry_or_service(online: State, context: Context) -> None:
    assert "no version" in str(refusal(online, context.model_copy(update={"registry": {"mnist": {}}})))
    assert "could not be asked" in str(refusal(online, context.model_copy(update={"registry": {}})))
    assert "not deployed" in str(refusal(State(target="online/predictor", kind="absent"), context))
    assert "quarantined" in str(refusal(online, with_tags(context, quarantined="bad")))


def test_the_first_champion_leaves_the_backup_alone(online: State, context: Context) -> None:
    versions = {"candidate": context.registry["mnist"]["candidate"]}
    registry, upgrade = Promote().plan(PromoteArguments(), online, context.model_copy(update={"registry": {"mnist": versions}}))
    assert registry.to["aliases"] == {"champion": "5", "candidate": ""}
    assert upgrade.to == {"models": {"champion": "models:/mnist/5"}}


def test_both_changes_can_be_taken_back(online: State, context: Context, done: Callable[..., Outcome]) -> None:
    registry, _ = Promote().plan(PromoteArguments(), online, context)
    before = {"model": "mnist", "aliases": {"champion": "3", "candidate": "5", "backup": "2"}, "tags": {}}
    back = Promote().revert(done(registry, before))
    assert isinstance(back, Change)
    assert (back.effector, back.primitive, back.to) == ("registry", "promote", before)
