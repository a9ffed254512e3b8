"""Bearer tokens with the scopes read, act and admin; each scope includes those before it."""

import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from autonomic.agents.problems import ProblemError
from autonomic.seams.errors import Permanent

SCOPES = ("read", "act", "admin")
NAMES = (*SCOPES, "host")
_bearer = HTTPBearer(auto_error=False, description="A token of tokens.json in the home folder.")


class Holder(NamedTuple):
    """Whose a token is, and what it allows."""

    name: str
    scope: str


class Tokens:
    """The tokens of one installation: `read`, `act`, `admin` for the agents, `host` for the Ray host, and those of people.

    A person's token is `{"NAME": {"scope": "act", "token": "..."}}` in the file; what is done with it carries that name.
    """

    def __init__(self, values: dict[str, str], people: dict[str, tuple[str, str]] | None = None) -> None:
        self.values = values
        self._people = people or {}

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def holder(self, token: str) -> Holder | None:
        """Whose `token` is, None for an unknown one; takes the same time for every token."""
        given = token.encode()
        found = None
        known = {**{scope: (scope, self.values[scope]) for scope in SCOPES}, **self._people}
        for name, (scope, value) in known.items():
            if hmac.compare_digest(value.encode(), given):
                found = Holder(name, scope)
        return found

    @classmethod
    def load(cls, path: Path) -> "Tokens":
        """Reads the tokens, or makes them where there are none yet (mode 0600, written in one step).

        Raises:
            Permanent: the file is not a JSON object with the four tokens, or others may read it. Its group may where the file is
                not ours: so a pod is shown a Secret.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        status = path.stat()
        if status.st_mode & (0o077 if status.st_uid == os.geteuid() else 0o027):
            raise Permanent(f"{path} may be read by others (mode {status.st_mode & 0o777:o}); give it mode 600 and change the tokens")
        try:
            values = json.loads(path.read_text())
            people = {name: _person(name, value) for name, value in values.items() if name not in NAMES}
            return cls({name: str(values[name]) for name in NAMES if len(values[name]) >= 16}, people)._complete(path)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Permanent(f"{path} does not hold the tokens {', '.join(NAMES)}: {error!r}; remove it and new ones are made") from None

    def _complete(self, path: Path) -> "Tokens":
        if len(self.values) != len(NAMES):
            raise Permanent(f"{path} holds a token of less than 16 characters; remove it and new ones are made")
        return self


def _person(name: str, value: dict[str, str]) -> tuple[str, str]:
    if value["scope"] not in SCOPES or len(value["token"]) < 16:
        raise ValueError(f"{name} needs a scope, one of {', '.join(SCOPES)}, and a token of at least 16 characters")
    return value["scope"], value["token"]


def _create(path: Path) -> None:
    values = {name: secrets.token_urlsafe(32) for name in NAMES}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(values, file, indent=2)
    try:
        # of several processes that start at once, one makes the tokens of all
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _check(request: Request, credentials: HTTPAuthorizationCredentials | None, needed: str) -> str:
    tokens: Tokens = request.app.state.tokens
    holder = tokens.holder(credentials.credentials) if credentials else None
    if holder is None:
        found = "an unknown token" if credentials else "no bearer token"
        raise ProblemError(401, f"{found}; send one of tokens.json with at least scope {needed}", {"WWW-Authenticate": "Bearer"})
    if SCOPES.index(holder.scope) < SCOPES.index(needed):
        headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{needed}"'}
        raise ProblemError(403, f"the token has scope {holder.scope}, this needs {needed}", headers)
    request.state.holder = holder
    return holder.scope


def holder_of(request: Request) -> Holder:
    """Whose token came with a request that `READ`, `ACT` or `ADMIN` let pass."""
    return request.state.holder


def _dependency(needed: str) -> Any:
    async def check(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> str:
        return _check(request, credentials, needed)

    return Depends(check)


READ = _dependency("read")
ACT = _dependency("act")
ADMIN = _dependency("admin")
"""For `APIRouter(dependencies=[READ])` or one endpoint's `dependencies=[ACT]`: 401 without a known token, 403 without the scope."""
