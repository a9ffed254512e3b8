"""Ray, MLflow and Prometheus that are there already: whether they can be used, and what they need."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from autonomic.agents.settings import Settings
from autonomic.platforms.ray.reach import check_cluster
from autonomic.seams.errors import AutonomicError, Permanent
from autonomic.workflows.registry.client import Mlflow

_SECONDS = 10.0


def shown(url: str) -> str:
    """A URL without the password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def check(settings: Settings) -> None:
    """Asks all that `settings` use instead of a part of ours, at the same time, before anything is started.

    Raises:
        Permanent: one cannot be used; names every one that cannot.
    """
    asks: list[tuple[Callable[[str], None], str]] = [
        (check_ray, settings.use_ray),
        (check_mlflow, settings.use_mlflow),
        (check_prometheus, settings.use_prometheus),
    ]
    with ThreadPoolExecutor(len(asks)) as pool:
        wrong = [why for why in pool.map(lambda ask: _failure(*ask), asks) if why]
    if wrong:
        raise Permanent("Nothing was started: " + "\n".join(wrong))


def _failure(ask: Callable[[str], None], where: str) -> str:
    try:
        if where:
            ask(where)
    except Permanent as wrong:
        return str(wrong)
    return ""


def check_ray(address: str) -> None:
    """Asks the head node, with the token of RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH.

    Raises:
        Permanent: it does not answer, or refuses.
    """
    try:
        check_cluster(address)
    except Permanent as wrong:
        raise Permanent(f"{wrong}. Give another --ray, or `--ray embedded` to start one here") from None


def check_mlflow(url: str) -> None:
    """Asks the server as agents and steps will, with the credentials of MLFLOW_TRACKING_USERNAME, _PASSWORD or _TOKEN.

    Raises:
        Permanent: it does not answer, or refuses.
    """
    try:
        server = Mlflow(url, timeout_seconds=_SECONDS)
        try:
            server.call("POST", "experiments/search", {"max_results": 1})
        finally:
            server.close()
    except (AutonomicError, httpx.InvalidURL, ValueError) as wrong:
        # what is not JSON is no answer of MLflow
        why = f"what answers at {shown(url)} is no MLflow" if isinstance(wrong, ValueError) else str(wrong)
        raise Permanent(
            f"MLflow cannot be used: {why.rstrip('.')}. Give another --mlflow, its credentials in MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD or in MLFLOW_TRACKING_TOKEN, or `--mlflow embedded` to start one here"
        ) from None


def check_prometheus(url: str) -> None:
    """Asks the server for a value; credentials may stand in its URL.

    Raises:
        Permanent: it does not answer, or refuses.
    """
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": "vector(1)"}, timeout=_SECONDS)
        answer.raise_for_status()
        if answer.json().get("status") != "success":
            raise ValueError("what answers there is no Prometheus")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as wrong:
        why = f"it answers {wrong.response.status_code}" if isinstance(wrong, httpx.HTTPStatusError) else str(wrong) or type(wrong).__name__
        raise Permanent(
            f"Prometheus at {shown(url)} cannot be used: {why}. Give another --prometheus, or `--prometheus embedded` to start one here"
        ) from None


def write_scrape_configs(path: Path, jobs: list[dict[str, Any]]) -> Path:
    """Writes what such a Prometheus has to scrape, for its `scrape_config_files`; it holds tokens, so only the owner reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump({"scrape_configs": jobs}, file)
    return path
