"""What the commands make of the answers of the agents."""

import httpx
import pytest

from autonomic.cli.client import failure


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ("there is no plan 'x'; see GET /v1/plans", "there is no plan 'x'; see `autonomic plans`"),
        ("there is no run 'x'; see GET /v1/runs", "there is no run 'x'; see `autonomic runs`"),
        ("there is no service 'x'; see GET /v1/workflows of the planner", "there is no service 'x'; see `autonomic status`"),
        ("nothing of the kind", "nothing of the kind"),
    ],
)
def test_errors_name_commands_and_no_paths_of_rest(detail: str, words: str) -> None:
    assert words in str(failure("planner", httpx.Response(404, json={"detail": detail})))
