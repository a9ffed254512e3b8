"""The same model under Ray Serve alone: its own proxy, its own autoscaler. Runs until it is asked to stop, and shuts Serve down.

`python -m benchmarks.autoscaling.serve_app ADDRESS PORT default|tuned DEVICE_SECONDS`
"""

import asyncio
import json
import logging
import signal
import sys
import threading
from typing import Any

import numpy as np
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

APP = "serve-alone"
SETTINGS: dict[str, dict[str, Any]] = {
    # num_replicas="auto" of Ray Serve, with our bounds
    "default": {"max_ongoing_requests": 5, "autoscaling_config": {"target_ongoing_requests": 2, "min_replicas": 1, "max_replicas": 5}},
    # as its guide for latency advises: target of the concurrency that one replica has, short delays, frequent metrics
    "tuned": {
        "max_ongoing_requests": 2,
        "autoscaling_config": {
            "target_ongoing_requests": 1,
            "min_replicas": 1,
            "max_replicas": 5,
            "upscale_delay_s": 0.5,
            "downscale_delay_s": 8,
            "metrics_interval_s": 0.2,
            "look_back_period_s": 1,
        },
    },
}


class Digit:
    """Answers as our model server does: one request at a time, the declared time asleep, the real inference inside."""

    def __init__(self, device_seconds: float) -> None:
        import torch

        from autonomic.workflows.apps.mnist.model import Classifier

        torch.set_num_threads(1)
        self._torch = torch
        self._model = Classifier().eval()
        self._device_seconds = device_seconds
        self._device = asyncio.Lock()

    async def __call__(self, request: Request) -> JSONResponse:
        """One image as an Open Inference Protocol binary tensor."""
        body = await request.body()
        start = int(request.headers["Inference-Header-Content-Length"])
        header = json.loads(body[:start])
        image = np.frombuffer(body[start:], np.float32).reshape(header["inputs"][0]["shape"])
        async with self._device:
            with self._torch.inference_mode():
                label = int(self._model(self._torch.from_numpy(image.copy())).argmax())
            await asyncio.sleep(self._device_seconds)
        return JSONResponse({"model_version": "1", "outputs": [{"name": "label", "shape": [1], "datatype": "INT64", "data": [label]}]})


def main() -> None:
    """Deploys, says `ready`, waits for SIGTERM, shuts Serve down: one that runs would keep its port."""
    address, port, settings, device_seconds = sys.argv[1:5]
    stop = threading.Event()
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    deployment = serve.deployment(**SETTINGS[settings], ray_actor_options={"num_cpus": 0})(Digit)
    serve.run(deployment.bind(float(device_seconds)), name=APP, route_prefix="/digit")
    # Ray has a handler of its own, which would end this process before Serve is shut down
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print("ready", flush=True)
    stop.wait()
    serve.shutdown()


if __name__ == "__main__":
    main()
