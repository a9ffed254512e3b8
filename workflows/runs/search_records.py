"""What is kept of searches: what each was started with, its trials, and whether it was asked to stop."""

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from autonomic.seams.errors import Permanent
from autonomic.seams.state import FINISHED
from autonomic.seams.word import Word
from autonomic.workflows.runs.run_records import Documents
from autonomic.workflows.spec.parameters import defaults
from autonomic.workflows.spec.workflow import BatchSpec, Workflow

KEPT_SEARCHES = 100
Space = dict[str, dict[str, list[Any]]]
"""Parameter -> {choice: [...]}, {uniform: [low, high]}, {loguniform: [low, high]} or {integer: [low, high]}."""


class SearchRequest(Word):
    """All that a search was started with."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    workflow: str
    spec: Workflow
    package: str = ""
    metric: str
    mode: Literal["min", "max"]
    space: Space
    trials: int = Field(ge=1)
    parallel: int = Field(1, ge=1)
    parameters: dict[str, Any] = {}
    seed: int = 0
    tracking_uri: str = ""
    home: Path

    @classmethod
    def read(cls, search: dict[str, Any], tracking_uri: str, home: Path) -> "SearchRequest":
        """What the tuner asks for: {id, workflow, spec, package, metric, mode, space, trials, parallel, parameters, seed}.

        Raises:
            Permanent: it cannot be searched; says why.
        """
        from autonomic.workflows.runs.search_space import distributions

        known = {name: search[name] for name in cls.model_fields if name in search and name not in ("tracking_uri", "home")}
        try:
            request = cls.model_validate({**known, "tracking_uri": tracking_uri, "home": home.absolute()})
        except ValidationError as error:
            raise Permanent(f"the search {search.get('id')!r} cannot be started: {error}") from None
        if not isinstance(request.spec.spec, BatchSpec):
            raise Permanent(f"{request.workflow} is an online workflow; a search runs a batch workflow")
        if not request.space:
            raise Permanent("a search needs at least one parameter to search")
        distributions(request.space)
        return request

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters of the workflow as it was applied, with those of the search."""
        assert isinstance(self.spec.spec, BatchSpec)
        return {**defaults(self.spec.spec.parameters), **self.parameters}


class Trial(Word):
    """One run of the workflow with its own parameters; `value` is the metric's."""

    number: int
    run_id: str
    parameters: dict[str, Any]
    default: bool = False
    status: Literal["running", "succeeded", "failed", "stopped"] = "running"
    value: float | None = None
    detail: str = ""
    started_at: float
    finished_at: float | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


class SearchState(Word):
    """A search as it stands; `best` is {number, parameters, value, default} of the best trial so far."""

    id: str
    workflow: str
    status: Literal["pending", "running", "succeeded", "failed", "stopped"] = "pending"
    metric: str
    mode: Literal["min", "max"]
    trials: tuple[Trial, ...] = ()
    best: dict[str, Any] | None = None
    tracking_run: str = ""
    detail: str = ""
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


class SearchRecords:
    """What the platform's store holds of searches."""

    def __init__(self, store: Documents) -> None:
        self._store = store

    def add(self, request: SearchRequest, now: float) -> SearchState:
        """Keeps a new search; one that is there stays as it is. Of those that have ended the newest are kept."""
        if self._store.put_new(_key(request.id, "request"), request.model_dump(mode="json", by_alias=True)):
            self._forget_the_oldest()
        state = self.state(request.id)
        if state is None:
            fields = {name: getattr(request, name) for name in ("id", "workflow", "metric", "mode")}
            state = SearchState(**fields, created_at=now)
            self.put_state(state)
        return state

    def request(self, search_id: str) -> SearchRequest | None:
        data = self._store.get(_key(search_id, "request"))
        return None if data is None else SearchRequest.model_validate(data)

    def state(self, search_id: str) -> SearchState | None:
        data = self._store.get(_key(search_id, "state"))
        return None if data is None else SearchState.model_validate(data)

    def put_state(self, state: SearchState) -> None:
        self._store.put(_key(state.id, "state"), state.model_dump(mode="json"))

    def ask_to_stop(self, search_id: str) -> None:
        self._store.put(_key(search_id, "stop"), True)

    def asked_to_stop(self, search_id: str) -> bool:
        return self._store.get(_key(search_id, "stop")) is not None

    def hold(self, search_id: str, why: str) -> None:
        """No further trial of it begins while there is a `why`."""
        key = _key(search_id, "hold")
        if why:
            self._store.put(key, why)
        else:
            self._store.delete(key)

    def held(self, search_id: str) -> str:
        """Why no further trial of it begins, "" where one may."""
        return str(self._store.get(_key(search_id, "hold")) or "")

    def ids(self) -> list[str]:
        return [key.split("/")[1] for key in self._store.keys("search/") if key.endswith("/request")]

    def _forget_the_oldest(self) -> None:
        ids = self.ids()
        if len(ids) <= KEPT_SEARCHES:
            return
        ended = [state for search_id in ids if (state := self.state(search_id)) is not None and state.finished]
        for state in sorted(ended, key=lambda state: state.created_at)[: len(ids) - KEPT_SEARCHES]:
            # the request last: what is left of a search that is half forgotten is forgotten with the next
            for part in ("hold", "stop", "state", "request"):
                self._store.delete(_key(state.id, part))


def best_of(trials: tuple[Trial, ...], mode: str) -> dict[str, Any] | None:
    """The best trial that has a value, None where there is none."""
    scored = {trial.value: trial for trial in reversed(trials) if trial.value is not None}
    if not scored:
        return None
    value = max(scored) if mode == "max" else min(scored)
    best = scored[value]
    return {"number": best.number, "parameters": best.parameters, "value": value, "default": best.default}


def is_number(value: Any) -> bool:
    """Whether an output can be a trial's value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _key(search_id: str, part: str) -> str:
    return f"search/{search_id}/{part}"
