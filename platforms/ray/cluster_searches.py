"""Searches over the parameters of a batch workflow on the Ray cluster that this process is connected to."""

from pathlib import Path
from typing import Any

from autonomic.platforms.ray.cluster_runs import stop_runs
from autonomic.platforms.ray.drivers import ensure_driver
from autonomic.platforms.ray.search_actor import SearchActor, cluster_searches
from autonomic.seams.clock import SystemClock
from autonomic.workflows.runs.search_records import SearchRequest


def start_search(search: dict[str, Any], *, tracking_uri: str, home: Path) -> dict[str, Any]:
    """Starts a search, unless one with its id was started before, and returns its state.

    `search` is as `SearchRequest.read` takes it. Each trial is a run of the workflow; its value is the output `metric` of
    the last steps. Where the workflow's own parameters lie in the space, the first trial is made with them (`default` is true).

    Raises:
        Permanent: it cannot be searched; says why.
    """
    state = cluster_searches().add(SearchRequest.read(search, tracking_uri, home), SystemClock().now())
    if not state.finished:
        _ensure_driven(state.id)
    return state.model_dump(mode="json")


def resume_searches() -> None:
    """Goes on with the searches that nobody drives, such as after a new start of the cluster."""
    records = cluster_searches()
    for search_id in records.ids():
        state = records.state(search_id)
        if state is not None and not state.finished:
            _ensure_driven(search_id)


def get_search(search_id: str) -> dict[str, Any] | None:
    """A search with its trials and the best so far, None where it is not known."""
    state = cluster_searches().state(search_id)
    return None if state is None else state.model_dump(mode="json")


def hold_search(search_id: str, why: str) -> bool:
    """No further trial of a search begins while there is a `why`; False where it is not known."""
    records = cluster_searches()
    if records.state(search_id) is None:
        return False
    records.hold(search_id, why)
    return True


def stop_search(search_id: str) -> dict[str, Any] | None:
    """Ends a search and the trials that run; those that ended are kept. None where it is not known."""
    records = cluster_searches()
    state = records.state(search_id)
    if state is None:
        return None
    if not state.finished:
        records.ask_to_stop(search_id)
        _ensure_driven(search_id)
        stop_runs([trial.run_id for trial in state.trials if not trial.finished], "its search was stopped")
    return get_search(search_id)


def _ensure_driven(search_id: str) -> None:
    ensure_driver(SearchActor, search_id if search_id.startswith("search-") else f"search-{search_id}", search_id)
