"""The platform as the agents see it: HTTP to its host, whether that runs workflows on Ray or on Kubernetes."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.platform import Notice
from autonomic.seams.state import RunState, State

_NOTICES = TypeAdapter(list[Notice])
_RUNS = TypeAdapter(list[RunState])
_APPLY_SECONDS = 300.0


class HostPlatform:
    """`seams.platform.Platform` over HTTP, and what else the host knows. May be used by several threads at once."""

    def __init__(self, host_url: str, token: str, timeout_seconds: float = 10.0) -> None:
        self._url = host_url
        self._client = httpx.Client(
            base_url=host_url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout_seconds, trust_env=False
        )

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    # -- seams.platform.Platform

    def apply(self, change: Change, fence: int) -> Outcome:
        """Carries out a change; a deploy or an upgrade returns when its replicas are in service."""
        body = {"change": change.model_dump(mode="json"), "fence": fence}
        return Outcome.model_validate(self._send("POST", "/v1/apply", json=body, timeout=_APPLY_SECONDS).json())

    def lookup(self, key: str) -> Outcome | None:
        answer = self._find(f"/v1/outcomes/{quote(key)}")
        return None if answer is None else Outcome.model_validate(answer)

    def capabilities(self) -> frozenset[str]:
        return frozenset(self._send("GET", "/v1/capabilities").json())

    def observe(self, target: str) -> State:
        return State.model_validate(self._send("GET", f"/v1/state/{quote(target)}").json())

    def observe_all(self, targets: Sequence[str]) -> tuple[dict[str, State], dict[str, str]]:
        """The states of several targets by one request, and why some are not known."""
        answer = self._send("POST", "/v1/states:find", json=list(targets)).json() if targets else {"states": {}, "errors": {}}
        return {target: State.model_validate(state) for target, state in answer["states"].items()}, answer["errors"]

    def runs(self, workflow: str | None = None) -> list[RunState]:
        """All runs known, or those of one workflow, the newest first."""
        return _RUNS.validate_python(self._send("GET", "/v1/runs", params={"workflow": workflow} if workflow else {}).json())

    def watch(self, cursor: int) -> list[Notice]:
        return _NOTICES.validate_python(self._send("GET", "/v1/watch", params={"cursor": cursor}).json())

    # -- runs

    def run(self, run_id: str) -> RunState | None:
        """A run by its id."""
        answer = self._find(f"/v1/runs/{quote(run_id)}")
        return None if answer is None else RunState.model_validate(answer)

    def log(self, run_id: str, step: str, tail: int | None = None, attempt: int | None = None) -> str | None:
        """What a step's attempts (or one) printed, or the last `tail` lines; None where there is no such step or attempt."""
        params = {name: value for name, value in (("tail", tail), ("attempt", attempt)) if value}
        answer = self._send("GET", f"/v1/runs/{quote(run_id)}/steps/{quote(step)}/log", (404,), params=params)
        return None if answer.status_code == 404 else answer.text

    def add_package(self, content: bytes) -> str:
        """Hands user code (a zip file) to the host and returns its digest."""
        return self._send("POST", "/v1/packages", content=content, timeout=60).json()["digest"]

    # -- services

    def urls(self) -> dict[str, str]:
        """Where requests for each service (`workflow/service`) are sent."""
        return self._send("GET", "/v1/services").json()

    def scrape_targets(self) -> list[dict[str, Any]]:
        """The replicas as Prometheus' http_sd wants them: `{targets, labels}`."""
        return self._send("GET", "/v1/sd").json()

    def cluster(self, target: str, parts: Sequence[str]) -> dict[str, Any] | None:
        """What Kubernetes says of a target, by part: `{"items": [...]}` or `{"missing": why}`; None without such a target."""
        return self._find(f"/v1/cluster/{quote(target)}", params={"parts": ",".join(parts)})

    def news(self, source: str) -> dict[str, Any]:
        """What happened on the Kubernetes cluster: `{"facts": [...]}`, the oldest first, or `{"missing": why}`."""
        return self._send("GET", f"/v1/news/{source}").json()

    def drift(self, workflow: str, service: str) -> dict[str, Any] | None:
        """`{"time": …, "values": {name: number}}` of a service's drift detector; None where there is no such service."""
        return self._find(f"/v1/drift/{workflow}/{service}")

    def points(self, workflow: str, service: str, state: str = "all") -> list[dict[str, Any]]:
        """The critical points that were picked: `unlabelled`, `labelled` or `all`."""
        return self._send("GET", f"/v1/points/{workflow}/{service}", params={"state": state}).json()

    def look_up(self, workflow: str, service: str, ids: Sequence[str], inputs: bool = False) -> dict[str, list[dict[str, Any]]]:
        """Those of the prediction ids that the service's log has; with `inputs` each with its tensors."""
        params = {"inputs": "true" if inputs else "false"}
        return self._send("POST", f"/v1/predictions/{workflow}/{service}:find", json=list(ids), params=params).json()

    def add_labels(self, workflow: str, service: str, labels: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Joins true labels `{prediction_id, label, time}` to predictions; late and out of order is allowed."""
        return self._send("POST", f"/v1/labels/{workflow}/{service}", json=list(labels)).json()

    # -- searches

    def start_search(self, search: dict[str, Any]) -> dict[str, Any]:
        """Starts a search over a workflow's parameters, unless one with its id was started before."""
        return self._send("POST", "/v1/searches", json=search).json()

    def search(self, search_id: str) -> dict[str, Any] | None:
        """A search and its trials."""
        return self._find(f"/v1/searches/{quote(search_id)}")

    def stop_search(self, search_id: str) -> dict[str, Any]:
        """Ends a search; trials that ended are kept."""
        return self._send("POST", f"/v1/searches/{quote(search_id)}:stop").json()

    def hold_search(self, search_id: str, why: str) -> None:
        """No further trial of a search begins while there is a `why`; "" lets it go on."""
        self._send("POST", f"/v1/searches/{quote(search_id)}:hold", json={"why": why})

    # -- HTTP

    def _find(self, path: str, **options: Any) -> Any:
        answer = self._send("GET", path, (404,), **options)
        return None if answer.status_code == 404 else answer.json()

    def _send(self, method: str, path: str, allowed: tuple[int, ...] = (), **options: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise Retryable(f"The host {self._url} does not answer ({type(error).__name__}: {error}); it is asked again") from error
        if answer.is_success or answer.status_code in allowed:
            return answer
        try:
            detail = str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = answer.text[:300]
        if answer.status_code in (500, 502, 503, 504):
            raise Retryable(f"The host {self._url} answers {answer.status_code} to {method} {path}: {detail}")
        raise Permanent(f"The host {self._url} answers {answer.status_code} to {method} {path}: {detail}")
