"""Effectors of the planner's own: the tuner, and calls and messages to agents and people."""

import hashlib
import time
from typing import Any

import httpx

from autonomic.seams.errors import Retryable
from autonomic.seams.event import CloudEvent
from autonomic.seams.journal import Journal, Record
from autonomic.seams.plan import Change, Outcome

NOTIFICATION = "notification"
_EFFECT = "effect/"
_TIMEOUT_SECONDS = 10.0


def search_id(key: str) -> str:
    """The id of the search that the change `key` starts."""
    return f"search-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _outcome(change: Change, status: str, started_at: float, detail: str = "", after: dict[str, Any] | None = None) -> Outcome:
    return Outcome.model_validate(
        {
            "key": change.key,
            "primitive": change.primitive,
            "target": change.target,
            "status": status,
            "detail": detail,
            "after": after or {},
            "started_at": started_at,
            "finished_at": time.time(),
        }
    )


class TunerEffector:
    """Hands searches to the tuner; the search's id is derived from the change's key, so that it is started once."""

    def __init__(self, url: str, token: str) -> None:
        # trust_env: agents never speak to one another through a proxy
        self._client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=_TIMEOUT_SECONDS, trust_env=False)

    def apply(self, change: Change, fence: int) -> Outcome:
        started_at = time.time()
        identifier = search_id(change.key)
        if change.to.get("stop"):
            answer = self._request("POST", f"/v1/searches/{identifier}:stop")
        else:
            answer = self._request("POST", "/v1/searches", {**change.to, "id": identifier})
        if answer.is_success:
            return _outcome(change, "done", started_at, after={"search": identifier})
        return _outcome(change, "refused", started_at, f"the tuner answered {answer.status_code}: {_detail(answer)}")

    def lookup(self, key: str) -> Outcome | None:
        identifier = search_id(key)
        answer = self._request("GET", f"/v1/searches/{identifier}")
        if answer.status_code == 404:
            return None
        if not answer.is_success:
            raise Retryable(f"the tuner answered {answer.status_code}: {_detail(answer)}")
        found = answer.json()
        change = Change(key=key, primitive="tune", target=str(found["workflow"]), effector="tuner", to={})
        return _outcome(change, "done", float(found["created_at"]), after={"search": identifier})

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _request(self, method: str, path: str, body: Any = None) -> httpx.Response:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise Retryable(f"the tuner at {self._client.base_url} cannot be reached: {error!r}") from None
        if answer.status_code >= 500 or answer.status_code == 429:
            raise Retryable(f"the tuner answered {answer.status_code}: {_detail(answer)}")
        return answer


class AgentsEffector:
    """`call` and `notify`: events to agents through the outbox, to any HTTP endpoint directly, messages into the journal.

    An endpoint may get an event twice after a crash; its CloudEvent id is the change's key, by which it knows it again.
    """

    def __init__(self, journal: Journal, agents: frozenset[str], source: str = "planner") -> None:
        self._journal = journal
        self._agents = agents
        self._source = source

    def apply(self, change: Change, fence: int) -> Outcome:
        known = self.lookup(change.key)
        if known is not None:
            return known
        started_at = time.time()
        if change.primitive == "notify":
            webhook, type_, data = change.to.get("webhook"), "dev.autonomic.notification", {"message": change.to["message"]}
        else:
            webhook, type_, data = change.to["to"], change.to["type"], change.to.get("data", {})
        event = CloudEvent(id=change.key, source=self._source, type=type_, subject=change.target or None, data=data)
        to_agent = webhook if webhook in self._agents else None
        status, detail = ("done", "") if webhook is None or to_agent else _post(webhook, event)
        outcome = _outcome(change, status, started_at, detail, {"to": webhook} if webhook else {})
        with self._journal.transaction() as transaction:
            if to_agent:
                transaction.send(to_agent, event)
            if change.primitive == "notify":
                told = {"message": change.to["message"], "target": change.target, "key": change.key, "delivery": detail or status}
                transaction.append(Record(time=outcome.finished_at, kind=NOTIFICATION, subject=change.target, data=told))
            transaction.put_state(_EFFECT + change.key, outcome.model_dump(mode="json"))
        return outcome

    def lookup(self, key: str) -> Outcome | None:
        value = self._journal.states(_EFFECT + key).get(_EFFECT + key)
        return None if value is None else Outcome.model_validate(value)

    def forget(self, before: float) -> None:
        """Forgets what was done before then (seconds since the epoch)."""
        old = [key for key, value in self._journal.states(_EFFECT).items() if value["finished_at"] < before]
        with self._journal.transaction() as transaction:
            for key in old:
                transaction.delete_state(key)


def _post(url: str, event: CloudEvent) -> tuple[str, str]:
    if not url.startswith(("http://", "https://")):
        return "refused", f"{url!r} is neither an agent (monitor, tuner, planner) nor an http(s) URL"
    body = event.model_dump_json(exclude_none=True).encode()
    try:
        answer = httpx.post(url, content=body, headers={"Content-Type": "application/cloudevents+json"}, timeout=_TIMEOUT_SECONDS)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        return "refused", f"{url!r} cannot be called: {error}"
    except httpx.HTTPError as error:
        raise Retryable(f"{url} cannot be reached: {error!r}", 2.0) from None
    if answer.is_success:
        return "done", ""
    if answer.status_code >= 500 or answer.status_code == 429:
        raise Retryable(f"{url} answered {answer.status_code}", 2.0)
    return "failed", f"{url} answered {answer.status_code}: {answer.text[:200]}"


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("detail", ""))[:500]
    except ValueError:
        return answer.text[:200]
