"""Searches over a workflow's parameters, as the host hands them on."""

from typing import Any

from autonomic.platforms.host.store import Store
from autonomic.platforms.ray import cluster_searches
from autonomic.platforms.ray.cluster_store import ClusterStore
from autonomic.platforms.ray.lasting import lasting_searches
from autonomic.platforms.ray.search_actor import SEARCHES
from autonomic.platforms.ray.settings import HostSettings
from autonomic.seams.clock import Clock


class BatchSearches:
    """The searches of the cluster that this process is connected to; `store` keeps them beyond its end."""

    def __init__(self, settings: HostSettings, store: Store, clock: Clock) -> None:
        self._settings = settings
        self._lasting = lasting_searches(ClusterStore(SEARCHES), store, clock)
        self._lasting.restore()

    def resume(self) -> None:
        """Goes on with those that nobody drives."""
        cluster_searches.resume_searches()

    def keep_changes(self) -> None:
        """Keeps what has changed."""
        self._lasting.keep_changes()

    def start(self, search: dict[str, Any]) -> dict[str, Any]:
        """Starts a search unless one with its id was started before."""
        started = cluster_searches.start_search(search, tracking_uri=self._settings.mlflow_url, home=self._settings.folder)
        self._lasting.keep(started["id"])
        return started

    def get(self, search_id: str) -> dict[str, Any] | None:
        """A search and its trials, None where it is not known."""
        return cluster_searches.get_search(search_id)

    def hold(self, search_id: str, why: str) -> bool:
        """No further trial of a search begins while there is a `why`; False where it is not known."""
        return cluster_searches.hold_search(search_id, why)

    def stop(self, search_id: str) -> dict[str, Any] | None:
        """Ends a search, None where it is not known."""
        stopped = cluster_searches.stop_search(search_id)
        if stopped is not None:
            self._lasting.keep(search_id)
        return stopped
