"""What the tests of the platforms share."""

import threading
import time
from collections import Counter

import httpx
import pytest


class Load:
    """Requests at a steady rate from a few threads; counts what came back."""

    def __init__(self, url: str, threads: int = 4) -> None:
        self.answers: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self._url = f"{url}/v2/models/api/infer"
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait(self, more: int, within_seconds: float = 120) -> None:
        """Returns when so many more were answered."""
        wanted = self.answers.total() + more
        deadline = time.monotonic() + within_seconds
        while self.answers.total() < wanted:
            assert time.monotonic() < deadline, f"{self.answers.total()} of {wanted} answers within {within_seconds:g} s"
            time.sleep(0.02)

    def _send(self) -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self._stopping.wait(0.01):
                try:
                    answer = client.post(self._url, json={})
                    self.answers[str(answer.status_code)] += 1
                    if answer.status_code == 200:
                        self.models[answer.json()["model"].rpartition("/")[2]] += 1
                except httpx.HTTPError as error:
                    self.answers[type(error).__name__] += 1


@pytest.fixture(scope="session")
def load() -> type[Load]:
    """The class whose objects send requests to a service: `with load(url) as sent`."""
    return Load
