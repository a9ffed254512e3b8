import pytest

from autonomic.primitives.base import Context, Refused
from autonomic.primitives.rollback import Rollback, RollbackArguments
from autonomic.seams.state import ModelVersion, State


def test_the_backup_becomes_champion_and_the_champion_is_quarantined(online: State, context: Context) -> None:
    context = context.model_copy(update={"why": "accuracy fell"})
    registry, upgrade = Rollback().plan(RollbackArguments(), online, context)
    assert registry.to["aliases"] == {"champion": "2", "backup": ""}
    assert registry.to["tags"] == {"3": {"quarantined": "rolled back to version 2: accuracy fell"}}
    assert upgrade.to == {"models": {"champion": "models:/mnist/2", "backup": ""}}


def test_the_version_that_served_is_quarantined_whatever_the_alias_names(online: State, context: Context) -> None:
    versions = {"champion": ModelVersion(version="6"), "backup": ModelVersion(version="2")}
    registry, upgrade = Rollback().plan(RollbackArguments(), online, context.model_copy(update={"registry": {"mnist": versions}}))
    assert list(registry.to["tags"]) == ["3"]
    assert registry.to["aliases"]["champion"] == "2"
    assert upgrade.to["models"]["champion"] == "models:/mnist/2"


def serving(online: State, **models: str) -> State:
    assert online.service is not None
    roles = {role: online.service.roles["champion"].model_copy(update={"model": uri}) for role, uri in models.items()}
    return online.model_copy(update={"service": online.service.model_copy(update={"roles": roles})})


def test_without_a_backup_in_service_the_alias_names_it(online: State, context: Context) -> None:
    registry, _ = Rollback().plan(RollbackArguments(), serving(online, champion="models:/mnist/3"), context)
    assert registry.to["aliases"] == {"champion": "2", "backup": ""}


@pytest.mark.parametrize(
    ("versions", "why"),
    [
        ({"champion": ModelVersion(version="3")}, "alias 'backup'"),
        ({"champion": ModelVersion(version="3"), "backup": ModelVersion(version="3")}, "nothing else"),
        ({"champion": ModelVersion(version="3"), "backup": ModelVersion(version="2", tags={"quarantined": "bad"})}, "is quarantined: bad"),
    ],
)
def test_it_refuses_where_there_is_nothing_good_to_go_back_to(
    versions: dict[str, ModelVersion], why: str, online: State, context: Context
) -> None:
    with pytest.raises(Refused, match=why):
        Rollback().plan(
            RollbackArguments(), serving(online, champion="models:/mnist/3"), context.model_copy(update={"registry": {"mnist": versions}})
        )
