"""The session below the Prometheus client: long queries travel in the body, and what is no answer is judged by Prometheus' own words."""

from collections.abc import Callable
from typing import Any

from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests import Response, Session
from urllib3.util.retry import Retry

Judge = Callable[[int, str, str], None]
"""Raises for an answer that is none: its status, and Prometheus' errorType and error, "" where the body has none."""


def connect(url: str, judge: Judge) -> PrometheusConnect:
    """A client that asks once, takes no proxy from the environment, and belongs to one thread."""
    return PrometheusConnect(url=url.rstrip("/"), session=_Session(judge), retry=Retry(total=0), method="POST")


class _Session(Session):
    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.trust_env = False
        self._judge = judge

    def request(self, method: Any, url: Any, params: Any = None, **options: Any) -> Response:
        # in the body, because an address has a greatest length
        answer = super().request(method, url, data=params, **options)
        if answer.status_code != 200:
            try:
                document = answer.json()
                kind, why = str(document.get("errorType", "")), str(document.get("error", ""))[:500]
            except (ValueError, AttributeError):
                kind, why = "", answer.text[:300]
            self._judge(answer.status_code, kind, why)
        return answer
