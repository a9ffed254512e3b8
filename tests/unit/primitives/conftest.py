from collections.abc import Callable
from typing import Any

import pytest

from autonomic.primitives.base import Context
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.state import ModelVersion, RoleState, ServiceState, State

PARAMETERS = {"epochs": 5, "base_model": "", "points": ""}
BATCH = {
    "apiVersion": "autonomic.dev/v1alpha1",
    "kind": "Workflow",
    "metadata": {"name": "training"},
    "spec": {
        "type": "batch",
        "parameters": {"epochs": 5, "base_model": "", "points": ""},
        "steps": [{"name": "train", "command": ["true"]}],
    },
}
ONLINE = {
    "apiVersion": "autonomic.dev/v1alpha1",
    "kind": "Workflow",
    "metadata": {"name": "online"},
    "spec": {"type": "online", "services": [{"name": "predictor", "model": "models:/mnist@champion"}]},
}


@pytest.fixture
def online() -> State:
    """A service with two champions of 1 to 4, one backup, at revision 7."""
    roles = {
        "champion": RoleState(model="models:/mnist/3", wanted=2, ready=2),
        "backup": RoleState(model="models:/mnist/2", wanted=1, ready=1),
    }
    service = ServiceState(roles=roles, weights={"champion": 100, "backup": 0}, min_replicas=1, max_replicas=4)
    return State(target="online/predictor", kind="online", revision=7, service=service)


@pytest.fixture
def batch() -> State:
    return State(target="training", kind="batch")


@pytest.fixture
def context() -> Context:
    """A context in which version 5 is a candidate that won."""
    won = {
        "drifted_accuracy": "0.91",
        "champion_drifted_accuracy": "0.62",
        "clean_accuracy": "0.97",
        "champion_clean_accuracy": "0.98",
        "judge_trusted": "true",
    }
    registry = {
        "champion": ModelVersion(version="3"),
        "backup": ModelVersion(version="2"),
        "candidate": ModelVersion(version="5", tags=won),
    }
    return Context(
        plan="plan-1",
        cause="decision-1",
        workflows={"training": BATCH, "online": ONLINE},
        packages={"training": "abc"},
        registry={"mnist": registry},
    )


@pytest.fixture
def done() -> Callable[..., Outcome]:
    """The outcome of a change that was done."""

    def make(change: Change, before: dict[str, Any], after: dict[str, Any] | None = None) -> Outcome:
        return Outcome(
            key=change.key,
            primitive=change.primitive,
            target=change.target,
            status="done",
            before=before,
            after=change.to if after is None else after,
            started_at=0.0,
            finished_at=1.0,
        )

    return make
