from collections.abc import Callable

import pytest

from autonomic.primitives.base import Context, Refused
from autonomic.primitives.promote import Promote
from autonomic.primitives.promotion import PromoteArguments
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.state import ModelVersion, State

MNIST = PromoteArguments.model_validate(
    {
        "metric": "drifted_accuracy",
        "against": "champion_drifted_accuracy",
        "margin": 0.002,
        "guards": [
            {"tag": "judge_trusted", "is": "true", "reason": "judge_reason"},
            {"metric": "drifted_gain_low", "above": 0, "optional": True},
            {"metric": "clean_accuracy", "against": "champion_clean_accuracy", "tolerance": 0.02},
        ],
    }
)
RMSE = {"metric": "rmse", "higher_is_better": False}


def with_tags(context: Context, **tags: str | None) -> Context:
    versions = context.registry["mnist"]
    changed = {**versions["candidate"].tags, **tags}
    candidate = ModelVersion(version="5", tags={name: value for name, value in changed.items() if value is not None})
    return context.model_copy(update={"registry": {"mnist": {**versions, "candidate": candidate}}})


def refusal(state: State, context: Context) -> Refused:
    with pytest.raises(Refused) as refused:
        Promote().plan(MNIST, state, context)
    return refused.value


def test_a_better_version_becomes_champion_and_the_champion_backup(online: State, context: Context) -> None:
    registry, upgrade = Promote().plan(MNIST, online, context)
    assert (registry.effector, registry.key) == ("registry", "plan-1.0")
    assert registry.to == {"model": "mnist", "aliases": {"champion": "5", "candidate": "", "backup": "3"}, "tags": {}}
    assert (upgrade.effector, upgrade.primitive, upgrade.key, upgrade.expect) == ("platform", "upgrade", "plan-1.1", 7)
    assert upgrade.to == {"models": {"champion": "models:/mnist/5", "backup": "models:/mnist/3"}}
    assert "champion becomes version 5" in Promote().describe(registry)


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"drifted_accuracy": "0.60"}, "its drifted_accuracy is 0.6000, the champion's 0.6200"),
        ({"drifted_accuracy": "0.6219"}, "must be higher by 0.002"),
        ({"drifted_gain_low": "-0.05"}, "drifted_gain_low is -0.0500; it must be above 0"),
        ({"drifted_gain_low": "0"}, "must be above 0"),
        ({"clean_accuracy": "0.95"}, "its clean_accuracy is 0.9500, the champion's 0.9800; it may be worse by 0.02 at most"),
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
    assert len(Promote().plan(MNIST, online, tags)) == 2


def test_a_gain_that_is_surely_above_nought_is_promoted(online: State, context: Context) -> None:
    assert len(Promote().plan(MNIST, online, with_tags(context, drifted_gain_low="0.04"))) == 2


NUMBERS = ["drifted_accuracy", "champion_drifted_accuracy", "clean_accuracy", "champion_clean_accuracy"]


@pytest.mark.parametrize(
    ("tag", "value"),
    [*((tag, value) for tag in NUMBERS for value in (None, "", "good", "nan", "inf")), ("judge_trusted", None), ("judge_trusted", "")],
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
    registry, upgrade = Promote().plan(MNIST, online, context.model_copy(update={"registry": {"mnist": versions}}))
    assert registry.to["aliases"] == {"champion": "5", "candidate": ""}
    assert upgrade.to == {"models": {"champion": "models:/mnist/5"}}


def test_both_changes_can_be_taken_back(online: State, context: Context, done: Callable[..., Outcome]) -> None:
    registry, _ = Promote().plan(MNIST, online, context)
    before = {"model": "mnist", "aliases": {"champion": "3", "candidate": "5", "backup": "2"}, "tags": {}}
    back = Promote().revert(done(registry, before))
    assert isinstance(back, Change)
    assert (back.effector, back.primitive, back.to) == ("registry", "promote", before)


def with_metrics(context: Context, candidate: dict[str, float], champion: dict[str, float]) -> Context:
    versions = {"champion": ModelVersion(version="3", metrics=champion), "candidate": ModelVersion(version="5", metrics=candidate)}
    return context.model_copy(update={"registry": {"mnist": versions}})


@pytest.mark.parametrize(("new", "old", "wins"), [(1.0, 1.2, True), (1.2, 1.0, False), (1.0, 1.0, False)])
@pytest.mark.parametrize("higher", [False, True])
def test_any_metric_of_the_runs_decides_in_its_own_direction(
    new: float, old: float, wins: bool, higher: bool, online: State, context: Context
) -> None:
    args = PromoteArguments(metric="score", higher_is_better=higher)
    values = (-new, -old) if higher else (new, old)
    judged = with_metrics(context, {"score": values[0]}, {"score": values[1]})
    if wins:
        assert Promote().plan(args, online, judged)[0].to["aliases"]["champion"] == "5"
        return
    with pytest.raises(Refused, match=rf"it must be {'higher' if higher else 'lower'}") as refused:
        Promote().plan(args, online, judged)
    assert refused.value.instead[0].to["aliases"] == {"candidate": ""}


def test_guards_bound_other_metrics_and_whatever_is_missing_is_named_at_once(online: State, context: Context) -> None:
    guards = [{"metric": "latency_ms", "below": 20}, {"metric": "recall", "tolerance": 0.01}, {"tag": "approved", "is": "yes"}]
    args = PromoteArguments.model_validate({**RMSE, "guards": guards})
    with pytest.raises(Refused) as refused:
        Promote().plan(args, online, with_metrics(context, {}, {"rmse": 2.0}))
    for name in ("rmse", "latency_ms", "recall", "recall of the champion, version 3", "the tag approved"):
        assert name in str(refused.value)
    assert refused.value.instead == ()
    slow = with_metrics(context, {"rmse": 1.0, "latency_ms": 30.0, "recall": 0.9}, {"rmse": 2.0, "recall": 0.9})
    slow.registry["mnist"]["candidate"].tags["approved"] = "yes"
    with pytest.raises(Refused, match=r"latency_ms is 30\.0000; it must be below 20"):
        Promote().plan(args, online, slow)


def test_a_version_is_judged_against_what_serves_or_not_at_all(online: State, context: Context) -> None:
    versions = {"champion": ModelVersion(version="7"), "candidate": context.registry["mnist"]["candidate"]}
    with pytest.raises(Refused, match="version 3 of mnist serves, and the alias champion names version 7"):
        Promote().plan(MNIST, online, context.model_copy(update={"registry": {"mnist": versions}}))


@pytest.mark.parametrize(
    "guard", [{}, {"metric": "a"}, {"metric": "a", "above": 1, "tag": "b", "is": "c"}, {"tag": "b"}, {"metric": "a", "tolerance": -1}]
)
def test_a_guard_that_says_nothing_is_refused(guard: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"guard|greater"):
        PromoteArguments.model_validate({**RMSE, "guards": [guard]})
