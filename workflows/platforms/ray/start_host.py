"""Starts the host on a running cluster: `python -m autonomic.workflows.platforms.ray.start_host --home HOME`."""

import argparse
import json
import logging
import time
from pathlib import Path
from urllib.parse import urlparse

import httpx

from autonomic.seams.errors import Permanent
from autonomic.workflows.platforms.ray.settings import HostSettings

_READY_SECONDS = 90.0
_STOP_SECONDS = 40.0


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


def stop_host(address: str) -> None:
    """Ends the host of the cluster at `address` and all that it started there; passed over where there is none."""
    import ray

    from autonomic.workflows.platforms.ray.replica import HOST_ACTOR, NAMESPACE

    if not ray.is_initialized():
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING)
    try:
        actor = ray.get_actor(HOST_ACTOR, NAMESPACE)
    except ValueError:
        return
    try:
        ray.get(actor.stop.remote(), timeout=_STOP_SECONDS)
    finally:
        ray.kill(actor)


def _why(actor: object) -> str:
    import ray

    try:
        ray.get(actor.pid.remote(), timeout=1)  # pyright: ignore[reportAttributeAccessIssue]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason to show
        return f": {error}"
    return ""


def main() -> None:
    """Reads what `autonomic up` wrote into the home and starts the host; the options say it where nothing is written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder of `autonomic up`, with tokens.json and settings.json")
    parser.add_argument("--host-url", help="where the host listens")
    parser.add_argument("--front-url", help="where the services answer")
    parser.add_argument("--ray-address", help="the cluster")
    parser.add_argument("--mlflow-url", help="the MLflow server")
    parser.add_argument("--stop", action="store_true", help="end the host, and what it started, instead")
    given = parser.parse_args()
    home = given.home.absolute()
    tokens = json.loads((home / "tokens.json").read_text())
    path = home / "settings.json"
    written = json.loads(path.read_text()) if path.exists() else {}
    named = {name: value for name, value in vars(given).items() if name not in ("home", "stop") and value}
    urls = {"host_url": "", "front_url": "", "ray_address": "auto", "mlflow_url": "", **written, **named}
    if given.stop:
        stop_host(urls["ray_address"])
        return
    host, front = urlparse(urls["host_url"]), urlparse(urls["front_url"])
    if not host.port:
        parser.error(f"{path} names no host_url with a port; give --host-url http://127.0.0.1:PORT")
    settings = HostSettings(
        home=home,
        token=tokens["host"],
        port=host.port,
        front_port=front.port or 0,
        address=host.hostname or "127.0.0.1",
        mlflow_url=urls["mlflow_url"],
        service_token=tokens["act"],
    )
    start_host(settings, urls["ray_address"])
    print(settings.url)


if __name__ == "__main__":
    main()
