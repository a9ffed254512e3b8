"""The detached actors that drive runs and searches to their end, whatever becomes of who started them."""

from typing import Any

import ray

from autonomic.platforms.ray.replica import NAMESPACE


def ensure_driver(driver: type, name: str, *arguments: Any, threads: int = 4) -> Any:
    """The actor `driver(*arguments)` called `name`, made where there is none; Ray starts it again whenever its process ends."""
    return (
        ray.remote(driver)
        .options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            max_concurrency=threads,
        )
        .remote(*arguments)
    )
