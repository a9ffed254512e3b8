"""Searches over a workflow's parameters, as the host hands them on."""

from typing import Any

from autonomic.workflows.batch import ray_searches
from autonomic.workflows.platforms.ray.settings import HostSettings


class BatchSearches:
    """The searches of the cluster that this process is connected to."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    def start(self, search: dict[str, Any]) -> dict[str, Any]:
        """Starts a search unless one with its id was started before."""
        return ray_searches.start_search(search, tracking_uri=self._settings.mlflow_url, home=self._settings.folder)

    def get(self, search_id: str) -> dict[str, Any] | None:
        """A search and its trials, None where it is not known."""
        return ray_searches.get_search(search_id)

    def stop(self, search_id: str) -> dict[str, Any] | None:
        """Ends a search, None where it is not known."""
        return ray_searches.stop_search(search_id)
