"""JSON bodies as the standard has them: what Python's parser takes beyond it could be neither kept nor answered."""

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from autonomic.agents.problems import ProblemError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
MAX_DEPTH = 100
"""Lists and objects within one another; what is nested deeper than about 250 cannot be written again."""


def load_json(body: bytes) -> Any:
    """Strict JSON.

    Raises:
        ProblemError: 400, it is not valid. What Python would take is refused too: NaN, numbers beyond a double, lone
            surrogates, and what is nested too deep.
    """
    try:
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
        if _is_deeper(value, MAX_DEPTH):
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, f"the body is not valid JSON: {error}") from None
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(levels):
        if not level:
            return False
        within = (child for item in level for child in (item.values() if isinstance(item, dict) else item))
        level = [child for child in within if isinstance(child, list | dict)]
    return bool(level)


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
