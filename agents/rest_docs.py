"""docs/rest.md from the agents' own routes: `python -m autonomic.agents.rest_docs > docs/rest.md`."""

import asyncio
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
from fastapi import FastAPI

from autonomic.agents.auth import Tokens
from autonomic.agents.settings import Settings

_NEEDED = re.compile(r"at least scope ([a-z]+)")
_HEAD = """# REST

Made by `python -m autonomic.agents.rest_docs > docs/rest.md`; a test compares it with the agents.

Every agent answers JSON; its OpenAPI document is at `/openapi.json`, readable at `/docs`. `autonomic status -o json` names the URLs.
A request carries `Authorization: Bearer TOKEN` with a token of `tokens.json` in the home (docs/approvals.md); a scope includes those
before it: `read`, `act`, `admin`. Errors are `application/problem+json` (RFC 9457): `detail` says what was found, what is allowed and
what happens next. Lists come in pages: `limit` and `cursor` in, `items` and `next` out. Times are seconds since the epoch.

    curl -H "Authorization: Bearer $(jq -r .read .autonomic/tokens.json)" "$PLANNER/v1/decisions?limit=5"

Services answer the Open Inference Protocol v2 behind the front, at `FRONT/WORKFLOW/SERVICE/v2/...`.
"""
_AGENTS = ("monitor", "planner", "tuner")


def text() -> str:
    """The page."""
    parts = [_HEAD]
    for name, app in apps():
        rows = "\n".join(f"| `{method} {path}` | {scope} | {summary} |" for method, path, scope, summary in endpoints(app))
        parts.append(f"## {name}\n\n| endpoint | scope | what it does |\n|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def endpoints(app: FastAPI) -> list[tuple[str, str, str, str]]:
    """Method, path, scope ("none": no token is needed) and what is said of each endpoint, by path."""
    return sorted(asyncio.run(_endpoints(app)), key=lambda one: (one[1], one[0]))


async def _endpoints(app: FastAPI) -> list[tuple[str, str, str, str]]:
    found: list[tuple[str, str, str, str]] = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://agent") as client:
        for path, methods in app.openapi()["paths"].items():
            for method, described in methods.items():
                # without a token nothing is done, and the refusal names the scope
                answer = await client.request(method, re.sub(r"{[^}]*}", "x", path))
                needed = _NEEDED.search(answer.text) if answer.status_code == 401 else None
                summary = " ".join(described.get("description", "").split()).replace("|", "\\|")
                found.append((method.upper(), path, needed[1] if needed else "none", summary))
    return found


def apps() -> Iterator[tuple[str, FastAPI]]:
    """Each agent's service, made in a folder that is gone afterwards, and not started."""
    import importlib

    with tempfile.TemporaryDirectory(prefix="autonomic-rest-") as folder:
        home = Path(folder)
        settings = Settings(home=home, monitor_url="http://127.0.0.1:1", planner_url="http://127.0.0.1:2", tuner_url="http://127.0.0.1:3")
        tokens = Tokens.load(home / "tokens.json")
        for name in _AGENTS:
            yield name, importlib.import_module(f"autonomic.agents.{name}.app").create(settings, tokens)


if __name__ == "__main__":
    print(text(), end="")
