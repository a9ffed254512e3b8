"""An open-loop load generator: arrivals do not wait for answers, and its own lag is measured.

Sends real images to a service's front as Open Inference Protocol v2 binary tensors.
"""

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Sampler = Callable[[random.Random], tuple[Images, int]]
"""Gives the next image [1, 28, 28] and its true label."""


@dataclass(slots=True)
class Request:
    """One request. Times are seconds since the epoch; `lag_seconds` is how late the generator itself sent it."""

    scheduled_at: float
    lag_seconds: float
    truth: int
    latency_seconds: float = float("nan")
    status: int = 0
    prediction_id: str = ""
    predicted: int = -1
    version: str = ""
    role: str = ""
    stage: str = ""

    @property
    def ok(self) -> bool:
        return self.status == 200


class Load:
    """Poisson arrivals at `rate` requests per second, changeable while it runs; `requests` grows as answers come."""

    def __init__(self, url: str, sampler: Sampler, rate: float, *, seed: int = 0, timeout_seconds: float = 30.0) -> None:
        self.requests: list[Request] = []
        self.rate = rate
        self.sampler = sampler
        self.stage = ""
        self._url = url
        self._random = random.Random(seed)
        self._timeout = timeout_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the arrivals and waits for the answers that are still out."""
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            pending: set[asyncio.Task[None]] = set()
            due = time.time()
            while not self._stop.is_set():
                due += self._random.expovariate(self.rate)
                while (wait := due - time.time()) > 0 and not self._stop.is_set():
                    await asyncio.sleep(min(wait, 0.2))
                if self._stop.is_set():
                    break
                image, truth = self.sampler(self._random)
                request = Request(due, time.time() - due, truth, stage=self.stage)
                task = asyncio.create_task(self._send(session, request, image))
                pending.add(task)
                task.add_done_callback(pending.discard)
            if pending:
                await asyncio.wait(pending)

    async def _send(self, session: aiohttp.ClientSession, request: Request, image: Images) -> None:
        body, headers = encode(image)
        try:
            async with session.post(self._url, data=body, headers=headers) as answer:
                content = await answer.read()
                request.status = answer.status
                if request.ok:
                    _read_answer(request, json.loads(content))
        except (aiohttp.ClientError, TimeoutError):
            request.status = 0
        request.latency_seconds = time.time() - request.scheduled_at
        self.requests.append(request)


def encode(image: Images) -> tuple[bytes, dict[str, str]]:
    """The binary-tensor body and headers of one image, answered in JSON."""
    raw = np.ascontiguousarray(image, dtype=np.float32).tobytes()
    tensor = {"name": "images", "shape": list(image.shape), "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    header = json.dumps({"inputs": [tensor], "outputs": [{"name": "label", "parameters": {"binary_data": False}}]}).encode()
    return header + raw, {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"}


def _read_answer(request: Request, answer: dict[str, object]) -> None:
    parameters = answer.get("parameters")
    if isinstance(parameters, dict):
        ids = parameters.get("prediction_ids")
        request.prediction_id = str(ids).split(",")[0] if ids else ""
        request.role = str(parameters.get("role", ""))
    request.version = str(answer.get("model_version", ""))
    outputs = answer.get("outputs")
    if isinstance(outputs, list):
        request.predicted = int(next(output for output in outputs if output["name"] == "label")["data"][0])


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile, NaN where there are no values."""
    return float(np.quantile(np.asarray(values), q)) if len(values) else float("nan")


def accuracy(requests: Sequence[Request]) -> float:
    """The share of answered requests whose label is right, NaN where there are none."""
    answered = [request for request in requests if request.ok]
    return sum(request.predicted == request.truth for request in answered) / len(answered) if answered else float("nan")
