"""Talking to the agents and the host of one home."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx

from autonomic.agents.settings import Settings
from autonomic.cli.options import Denied, NothingRuns
from autonomic.seams.errors import AutonomicError, Permanent, Problem, SpecError

Part = Literal["monitor", "planner", "tuner", "host"]
TIMEOUT_SECONDS = 30.0
READY_SECONDS = 3.0
_PATH = re.compile(r"GET /v1/([a-z]+)(?: of the [a-z]+)?")
_COMMANDS = {
    "decisions": "decisions",
    "events": "events",
    "freezes": "status",
    "plans": "plans",
    "readings": "readings",
    "runs": "runs",
    "searches": "searches",
    "strategies": "status",
    "triggers": "status",
    "workflows": "status",
}
"""The command that shows what an endpoint lists."""


class Client:
    """Requests to the parts that run in `home`, with the widest token that the home (or AUTONOMIC_TOKEN) holds."""

    def __init__(self, home: Path | None) -> None:
        try:
            self.settings = Settings.load(home)
        except Permanent as absent:
            raise NothingRuns(str(absent)) from None
        self._tokens = _tokens(self.settings.tokens_path)
        # trust_env: what runs on this machine is never reached through a proxy
        self._http = httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def url(self, part: Part) -> str:
        """The base URL of a part."""
        return getattr(self.settings, f"{part}_url")

    def get(self, part: Part, path: str, **params: Any) -> Any:
        """The JSON (or text) at `path`; parameters that are None are left out.

        Raises:
            NothingRuns: the part cannot be reached.
            Denied: 401, 403 or 409.
            SpecError: 422 with problems.
            Permanent: any other refusal.
        """
        return self.request("GET", part, path, params=params)

    def post(self, part: Part, path: str, body: Any = None, *, content: bytes | None = None, timeout: float = TIMEOUT_SECONDS) -> Any:
        """The JSON that answers a POST of `body`, or of `content` as it is. Raises like `get`."""
        return self.request("POST", part, path, json=body, content=content, timeout=timeout)

    def pages(self, part: Part, path: str, limit: int, *, timeout: float = TIMEOUT_SECONDS, **params: Any) -> list[dict[str, Any]]:
        """The first `limit` items of a list that comes in pages."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while len(items) < limit:
            asked = {"limit": min(limit - len(items), 1000), "cursor": cursor, **params}
            page = self.request("GET", part, path, params=asked, timeout=timeout)
            items += page["items"]
            cursor = page.get("next")
            if not cursor:
                break
        return items[:limit]

    def stream(self, kinds: str | None = None, since: int | None = None) -> Iterator[dict[str, Any]]:
        """Everything that happens at the planner, as it happens; goes on after a broken connection without a gap."""
        last: str | None = None if since is None else str(since)
        while True:
            headers = {**self._headers("planner"), **({"Last-Event-ID": last} if last else {})}
            params = {"kinds": kinds} if kinds else {}
            try:
                with self._http.stream("GET", f"{self.url('planner')}/v1/stream", headers=headers, params=params, timeout=60.0) as answer:
                    if not answer.is_success:
                        answer.read()
                        raise failure("planner", answer)
                    for line in answer.iter_lines():
                        field, _, value = line.partition(": ")
                        if field == "id":
                            last = value
                        elif field == "data":
                            yield json.loads(value)
            except httpx.ConnectError as error:
                raise self._unreachable("planner", error) from None
            except httpx.HTTPError:
                continue

    def ready(self, part: Part) -> tuple[str, str]:
        """("ready" | "not ready" | "unreachable", why)."""
        try:
            answer = self._http.get(f"{self.url(part)}/readyz", headers=self._headers(part), timeout=READY_SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return "unreachable", f"{self.url(part) or 'no URL'}: {type(error).__name__}"
        return ("ready", "") if answer.is_success else ("not ready", _detail(answer))

    def answers(self, url: str, *, refusing: bool = False) -> bool:
        """Whether something answers at a URL that needs no token, well or (`refusing`) at all."""
        try:
            return self._http.get(url, timeout=READY_SECONDS).is_success or refusing
        except (httpx.HTTPError, httpx.InvalidURL):
            return False

    def request(self, method: str, part: Part, path: str, *, params: dict[str, Any] | None = None, **options: Any) -> Any:
        """One request; see `get`."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            answer = self._http.request(method, f"{self.url(part)}{path}", params=given, headers=self._headers(part), **options)
        except UnicodeEncodeError as error:
            raise SpecError([Problem(f"found {error.object[:80]!a}, which is not UTF-8; nothing was sent", "<command line>")]) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(part, error) from None
        if not answer.is_success:
            raise failure(part, answer)
        return answer.json() if answer.headers.get("content-type", "").startswith("application/json") else answer.text

    def _unreachable(self, part: Part, error: Exception) -> NothingRuns:
        where = f"the {part} at {self.url(part) or 'no URL'}"
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return NothingRuns(f"{where} did not answer in time; it may still do what was asked: look with `autonomic status`")
        return NothingRuns(f"{where} cannot be reached ({type(error).__name__}); start everything with `autonomic up`")

    def _headers(self, part: Part) -> dict[str, str]:
        names = ("host",) if part == "host" else ("admin", "act", "read")
        token = next((self._tokens[name] for name in names if self._tokens.get(name)), "")
        return {"Authorization": f"Bearer {token}"} if token else {}


def failure(part: str, answer: httpx.Response) -> AutonomicError:
    """The error that a refused request stands for."""
    detail = _detail(answer)
    try:
        problems, errors = answer.json().get("problems", []), answer.json().get("errors", [])
    except (ValueError, AttributeError):
        problems, errors = [], []
    if answer.status_code == 422 and problems:
        return SpecError([Problem(**problem) for problem in problems])
    if answer.status_code == 422 and errors:
        return SpecError([Problem(error["message"], error["at"]) for error in errors])
    if answer.status_code == 404:
        return Permanent(detail)
    if answer.status_code in (401, 403, 409):
        return Denied(f"the {part} refuses: {detail}")
    if answer.status_code == 503:
        return NothingRuns(f"the {part} cannot do it now: {detail}")
    return Permanent(f"the {part} answers {answer.status_code}: {detail}")


def _command(path: re.Match[str]) -> str:
    return f"`autonomic {_COMMANDS[path[1]]}`" if path[1] in _COMMANDS else path[0]


def _detail(answer: httpx.Response) -> str:
    try:
        return _PATH.sub(_command, str(answer.json()["detail"]))
    except (ValueError, KeyError, TypeError):
        return answer.text[:300] or answer.reason_phrase


def _tokens(path: Path) -> dict[str, str]:
    given = os.environ.get("AUTONOMIC_TOKEN")
    if given:
        return {"admin": given, "host": given}
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Denied(f"{path} cannot be read: {error}") from None
