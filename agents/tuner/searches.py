"""Searches: what was asked for, what the host says of it, and telling the others when it ended."""

import math
import secrets
import threading
from collections.abc import Callable
from typing import Any, Literal, Protocol

from pydantic import Field

from autonomic.agents.journal import SqlJournal
from autonomic.agents.logs import logger
from autonomic.primitives.people import Freeze
from autonomic.primitives.tune import TuneArguments
from autonomic.seams.clock import Clock
from autonomic.seams.errors import AutonomicError, Permanent, Problem, Retryable, SpecError
from autonomic.seams.event import CloudEvent
from autonomic.seams.ids import Ids
from autonomic.seams.journal import Record
from autonomic.seams.word import Word
from autonomic.workflows.spec.name import Name
from autonomic.workflows.spec.parameters import faults_of_values
from autonomic.workflows.spec.workflow import BatchSpec, Workflow

SEARCH = "search"
SEARCH_FINISHED = "dev.autonomic.search.finished"
ENDED = frozenset({"succeeded", "failed", "stopped"})
LISTENERS = ("planner", "monitor")
IDLE_SECONDS = 5.0
"""How often an idle tuner looks whether the host is there."""
_STATE = "search/"
_log = logger(__name__)


class SearchRequest(TuneArguments):
    """A search as it is asked for. One whose `id` is known is not started again. Without `seed` one is drawn."""

    id: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    workflow: Name
    seed: int | None = Field(None, ge=0, lt=2**31)


class Search(Word):
    """A search as it is known. `best` holds `parameters` and `value`; `trials` are as the host tells them."""

    id: str
    workflow: str
    status: Literal["pending", "running", "succeeded", "failed", "stopped"] = "pending"
    request: dict[str, Any]
    best: dict[str, Any] | None = None
    trials: list[dict[str, Any]] = []
    detail: str = ""
    created_at: float
    finished_at: float | None = None


class Host(Protocol):
    """The part of the platform that searches."""

    def capabilities(self) -> frozenset[str]: ...

    def start_search(self, search: dict[str, Any]) -> dict[str, Any]: ...

    def search(self, search_id: str) -> dict[str, Any] | None: ...

    def stop_search(self, search_id: str) -> dict[str, Any]: ...

    def hold_search(self, search_id: str, why: str) -> None: ...


class Workflows(Protocol):
    """Where applied workflows are known: the document and its code's digest."""

    def __call__(self, name: str) -> tuple[Workflow, str]:
        """Raises `Permanent` where there is no such workflow, `Retryable` where it cannot be asked."""
        ...


class Searches:
    """Hands searches to the host and mirrors their state into the journal. It never applies what it finds.

    While a freeze holds on the workflow of a search it is not started, and begins no further trial; those that run go on. Where the planner
    cannot be asked for the freezes, what has begun goes on as it was, and nothing new is started.
    """

    def __init__(
        self,
        journal: SqlJournal,
        clock: Clock,
        ids: Ids,
        host: Host,
        workflows: Workflows,
        freezes: Callable[[], list[Freeze]],
        interval_seconds: float = 1.0,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._ids = ids
        self._host = host
        self._workflows = workflows
        self._freezes = freezes
        # by search the freeze that was last sent to its host; after a restart it is sent anew
        self._held: dict[str, str] = {}
        self._interval_seconds = interval_seconds
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="searches", daemon=True)
        self.missing = ""

    def start(self) -> None:
        """Begins to follow what has not ended."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; searches go on at the host and are followed again after the next start."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(15)

    def all(self) -> list[Search]:
        """Every search, the newest first."""
        found = [Search.model_validate(value) for value in self._journal.states(_STATE).values()]
        return sorted(found, key=lambda search: (search.created_at, search.id), reverse=True)

    def get(self, search_id: str) -> Search | None:
        """One search, None where it is unknown."""
        value = self._journal.states(_STATE + search_id).get(_STATE + search_id)
        return None if value is None else Search.model_validate(value)

    def request(self, request: SearchRequest) -> tuple[Search, bool]:
        """Writes a search down, to be handed to the host; False with one that is known already.

        Raises:
            SpecError: the space does not fit the workflow.
            Permanent: there is no such batch workflow.
            Retryable: the planner, who knows the workflows, cannot be asked.
        """
        known = self.get(request.id) if request.id else None
        if known is not None:
            return known, False
        workflow, package = self._workflows(request.workflow)
        check_space(request, workflow)
        identifier = request.id or self._ids.new("search")
        asked = request.model_dump(mode="json", exclude={"id"})
        asked["seed"] = secrets.randbelow(2**31) if request.seed is None else request.seed
        asked["spec"], asked["package"] = workflow.model_dump(mode="json", by_alias=True), package
        search = Search(id=identifier, workflow=request.workflow, request=asked, created_at=self._clock.now())
        with self._journal.transaction() as transaction:
            if transaction.state(_STATE + identifier)[0] is None:
                transaction.put_state(_STATE + identifier, search)
                transaction.append(Record(time=search.created_at, kind=SEARCH, subject=identifier, data=_summary(search)))
        self._wake.set()
        return search, True

    def end(self, search: Search) -> Search:
        """Stops a search; one that has ended stays as it is.

        Raises:
            Retryable: the host cannot be reached; nothing was done.
        """
        if search.status in ENDED:
            return search
        if self._host.search(search.id) is None:
            stopped = search.model_copy(update={"status": "stopped", "detail": "it was stopped before it began"})
            self._save(search, stopped)
            return stopped
        return self._mirror(search, self._host.stop_search(search.id))

    def follow(self) -> int:
        """Brings every search that has not ended up to date once; returns how many those are.

        Raises:
            Retryable: the host cannot be reached.
        """
        open_searches = [search for search in self.all() if search.status not in ENDED]
        self._held = {search.id: self._held[search.id] for search in open_searches if search.id in self._held}
        freezes, away = self._ask_freezes() if open_searches else ([], "")
        for search in reversed(open_searches):
            words = next((one.words() for one in freezes or () if one.covers(search.workflow)), "")
            try:
                found = self._host.search(search.id)
                if found is None and (away or words):
                    self._save(search, search.model_copy(update={"detail": away or words}))
                    continue
                if found is None:
                    found = self._host.start_search({**search.request, "id": search.id})
                    self._held[search.id] = ""
                if not away and self._held.get(search.id) != words:
                    self._host.hold_search(search.id, words)
                    self._held[search.id] = words
            except Permanent as refused:
                self._save(search, search.model_copy(update={"status": "failed", "detail": str(refused)}))
                continue
            self._mirror(search, found, self._held.get(search.id, ""))
        return len(open_searches)

    def _ask_freezes(self) -> tuple[list[Freeze], str]:
        """The freezes in force, or why they are not known."""
        try:
            return self._freezes(), ""
        except Retryable as away:
            return [], str(away)

    def _mirror(self, search: Search, found: dict[str, Any], held: str = "") -> Search:
        fields = {name: found[name] for name in ("status", "best", "trials", "detail") if found.get(name) is not None}
        if held and fields.get("status", search.status) not in ENDED:
            fields["detail"] = f"it begins no further trial: {held}"
        after = Search.model_validate({**search.model_dump(), **fields})
        self._save(search, after)
        return after

    def _save(self, before: Search, after: Search) -> None:
        if after == before:
            return
        now = self._clock.now()
        ended = after.status in ENDED and before.status not in ENDED
        if ended:
            after = after.model_copy(update={"finished_at": now})
        with self._journal.transaction() as transaction:
            current, _ = transaction.state(_STATE + after.id)
            if current is not None and current["status"] in ENDED:
                return
            transaction.put_state(_STATE + after.id, after)
            transaction.append(Record(time=now, kind=SEARCH, subject=after.id, data=_summary(after)))
            if ended:
                event = CloudEvent(
                    id=f"{after.id}.finished", source="tuner", type=SEARCH_FINISHED, subject=after.workflow, data=_summary(after)
                )
                for listener in LISTENERS:
                    transaction.send(listener, event)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            wait = self._interval_seconds
            try:
                if not self.follow():
                    # nothing is to be followed: whether the host is there is asked for the readiness alone
                    self._host.capabilities()
                    wait = IDLE_SECONDS
                self.missing = ""
            except AutonomicError as away:
                self.missing, wait = str(away), max(self._interval_seconds, 2.0)
            except Exception as wrong:  # noqa: BLE001 the boundary of this thread: it goes on with the next round
                _log.exception("following searches failed")
                self.missing, wait = f"{type(wrong).__name__}: {wrong}", 5.0
            self._wake.wait(wait)


def _summary(search: Search) -> dict[str, Any]:
    found = search.model_dump(mode="json", exclude={"request", "trials"})
    request = {key: value for key, value in search.request.items() if key != "spec"}
    return {**found, "request": request, "trials": len(search.trials)}


def check_space(request: SearchRequest, workflow: Workflow) -> None:
    """Judges a search's space and parameters against the workflow's.

    Raises:
        SpecError: with every problem.
        Permanent: the workflow is not a batch workflow.
    """
    if not isinstance(workflow.spec, BatchSpec):
        raise Permanent(f"{workflow.name} is an online workflow; a search runs a batch workflow")
    problems: list[Problem] = []
    declared = workflow.spec.parameters
    problems += [
        Problem(f"{workflow.name} has no parameter {name!r}; it has {', '.join(declared) or 'none'}", path=f"space.{name}")
        for name in request.space
        if name not in declared
    ]
    faults = faults_of_values(declared, request.parameters, complete=False)
    problems += [Problem(fault, path=f"parameters.{name}") for name, fault in faults]
    problems += [
        Problem(f"{name!r} is searched and also given a value; keep one of both", path=f"parameters.{name}")
        for name in request.parameters
        if name in request.space
    ]
    if not request.space:
        problems.append(Problem("a search needs at least one parameter to search", path="space"))
    for name, domain in request.space.items():
        fault = _domain_fault(domain)
        if fault:
            problems.append(Problem(fault, path=f"space.{name}"))
    if problems:
        raise SpecError(problems)


def _domain_fault(domain: dict[str, list[Any]]) -> str:
    if len(domain) != 1:
        return f"takes exactly one of choice, uniform, loguniform, integer; found {', '.join(domain) or 'none'}"
    kind, values = next(iter(domain.items()))
    if kind == "choice":
        return "" if values else "choice needs at least one value"
    if kind not in ("uniform", "loguniform", "integer"):
        return f"{kind!r} is not known; known are choice, uniform, loguniform, integer"
    wanted = int if kind == "integer" else (int, float)
    if len(values) != 2 or any(isinstance(value, bool) or not isinstance(value, wanted) or not math.isfinite(value) for value in values):
        return f"{kind} takes [low, high], two {'whole ' if kind == 'integer' else ''}numbers; found {values}"
    if values[0] >= values[1]:
        return f"{kind} takes [low, high] with low < high; found {values}"
    return "loguniform takes numbers above 0" if kind == "loguniform" and values[0] <= 0 else ""
