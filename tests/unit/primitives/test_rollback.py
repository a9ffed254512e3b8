import pytest

from autonomic.primitives.arguments import RollbackArguments
from autonomic.primitives.base import Context, Refused
from autonomic.primitives.rollback import Rollback
from autonomic.seams.state import ModelVersion, State


def test_the_backup_becomes_champion_and_the_champion_is_quarantined(online: State, context: Context) -> None:
    context = context.model_copy(update={"why": "accuracy fell"})
    registry, upgrade = Rollback().plan(RollbackArguments(), online, context)
    assert registry.to["aliases"] == {"champion": "2", "backup": ""}
    assert registry.to["tags"] == {"3": {"quarantined": "rolled back to version 2: accuracy fell"}}
    assert upgrade.to == {"models": {"champion": "models:/mnist/2", "backup": ""}}


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
        Rollback().plan(RollbackArguments(), online, context.model_copy(update={"registry": {"mnist": versions}}))
