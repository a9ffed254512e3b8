"""What is asked of the Ray cluster itself, by a process of its own: `python -m benchmarks.steps.in_cluster ADDRESS task|forget`."""

import contextlib
import sys
import time
from uuid import uuid4

import ray

from autonomic.platforms.ray.drivers import NAMESPACE
from autonomic.platforms.ray.run_actor import RUNS


def _nothing() -> None:
    return None


def main(address: str, what: str) -> None:
    """`task` prints the seconds of a bare task in a worker that is started for it; `forget` ends what was started ahead for runs."""
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False)
    if what == "forget":
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(RUNS, NAMESPACE))
        return
    fresh = ray.remote(_nothing).options(runtime_env={"env_vars": {"FRESH": uuid4().hex}})
    begin = time.monotonic()
    ray.get(fresh.remote())
    print(time.monotonic() - begin)


if __name__ == "__main__":
    main(*sys.argv[1:])
