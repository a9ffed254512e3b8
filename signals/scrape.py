"""`scrape`: readings straight from the /metrics of a target's replicas and of the host, without Prometheus between.

What runs where is asked from the host (`GET /v1/sd`, in the form of Prometheus' http_sd). Growth and quantiles are taken
over the scrapes that the readings themselves made; with `rate` or `quantile` the first reading is missing.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from autonomic.seams.clock import Clock
from autonomic.seams.reading import Reading, error, missing, number
from autonomic.seams.signal import Answer, Query
from autonomic.seams.target import Target
from autonomic.signals.aggregates import aggregated
from autonomic.signals.exposition import Key, Scrape, growth, histogram_quantile, parse, since
from autonomic.signals.guard import asked, guarded
from autonomic.signals.queries import ScrapeQuery

FRESH_SECONDS = 0.02
"""Queries so close together share one scrape."""
DISCOVERY_SECONDS = 1.0
KEPT_SECONDS = 60.0
"""How long the endpoints last heard of are used while the host does not answer."""

Fetch = Callable[[str], str]
"""The body at a URL; raises `OSError` where it cannot be had in time."""


class Endpoint(NamedTuple):
    """Where samples are exposed, and the labels that they get."""

    url: str
    labels: tuple[tuple[str, str], ...]

    def belongs_to(self, target: Target) -> bool:
        labels = dict(self.labels)
        return labels.get("workflow") == target.workflow and (not target.step or labels.get("service", labels.get("step")) == target.step)


class ScrapeSignal:
    """Readings from the endpoints of targets.

    Args:
        host_url: the platform's host; its /v1/sd names the replicas, and its own /metrics counts for every target.
        fetch: gets a page within `timeout_seconds`.
    """

    def __init__(self, host_url: str, fetch: Fetch, clock: Clock, timeout_seconds: float = 1.0, workers: int = 16) -> None:
        self._host_url = host_url
        self._fetch = fetch
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._pool = ThreadPoolExecutor(workers, "scrape")
        self._pages: dict[Endpoint, _Page] = {}
        self._lock = threading.Lock()
        self._endpoints: dict[str, list[Endpoint]] = {}
        self._discovered_at = -math.inf
        self._discovery_error = ""
        self._discovery: Future[None] | None = None

    def read(self, queries: Sequence[Query], now: float) -> list[Answer]:
        if not self._host_url:
            return [error(now, "scrape", "no host is configured") for _ in queries]
        with self._lock:
            if self._discovery is None or self._discovery.done():
                self._discovery = self._pool.submit(self._discover)
            discovery = self._discovery
        wait([discovery], self._timeout_seconds)
        parsed = [asked(lambda query=query: (ScrapeQuery.model_validate(query.args), Target.parse(query.target))) for query in queries]
        sound = [each for each in parsed if not isinstance(each, str)]
        host = self._host({target.workflow for _, target in sound})
        needed: dict[Endpoint, set[str]] = {}
        reach = 0.0
        for query, target in sound:
            reach = max(reach, query.rate or query.window)
            for endpoint in (*self._of(target), host):
                needed.setdefault(endpoint, set()).add(_sample_name(query))
        self._scrape_all(needed, reach)
        return [
            error(now, "scrape", each)
            if isinstance(each, str)
            else guarded("scrape", now, lambda each=each: self._answer(*each, host, now))
            for each in parsed
        ]

    def close(self) -> None:
        """Lets go of the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _of(self, target: Target) -> list[Endpoint]:
        return [endpoint for endpoint in self._endpoints.get(target.workflow, ()) if endpoint.belongs_to(target)]

    def _host(self, workflows: set[str]) -> Endpoint:
        # what it says of one workflow costs the same however many others there are
        asked = f"?workflow={quote(next(iter(workflows)))}" if len(workflows) == 1 else ""
        return Endpoint(f"{self._host_url}/metrics{asked}", ())

    def _discover(self) -> None:
        now = self._clock.monotonic()
        if now - self._discovered_at < DISCOVERY_SECONDS:
            return
        try:
            self._endpoints = _endpoints(self._fetch(f"{self._host_url}/v1/sd"))
            self._discovered_at, self._discovery_error = now, ""
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as failure:
            self._discovery_error = f"the host at {self._host_url} did not say what runs: {failure}"
            if now - self._discovered_at > KEPT_SECONDS:
                self._endpoints = {}
        endpoints = self._endpoints
        known = {endpoint for several in endpoints.values() for endpoint in several}
        hosts = {self._host({workflow}) for workflow in endpoints} | {self._host(set())}
        with self._lock:
            self._pages = {endpoint: page for endpoint, page in self._pages.items() if endpoint in known or endpoint in hosts}

    def _scrape_all(self, needed: Mapping[Endpoint, set[str]], reach: float) -> None:
        pending: list[Future[None]] = []
        for endpoint, names in needed.items():
            pending.append(self._page(endpoint).refresh(self._pool, names, reach))
        wait(pending, self._timeout_seconds * 1.2)

    def _page(self, endpoint: Endpoint) -> "_Page":
        with self._lock:
            return self._pages.setdefault(endpoint, _Page(endpoint, self._fetch, self._clock, self._timeout_seconds))

    def _answer(self, query: ScrapeQuery, target: Target, host: Endpoint, now: float) -> Reading:
        window = query.rate or query.window
        counts = query.rate is not None or query.quantile is not None
        name = _sample_name(query)
        found: list[tuple[Key, float, float]] = []
        failed: list[str] = []
        oldest = math.inf
        seen_once = False
        for endpoint in (*self._of(target), host):
            page = self._page(endpoint)
            history, why = page.history()
            if why and (endpoint.labels or page.has(name)):
                failed.append(f"{endpoint.url}: {why}")
            if why or not history:
                continue
            for key in history[-1].samples:
                if key.name != name or not _matches(key, query.labels, target if not endpoint.labels else None):
                    continue
                oldest = min(oldest, history[-1].time)
                if not counts:
                    found.append((key, history[-1].samples[key], 1.0))
                    continue
                scrapes = since(history, history[-1].time - window)
                if (grown := growth(scrapes, key)) is None:
                    seen_once = True
                else:
                    found.append((key, grown, scrapes[-1].time - scrapes[0].time))
        needs_all = query.quantile is None and query.aggregate in ("sum", "min")
        if self._discovery_error and not found:
            failed.append(self._discovery_error)
        if failed and (needs_all or not found):
            return error(now, "scrape", "; ".join(failed)[:1000])
        if not found:
            return missing(now, "scrape", "needs a second scrape" if seen_once else self._why_none(query, target, host))
        value = _value(query, found)
        if query.quantile is not None and math.isnan(value):
            return missing(oldest, "scrape", _why_no_quantile(query, found))
        reading = number(value, oldest, "scrape")
        return reading.model_copy(update={"detail": "; ".join(filter(None, [reading.detail, *failed]))[:1000]})

    def _why_none(self, query: ScrapeQuery, target: Target, host: Endpoint) -> str:
        """Why there is no sample: none of that name, or none with these labels, and which there are."""
        name = _sample_name(query)
        seen: dict[str, None] = {}
        for endpoint in (*self._of(target), host):
            history, _ = self._page(endpoint).history()
            for key in history[-1].samples if history else ():
                if key.name == name and _matches(key, {}, target if not endpoint.labels else None):
                    seen[", ".join(f"{label}={dict(key.labels).get(label, '')!r}" for label in query.labels)] = None
        if not seen or not query.labels:
            return f"no sample {name} with these labels is exposed for {target}"
        asked_for = ", ".join(f"{label}={value!r}" for label, value in query.labels.items())
        return f"no sample {name} with {asked_for} is exposed for {target}; there is {'; '.join(list(seen)[:5])}"


class _Page:
    """The scrapes of one endpoint as far back as its readers look."""

    def __init__(self, endpoint: Endpoint, fetch: Fetch, clock: Clock, timeout_seconds: float) -> None:
        self._endpoint = endpoint
        self._fetch = fetch
        self._clock = clock
        self._stale_seconds = timeout_seconds * 1.2
        self._names: frozenset[str] = frozenset()
        self._seen: set[str] = set()
        self._reach = 0.0
        self._scrapes: deque[Scrape] = deque()
        self._scraped_at = -math.inf
        self._scraped_names: frozenset[str] = frozenset()
        self._why = ""
        self._running: Future[None] | None = None
        self._lock = threading.Lock()

    def has(self, name: str) -> bool:
        return name in self._seen

    def refresh(self, pool: ThreadPoolExecutor, names: set[str], reach: float) -> Future[None]:
        """A scrape that brings `names` and is kept for `reach` seconds: the one that is under way, or another."""
        with self._lock:
            self._names |= names
            self._reach = max(self._reach, reach)
            running = self._running
            if running is not None and (not running.done() or self._fresh()):
                return running
            self._running = pool.submit(self._scrape)
            return self._running

    def _fresh(self) -> bool:
        return self._names == self._scraped_names and self._clock.monotonic() - self._scraped_at < FRESH_SECONDS

    def _scrape(self) -> None:
        names = self._names
        try:
            samples = parse(self._fetch(self._endpoint.url), names, dict(self._endpoint.labels))
        except Exception as failure:  # noqa: BLE001 whatever one page holds, it is that page's fault
            with self._lock:
                self._why = f"{type(failure).__name__}: {failure}"[:300]
            return
        with self._lock:
            self._seen.update(key.name for key in samples)
            self._scraped_at, self._scraped_names, self._why = self._clock.monotonic(), names, ""
            self._scrapes.append(Scrape(self._clock.now(), samples))
            while len(self._scrapes) > 2 and self._scrapes[1].time <= self._scrapes[-1].time - self._reach:
                self._scrapes.popleft()

    def history(self) -> tuple[list[Scrape], str]:
        """The scrapes, the newest last, and why the last one asked for did not come."""
        with self._lock:
            why = self._why
            if not why and self._clock.monotonic() - self._scraped_at > self._stale_seconds:
                why = "did not answer in time"
            return list(self._scrapes), why


def _sample_name(query: ScrapeQuery) -> str:
    return f"{query.metric}_bucket" if query.quantile is not None else query.metric


def _matches(key: Key, labels: Mapping[str, str], target: Target | None) -> bool:
    own = dict(key.labels)
    if any(own.get(name, "") != value for name, value in labels.items()):
        return False
    if target is None:
        return True
    return own.get("workflow") == target.workflow and (not target.step or own.get("service", own.get("step")) == target.step)


def _value(query: ScrapeQuery, found: Sequence[tuple[Key, float, float]]) -> float:
    if query.quantile is not None:
        buckets: dict[float, float] = {}
        for key, grown, _ in found:
            bound = float(dict(key.labels).get("le", "nan"))
            buckets[bound] = buckets.get(bound, 0.0) + grown
        return histogram_quantile(query.quantile, buckets.items())
    values = [value / seconds if seconds > 0 else math.nan for _, value, seconds in found]
    return aggregated(query.aggregate, values)


def _why_no_quantile(query: ScrapeQuery, found: Sequence[tuple[Key, float, float]]) -> str:
    bounds = {dict(key.labels).get("le") for key, _, _ in found}
    if None in bounds or len(bounds) < 2:
        return f"{_sample_name(query)} is no histogram: its samples need the label le, with more than one value"
    if not any(bound is not None and float(bound) == math.inf for bound in bounds):
        return f"{_sample_name(query)} has no bucket le='+Inf'"
    return f"nothing was observed in the last {query.window:g} s"


def _endpoints(text: str) -> dict[str, list[Endpoint]]:
    """What is exposed where, by workflow."""
    import json

    groups: Any = json.loads(text)
    found: dict[str, list[Endpoint]] = {}
    for group in groups:
        labels = {str(name): str(value) for name, value in group.get("labels", {}).items()}
        scheme, path = labels.get("__scheme__", "http"), labels.get("__metrics_path__", "/metrics")
        kept = tuple(sorted((name, value) for name, value in labels.items() if not name.startswith("__")))
        of_workflow = found.setdefault(labels.get("workflow", ""), [])
        of_workflow.extend(Endpoint(f"{scheme}://{address}{path}", kept) for address in group["targets"])
    return found


def http_fetch(token: str, host_url: str, timeout_seconds: float = 1.0, max_bytes: int = 16 * 1024 * 1024) -> Fetch:
    """A `Fetch` over HTTP with kept connections; the token goes to the host only."""
    import time

    import httpx

    @lru_cache(maxsize=1)
    def connections() -> httpx.Client:
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
        return httpx.Client(timeout=timeout_seconds, trust_env=False, limits=limits)

    host = urlsplit(host_url).netloc

    def fetch(url: str) -> str:
        headers = {"Authorization": f"Bearer {token}"} if urlsplit(url).netloc == host else {}
        end = time.monotonic() + timeout_seconds
        body = bytearray()
        try:
            with connections().stream("GET", url, headers=headers) as answer:
                if answer.status_code != 200:
                    raise OSError(f"{url} answered {answer.status_code}")
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > max_bytes or time.monotonic() > end:
                        raise OSError(f"{url} did not end within {max_bytes} bytes and {timeout_seconds:g} s")
        except httpx.HTTPError as failure:
            raise OSError(f"{url}: {type(failure).__name__}: {failure}") from None
        return body.decode(errors="replace")

    return fetch
