"""What runs the replicas of one role: an application, named after the change that made it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from autonomic.seams.word import Word
from autonomic.workflows.spec.placement import Placement, Volume
from autonomic.workflows.spec.workflow import Resources

FAILED = frozenset({"DEPLOY_FAILED", "UNHEALTHY"})
"""States of an application that does not come up by itself."""
FAILED_FOR_GOOD = frozenset({"DEPLOY_FAILED"})
"""Of these, those in which nobody tries any more: it has to be made anew."""


class AppState(Word):
    """What the platform says of an application; `replicas` are the ids of those that it runs or starts.

    `scaled_by` is who else set `target`, "" where nobody did or the platform does not know.
    """

    status: str
    message: str = ""
    target: int = 0
    replicas: tuple[str, ...] = ()
    scaled_by: str = ""


class AppSpec(Word):
    """What an application runs: `server` is the configuration that each replica gets, `override` where it was rescheduled to."""

    server: dict[str, Any]
    resources: Resources = Resources(cpu=0.0)
    placement: Placement = Placement()
    volumes: tuple[Volume, ...] = ()
    drain_seconds: float = 30.0
    override: dict[str, Any] = {}


class Apps(Protocol):
    """The applications of one cluster."""

    def create(self, name: str, spec: AppSpec, replicas: int) -> None:
        """Starts an application; one that is there keeps running and gets `replicas`, one that has failed for good is made anew."""
        ...

    def scale(self, name: str, replicas: int) -> None:
        """Sets how many replicas there shall be; running ones are not restarted."""
        ...

    def vary(self, replicas: Mapping[str, int], variation: dict[str, Any]) -> None:
        """Gives every replica of these applications (by name, how many) `{resources, placement}`; those that serve are never fewer.

        Raises:
            Permanent: this cannot be had here; the applications are as they were.
        """
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Stops applications, each replica after it was drained; unknown names are passed over."""
        ...

    def state(self, name: str) -> AppState | None:
        """An application as it is now, None where there is none."""
        ...
