"""Starts the host on a running cluster, and stays: `python -m autonomic.platforms.ray.start_host --home HOME`.

Ray ends idle workers once the driver of their job has ended. The host, and the actors that it makes, belong to the job of this process:
while it stays, the steps of runs find warm workers. When it ends, all goes on, and each step starts a worker of its own.

Ends with 3 where that is refused; the last line says why.
"""

import argparse
import json
import logging
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import httpx

from autonomic.platforms.ray.settings import HostSettings
from autonomic.seams.errors import AutonomicError, Permanent

REFUSED = 3
"""The exit code where the last line says why there is no host."""
ANSWERS = "The host answers at"
"""What is printed, with the address, once it does."""
_READY_SECONDS = 90.0
_STOP_SECONDS = 40.0


def start_host(settings: HostSettings, address: str) -> None:
    """Starts the host of the cluster at `address`, or finds it, and returns when it answers.

    The process is connected to the cluster afterwards; the environment must hold what lets it in.

    Raises:
        Permanent: the cluster cannot be joined or has the host of another home, or this one does not answer within 90 s, or it answers
            with another token, or MLflow refuses the processes of the cluster.
    """
    import ray

    from autonomic.platforms.ray.host_actor import create_host

    _join(address)
    _refuse_another_home(_find_host(), settings.home, address)
    actor = create_host(settings)
    headers = {"Authorization": f"Bearer {settings.token}"}
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            answer = httpx.get(f"{settings.url}/v1/capabilities", headers=headers, timeout=2, trust_env=False)
            if answer.status_code == 200:
                break
            if answer.status_code == 401:
                raise Permanent(f"A host answers at {settings.url} and does not take the token of {settings.home}; stop it first")
        except httpx.HTTPError:
            pass
        if time.monotonic() > deadline:
            raise Permanent(f"The host did not answer at {settings.url} within {_READY_SECONDS:g} s{_why(actor)}")
        time.sleep(0.05)
    refused = str(ray.get(actor.refused_by_mlflow.remote(), timeout=_READY_SECONDS))
    if refused:
        raise Permanent(
            f"The Ray cluster at {address} cannot use MLflow: {refused.rstrip('.')}. Its processes need MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN: set them where each node runs `ray start`"
        )


def stop_host(home: Path, address: str) -> None:
    """Ends the host of `home` on the cluster at `address`, and all that it started there; does nothing where there is none.

    Raises:
        Permanent: the cluster cannot be joined, or its host is that of another home, which is left alone.
    """
    import ray

    _join(address)
    actor = _find_host()
    if actor is None:
        return
    _refuse_another_home(actor, home, address)
    try:
        ray.get(actor.stop.remote(), timeout=_STOP_SECONDS)
    finally:
        ray.kill(actor)


def _join(address: str) -> None:
    import ray
    from ray.exceptions import RayError

    from autonomic.platforms.ray.replica import NAMESPACE

    if ray.is_initialized():
        return
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError, RayError) as refused:
        why = " ".join(str(refused).split())
        raise Permanent(
            f"Ray at {address} cannot be joined: {why}. This machine has to be a node of the cluster "
            "(`ray start --address=HOST:PORT`), with the same versions of Ray and Python"
        ) from None


def _find_host() -> Any:
    import ray

    from autonomic.platforms.ray.replica import HOST_ACTOR, NAMESPACE

    try:
        return ray.get_actor(HOST_ACTOR, NAMESPACE)
    except ValueError:
        return None


def _refuse_another_home(actor: Any, home: Path, address: str) -> None:
    import ray
    from ray.exceptions import RayError

    if actor is None:
        return
    try:
        found = str(ray.get(actor.home.remote(), timeout=_READY_SECONDS))
    except RayError:
        # one that cannot say so is starting, or broken: its own home finds out
        return
    if found != str(home):
        raise Permanent(
            f"Ray at {address} runs the host of another home, {found}, which is left alone: one cluster serves one home. "
            f"End that with `autonomic down --home {shlex.quote(found)}`, or use another cluster"
        )


def _why(actor: object) -> str:
    import ray

    try:
        ray.get(actor.pid.remote(), timeout=1)  # pyright: ignore[reportAttributeAccessIssue]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason to show
        return f": {error}"
    return ""


def main() -> None:
    """Reads what `autonomic up` wrote into the home, starts the host and stays; the options say it where nothing is written."""
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
        _run(lambda: stop_host(home, urls["ray_address"]))
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
    _run(lambda: start_host(settings, urls["ray_address"]))
    print(ANSWERS, settings.url, flush=True)
    while True:
        signal.pause()


def _run(do: Callable[[], None]) -> None:
    try:
        do()
    except AutonomicError as refused:
        print(refused, flush=True)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
