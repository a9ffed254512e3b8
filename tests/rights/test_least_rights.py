"""After all tests on the cluster: the rights that the documentation and the chart give are enough, and all of them are needed."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from autonomic.cli.embedded.kubernetes import rights

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "charts" / "autonomic" / "files"
# whose tests use every right between them
USERS = (
    "tests/chaos/test_kubernetes_kills.py",
    "tests/contract",
    "tests/integration/charts",
    "tests/integration/custom_resources",
    "tests/integration/platforms",
    "tests/integration/system/test_kubernetes_system.py",
)
# who asks for them gives them by a ClusterRole; without it they are told as missing
NODES = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}
ROLES = {"host": r".*/(host|.*-autonomic-host)", "planner": r".*/(planner|.*-autonomic-planner)"}


def rules(part: str) -> list[dict[str, list[str]]]:
    return yaml.safe_load((FILES / f"{part}-rules.yaml").read_text())


@pytest.mark.parametrize(("part", "page"), [("host", "kubernetes.md"), ("planner", "custom-resources.md")])
def test_the_chart_grants_what_the_documentation_says(part: str, page: str) -> None:
    blocks = (ROOT / "docs" / page).read_text().split("```yaml")[1:]
    role = yaml.safe_load(next(block for block in blocks if "kind: Role" in block).partition("```")[0])
    assert role["rules"] == rules(part)


@pytest.mark.parametrize("part", ROLES)
def test_what_is_granted_is_what_is_asked_for(kubernetes: Any, request: pytest.FixtureRequest, part: str) -> None:
    if kubernetes.local is None:
        pytest.skip("NO RIGHTS ARE COMPARED: AUTONOMIC_TEST_KUBECONFIG names a cluster whose audit log is not here")
    everybody = frozenset().union(*(rights.granted([*rules(name), NODES]) for name in ROLES))
    did = [asked for account, asked in rights.asked(kubernetes.local.audited()).items() if re.fullmatch(ROLES[part], account)]
    # some tests take a right away and see what is said; an account of theirs may have both roles
    assert {right for asked in did for right in asked.denied} <= everybody
    ran = {str(item.path.relative_to(ROOT)) for item in request.session.items}
    if request.session.testsfailed or not all(any(path.startswith(user) for path in ran) for user in USERS):
        pytest.skip("not every test that uses rights was run and passed, so that idle ones are not looked for")
    assert rights.granted(rules(part)) - {right for asked in did for right in asked.let} == set()
