"""Starts the host on a running cluster: `python -m autonomic.workflows.platforms.ray.start_host --home HOME`."""

import argparse
import json
import logging
import os
import time
from pathlib import Path

import httpx

from autonomic.seams.errors import Permanent
from autonomic.workflows.platforms.ray.settings import HostSettings

_READY_SECONDS = 90.0


def start_host(settings: HostSettings, address: str) -> None:
    """Starts the host of the cluster at `address`, or finds it, and returns when it answers.

    The process is connected to the cluster afterwards; the environment must hold what lets it in.

    Raises:
        Permanent: it does not answer within 90 s, or it answers with another token.
    """
    import ray

    from autonomic.workflows.platforms.ray.host import create_host

    if not ray.is_initialized():
        ray.init(address=address, namespace="autonomic", log_to_driver=False, logging_level=logging.WARNING)
    actor = create_host(settings)
    headers = {"Authorization": f"Bearer {settings.token}"}
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            answer = httpx.get(f"{settings.url}/v1/capabilities", headers=headers, timeout=2, trust_env=False)
            if answer.status_code == 200:
                return
            if answer.status_code == 401:
                raise Permanent(f"A host answers at {settings.url} and does not take the token of {settings.home}; stop it first")
        except httpx.HTTPError:
            pass
        if time.monotonic() > deadline:
            raise Permanent(f"The host did not answer at {settings.url} within {_READY_SECONDS:g} s{_why(actor)}")
        time.sleep(0.05)


def _why(actor: object) -> str:
    import ray

    try:
        ray.get(actor.pid.remote(), timeout=1)  # pyright: ignore[reportAttributeAccessIssue]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason to show
        return f": {error}"
    return ""


def main() -> None:
    """Reads the home's tokens and starts the host."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder of `autonomic up`")
    parser.add_argument("--port", type=int, required=True, help="where the host listens")
    parser.add_argument("--address", default="127.0.0.1", help="the interface it listens on")
    parser.add_argument("--ray", default=os.environ.get("RAY_ADDRESS", "auto"), help="the address of the cluster")
    parser.add_argument("--mlflow", default="", help="the URL of the MLflow server")
    given = parser.parse_args()
    tokens = json.loads((given.home / "tokens.json").read_text())
    settings = HostSettings(
        home=given.home.absolute(),
        token=tokens["host"],
        port=given.port,
        address=given.address,
        mlflow_url=given.mlflow,
        service_token=tokens.get("act", ""),
    )
    start_host(settings, given.ray)
    print(settings.url)


if __name__ == "__main__":
    main()
