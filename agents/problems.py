"""Errors over HTTP as problem+json (RFC 9457)."""

import http
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from autonomic.platforms.host.answers import JsonAnswer
from autonomic.seams.errors import Permanent, Retryable, SpecError
from autonomic.seams.journal import StateConflict
from autonomic.seams.text import shown

MEDIA_TYPE = "application/problem+json"


class ProblemError(Exception):
    """Raised by an endpoint: an HTTP status, a sentence for the caller, and further members of the answer."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None, **members: Any) -> None:
        self.status = status
        self.detail = detail
        self.headers = headers
        self.members = members
        super().__init__(detail)


def not_found(what: str, name: str, known: str = "") -> ProblemError:
    """404: there is no `what` of this name; `known` says where to look for those that exist."""
    return ProblemError(404, f"there is no {what} {name!r}" + (f"; see {known}" if known else ""))


def body(status: int, detail: str, **members: Any) -> dict[str, Any]:
    """The document of a problem."""
    return {"type": "about:blank", "title": _title(status), "status": status, "detail": shown(detail), **members}


def _title(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def response(status: int, detail: str, headers: dict[str, str] | None = None, **members: Any) -> Response:
    """The answer of a problem."""
    return JsonAnswer(body(status, detail, **members), status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem+json."""

    @app.exception_handler(ProblemError)
    async def _problem(_: Request, error: ProblemError) -> Response:
        return response(error.status, error.detail, error.headers, **error.members)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        return response(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        errors = [{"at": ".".join(map(str, item["loc"])), "message": item["msg"]} for item in error.errors()]
        detail = "; ".join(f"{item['at']}: {item['message']}" for item in errors[:5])
        return response(422, detail, errors=errors[:100])

    @app.exception_handler(SpecError)
    async def _spec(_: Request, error: SpecError) -> Response:
        problems = [{"file": p.file, "line": p.line, "column": p.column, "path": p.path, "message": p.message} for p in error.problems]
        return response(422, f"{len(problems)} problems; the first is: {error.problems[0] if problems else error}", problems=problems)

    @app.exception_handler(StateConflict)
    async def _conflict(_: Request, error: StateConflict) -> Response:
        return response(409, str(error))

    @app.exception_handler(Permanent)
    async def _permanent(_: Request, error: Permanent) -> Response:
        return response(400, str(error))

    @app.exception_handler(Retryable)
    async def _retryable(_: Request, error: Retryable) -> Response:
        return response(503, str(error), {"Retry-After": str(max(1, round(error.delay_seconds)))})
