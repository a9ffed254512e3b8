"""JSON bodies as the standard has them: what Python's parser takes beyond it could be neither kept nor answered."""

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from autonomic.agents.problems import ProblemError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def load_json(body: bytes) -> Any:
    """Strict JSON.

    Raises:
        ProblemError: 400, it is not valid: also NaN, numbers beyond a double, and lone surrogates, which Python would take.
    """
    try:
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, f"the body is not valid JSON: {error}") from None
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


class StrictRequest(Request):
    """A request whose JSON is parsed by `load_json`."""

    async def json(self) -> Any:
        try:
            return load_json(await self.body())
        except ProblemError as refused:
            # the one exception that FastAPI lets through while it parses a body
            raise HTTPException(refused.status, refused.detail) from None


class StrictRoute(APIRoute):
    """The route class of every router whose endpoints take JSON."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly
