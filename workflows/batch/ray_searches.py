"""Searches over the parameters of a batch workflow on the Ray cluster that this process is connected to."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autonomic.seams.clock import SystemClock
from autonomic.seams.errors import Permanent
from autonomic.workflows.batch.drivers import ensure_driven
from autonomic.workflows.batch.ray_runs import stop_runs
from autonomic.workflows.batch.search_actor import SearchActor, SearchRecords, SearchRequest, SearchState


def start_search(search: dict[str, Any], *, tracking_uri: str, home: Path) -> dict[str, Any]:
    """Starts a search, unless one with its id was started before, and returns its state.

    `search` is {id, workflow, spec, package, metric, mode, space, trials, parallel, parameters, seed}. Each trial is a run
    of the workflow; its value is the output `metric` of the last steps. Where the workflow's own parameters lie in
    the space, the first trial is made with them (`default` is true).

    Raises:
        Permanent: it cannot be searched; says why.
    """
    known = {name: search[name] for name in SearchRequest.model_fields if name in search and name not in ("tracking_uri", "home")}
    try:
        request = SearchRequest.model_validate({**known, "tracking_uri": tracking_uri, "home": home.absolute()})
    except ValidationError as error:
        raise Permanent(f"the search {search.get('id')!r} cannot be started: {error}") from None
    request.check()
    records = SearchRecords()
    if records.add(request):
        records.put_state(
            SearchState(
                id=request.id,
                workflow=request.workflow,
                metric=request.metric,
                mode=request.mode,
                created_at=SystemClock().now(),
            )
        )
    state = records.state(request.id)
    if state is None or not state.finished:
        _ensure_driven(request.id)
    return _known(request.id)


def get_search(search_id: str) -> dict[str, Any] | None:
    """A search with its trials and the best so far, None where it is not known."""
    state = SearchRecords().state(search_id)
    return None if state is None else state.model_dump(mode="json")


def stop_search(search_id: str) -> dict[str, Any] | None:
    """Ends a search and the trials that run; those that ended are kept. None where it is not known."""
    records = SearchRecords()
    state = records.state(search_id)
    if state is None:
        return None
    if not state.finished:
        records.ask_to_stop(search_id)
        _ensure_driven(search_id)
        stop_runs([trial.run_id for trial in state.trials if not trial.finished], "its search was stopped")
    return _known(search_id)


def _known(search_id: str) -> dict[str, Any]:
    state = get_search(search_id)
    if state is None:
        raise Permanent(f"there is no search {search_id!r}")
    return state


def _ensure_driven(search_id: str) -> None:
    ensure_driven(SearchActor, search_id if search_id.startswith("search-") else f"search-{search_id}", search_id)
