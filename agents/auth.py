"""Bearer tokens with the scopes read, act and admin; each scope includes those before it."""

import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from autonomic.agents.problems import ProblemError
from autonomic.seams.errors import Permanent

SCOPES = ("read", "act", "admin")
NAMES = (*SCOPES, "host")
_bearer = HTTPBearer(auto_error=False, description="A token of tokens.json in the home folder.")


class Tokens:
    """The tokens of one installation: `read`, `act`, `admin` for the agents, `host` for the Ray host."""

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def scope(self, token: str) -> str | None:
        """The widest scope that `token` has, None for an unknown token; takes the same time for every token."""
        given = token.encode()
        found = None
        for scope in SCOPES:
            if hmac.compare_digest(self.values[scope].encode(), given):
                found = scope
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
            return cls({name: str(values[name]) for name in NAMES if len(values[name]) >= 16})._complete(path)
        except (ValueError, KeyError, TypeError) as error:
            raise Permanent(f"{path} does not hold the tokens {', '.join(NAMES)}: {error!r}; remove it and new ones are made") from None

    def _complete(self, path: Path) -> "Tokens":
        if len(self.values) != len(NAMES):
            raise Permanent(f"{path} holds a token of less than 16 characters; remove it and new ones are made")
        return self


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
    scope = tokens.scope(credentials.credentials) if credentials else None
    if scope is None:
        found = "an unknown token" if credentials else "no bearer token"
        raise ProblemError(401, f"{found}; send one of tokens.json with at least scope {needed}", {"WWW-Authenticate": "Bearer"})
    if SCOPES.index(scope) < SCOPES.index(needed):
        headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{needed}"'}
        raise ProblemError(403, f"the token has scope {scope}, this needs {needed}", headers)
    return scope


def _dependency(needed: str) -> Any:
    async def check(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> str:
        return _check(request, credentials, needed)

    return Depends(check)


READ = _dependency("read")
ACT = _dependency("act")
ADMIN = _dependency("admin")
"""For `APIRouter(dependencies=[READ])` or one endpoint's `dependencies=[ACT]`: 401 without a known token, 403 without the scope."""
