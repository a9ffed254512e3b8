"""The detached actors that drive runs and searches to their end, whatever becomes of who started them."""

import ray

NAMESPACE = "autonomic"


def ensure_driven(driver: type, name: str, subject: str) -> None:
    """Makes the actor `driver(subject)` called `name` where there is none; Ray starts it again whenever its process ends."""
    ray.remote(driver).options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=4,
    ).remote(subject)
