from typing import Any

import pytest

from autonomic.agents.journal import SqlJournal
from autonomic.agents.planner import specs
from autonomic.platforms.table import platforms
from autonomic.seams.errors import SpecError

HEAD = {"apiVersion": "autonomic.dev/v1alpha1"}


def workflow(name: str, maximum: int = 3) -> dict[str, Any]:
    service = {"name": "api", "model": "models:/m/1", "replicas": {"max": maximum}}
    return {**HEAD, "kind": "Workflow", "metadata": {"name": name}, "spec": {"type": "online", "services": [service]}}


def strategy(name: str, target: str) -> dict[str, Any]:
    return {**HEAD, "kind": "Strategy", "metadata": {"name": name}, "spec": {"target": target, "do": [{"rescale": {"by": 1}}]}}


def applied(
    journal: SqlJournal, *documents: dict[str, Any], prune: bool = False, packages: dict[str, str] | None = None
) -> list[specs.Difference]:
    now = specs.load(journal)
    then = specs.merge(now, specs.parse(documents, now, platforms(), prune), packages or {}, prune)
    with journal.transaction() as transaction:
        specs.save(transaction, now, then)
    assert specs.load(journal) == then
    return [difference for difference in specs.differences(now, then) if difference.change != "unchanged"]


def test_documents_are_added_changed_and_removed() -> None:
    journal = SqlJournal("sqlite://")
    added = applied(journal, workflow("web"), strategy("grow", "web/api"), packages={"web": "abc"})
    assert [(one.kind, one.name, one.change) for one in added] == [("Workflow", "web", "added"), ("Strategy", "grow", "added")]
    assert applied(journal, workflow("web")) == []
    changed = applied(journal, workflow("web", 5))
    assert "+      max: 5" in changed[0].text
    repacked = applied(journal, workflow("web", 5), packages={"web": "def"})
    assert (repacked[0].change, repacked[0].text) == ("changed", "its packed code changes from abc to def\n")
    removed = applied(journal, workflow("other"), prune=True)
    assert [(one.name, one.change) for one in removed] == [("other", "added"), ("web", "removed"), ("grow", "removed")]
    assert specs.load(journal).packages == {}


def test_what_stays_in_force_is_checked_with_what_is_given() -> None:
    journal = SqlJournal("sqlite://")
    applied(journal, workflow("web"), strategy("grow", "web/api"))
    renamed = workflow("web")
    renamed["spec"]["services"][0]["name"] = "front"
    with pytest.raises(SpecError, match="grow in force"):
        specs.parse([renamed], specs.load(journal), platforms())


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        specs.parse([{**HEAD, "kind": "Nothing"}, workflow("UPPER"), strategy("grow", "nowhere/api")], specs.Specs(), platforms())
    assert len(caught.value.problems) == 3


def test_online_workflows_are_followed_by_what_deploys_or_deletes_them() -> None:
    now = specs.Specs()
    then = specs.merge(now, specs.parse([workflow("web"), strategy("keep", "web/api")], now, platforms()), {}, False)
    assert specs.following(specs.differences(now, then), now, then) == {"web": "deploy"}
    gone = specs.merge(then, [], {}, False, removed={("Workflow", "web"), ("Strategy", "keep")})
    assert specs.following(specs.differences(then, gone), then, gone) == {"web": "delete"}
    assert gone == now
