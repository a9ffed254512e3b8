"""What `autonomic status` says of each service of a workflow."""

from typing import Any

import pytest

from autonomic.cli import observe

ROLE = {"ready": 1, "wanted": 1, "model": "models:/m/1", "why": ""}
SERVICE = {"roles": {"champion": ROLE}, "weights": {"champion": 100}, "queued": 0}


def workflow(spec: dict[str, Any], services: dict[str, Any], **said: list[str]) -> dict[str, Any]:
    return {"name": "w", "type": "online", "spec": {"spec": spec}, "services": services, "detail": "", **said}


@pytest.mark.parametrize("kind", ["differs", "faults"])
def test_what_is_wrong_with_one_service_is_not_said_of_its_neighbours(kind: str) -> None:
    services = {"w/good": {"service": SERVICE}, "w/bad": {"service": SERVICE, kind: ["bad is wrong"]}}
    said = {"differs": ["another version is deployed"]}
    said[kind] = [*said.get(kind, []), "bad is wrong"]
    rows = observe._workflow_rows(workflow({"services": [{"name": "good"}, {"name": "bad"}]}, services, **said))
    words = {target: row for target, _, row in rows}
    assert ["bad is wrong" in words[target] for target in ("w/good", "w/bad")] == [False, True]
    assert all("another version is deployed" in row for row in words.values())


def test_an_adopted_workload_that_is_gone_is_said_to_be_gone() -> None:
    gone = workflow({"adopt": {"deployment": "web"}, "services": []}, {"w/web": {"service": None}})
    assert observe._workflow_rows(gone) == [("w/web", "online", "adopted; there is no deployment web")]
