"""What a platform lacks for a workflow is known before it is asked."""

from typing import Any

import pytest

from autonomic.platforms.table import ABILITIES
from autonomic.workflows.spec.capabilities import lacking
from autonomic.workflows.spec.documents import format_path
from autonomic.workflows.spec.workflow import Workflow


def workflow(**spec: Any) -> Workflow:
    return Workflow.model_validate({"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "w"}, "spec": spec})


PLAIN = workflow(type="batch", steps=[{"name": "a", "command": ["ls"], "resources": {"cpu": 2, "gpu": 1}, "timeout": "1h"}])
STEP = {
    "name": "train",
    "command": ["ls"],
    "resources": {"gpu": 1, "accelerator": "L4", "cpu_after": "1m"},
    "placement": {"avoid": [{"workflow": "online"}]},
    "volumes": [{"mount": "/data", "claim": "data"}],
    "queue": "team-a",
}
BATCH = workflow(type="batch", steps=[{"name": "load", "command": ["ls"]}, STEP])
SERVICE = {"name": "api", "model": "file:///m", "resources": {"gpu": 0.5}, "drift": {"detector": "m:D"}}
ONLINE = workflow(type="online", services=[{**SERVICE, "expose": "NodePort", "tls": {"secret": "web"}}])

AT = "spec.steps[1]"
LACKS = [
    (PLAIN, "ray", {}),
    (PLAIN, "kubernetes", {}),
    (BATCH, "kubernetes", {}),
    (
        BATCH,
        "ray",
        {
            f"{AT}.resources.accelerator": False,
            f"{AT}.resources.cpu_after": False,
            f"{AT}.placement": False,
            f"{AT}.volumes[0]": False,
            f"{AT}.queue": False,
        },
    ),
    (ONLINE, "kubernetes", {"spec.services[0].resources.gpu": True}),
    (ONLINE, "ray", {"spec.services[0].expose": False, "spec.services[0].tls": True}),
]


@pytest.mark.parametrize(("asking", "platform", "expected"), LACKS)
def test_what_is_refused_and_what_has_no_effect(asking: Workflow, platform: str, expected: dict[str, bool]) -> None:
    lacks = list(lacking(asking, ABILITIES[platform]))
    assert {format_path(lack.path): lack.refused for lack in lacks} == expected
    assert all(lack.message.startswith(f"the platform {platform} ") for lack in lacks)
