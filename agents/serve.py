"""Runs an agent's service until it is told to stop."""

import signal
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

GRACE_SECONDS = 5


def serve(app: FastAPI, url: str, address: str = "") -> None:
    """Listens at the port of `url`, on `address` or else on its host, until SIGTERM or SIGINT; answers what came in, for at most
    5 s, then stops.

    A port that is taken ends the process with exit code 1 and a log line.
    """
    parts = urlsplit(url)
    config = uvicorn.Config(
        app,
        host=address or parts.hostname or "127.0.0.1",
        port=parts.port or 80,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=30,
        server_header=False,
        ws="none",
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal again when it has stopped: a stop that was asked for ends with exit code 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run()
    if not server.started:
        raise SystemExit(1)
