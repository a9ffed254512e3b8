"""The host's HTTP interface over a host that knows a few targets."""

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import httpx

from autonomic.platforms.host.api import create_app
from autonomic.seams.errors import Retryable
from autonomic.seams.state import State


def observe(target: str) -> State:
    if target == "bad":
        raise Retryable("the API server does not answer")
    return State(target=target, kind="absent")


def ask(method: str, path: str, **given: Any) -> httpx.Response:
    host: Any = SimpleNamespace(observe=observe, intents=SimpleNamespace(epoch=3))

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(host, "token")), base_url="http://host") as client:
            return await client.request(method, path, headers={"Authorization": "Bearer token"}, **given)

    return asyncio.run(send())


def test_many_states_come_at_once_and_one_that_is_not_known_spoils_no_other() -> None:
    found = ask("POST", "/v1/states:find", json=["shop", "bad", "shop/api"]).json()
    assert {target: state["kind"] for target, state in found["states"].items()} == {"shop": "absent", "shop/api": "absent"}
    assert found["errors"] == {"bad": "the API server does not answer"}
    assert ask("POST", "/v1/states:find", json={"a": 1}).status_code == 422


def test_its_health_names_its_process_so_that_a_frozen_one_can_be_ended() -> None:
    assert ask("GET", "/healthz").json() == {"status": "ok", "epoch": 3, "pid": os.getpid()}
