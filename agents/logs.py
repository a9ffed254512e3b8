"""Structured logs: one JSON object a line on standard error, without secrets."""

import contextvars
import logging
import re
import sys
from collections.abc import Iterable
from typing import Any

from autonomic.seams.text import encode_json, shown

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
"""The id of the request that is being answered, in every line logged meanwhile."""

_BEARER = re.compile(r"(?i)(bearer\s+)[\w.~+/=-]+")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _JsonFormatter(logging.Formatter):
    def __init__(self, agent: str, secrets: Iterable[str]) -> None:
        super().__init__()
        self._agent = agent
        self._secrets = tuple(secret for secret in secrets if secret)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "agent": self._agent,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD and not key.startswith("_")})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return self._redact(encode_json(line).decode())

    def _redact(self, line: str) -> str:
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return shown(_BEARER.sub(r"\1***", line))


def setup(agent: str, secrets: Iterable[str] = (), level: int = logging.INFO) -> None:
    """Sends every log record of the process to standard error as JSON; `secrets` never appear in it."""
    import time

    formatter = _JsonFormatter(agent, secrets)
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("httpx", "httpcore", "urllib3", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def logger(name: str) -> logging.Logger:
    """The logger of a module; give fields with `extra={...}`."""
    return logging.getLogger(name)
