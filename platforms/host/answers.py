"""HTTP answers in JSON that can always be written; the host and the agents give no others."""

from typing import Any

from starlette.responses import JSONResponse

from autonomic.seams.text import encode_json


class JsonAnswer(JSONResponse):
    """A JSON answer; see `encode_json` for what becomes of values that JSON cannot hold."""

    def render(self, content: Any) -> bytes:
        return encode_json(content)
