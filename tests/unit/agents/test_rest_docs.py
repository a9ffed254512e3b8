"""The page about REST names every endpoint that there is, with its scope and what it does."""

from pathlib import Path

from autonomic.agents.rest_docs import apps, endpoints, text

PAGE = Path(__file__).parents[3] / "docs" / "rest.md"


def test_the_page_is_what_the_agents_answer() -> None:
    assert PAGE.read_text() == text(), "stale: run `python -m autonomic.agents.rest_docs > docs/rest.md`"


def test_every_endpoint_says_what_it_does_and_needs_a_token() -> None:
    for _, app in apps():
        listed = endpoints(app)
        assert [(method, path) for method, path, _, said in listed if not said] == []
        assert {path for _, path, scope, _ in listed if scope == "none"} == {"/healthz", "/readyz", "/metrics"}
        assert [path for method, path, scope, _ in listed if method != "GET" and scope == "none"] == []
