"""The platform within one process: `seams.platform.Platform` over the writer of an installation."""

from collections.abc import Sequence
from typing import Any

from autonomic.platforms.kubernetes.host import KubernetesHost
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.platform import Notice
from autonomic.seams.state import RunState, State
from autonomic.workflows.serving.predictions import Label


class KubernetesPlatform:
    """Workflows on a Kubernetes cluster. May be used by several threads at once.

    Making it takes the installation over from any writer before it, whose writes are refused from then on.

    Raises:
        Permanent: there are no credentials, or a right is missing.
        Retryable: the API server does not answer.
    """

    def __init__(self, settings: KubernetesSettings, clock: Clock | None = None) -> None:
        self.host = KubernetesHost(settings, clock)
        try:
            self.host.start()
        except BaseException:
            self.host.close()
            raise

    def close(self) -> None:
        """Ends the threads; what runs on the cluster, and the front, go on."""
        self.host.close()

    # -- seams.platform.Platform

    def apply(self, change: Change, fence: int) -> Outcome:
        """Carries out a change; a deploy or an upgrade returns when its replicas are in service."""
        return self.host.intents.apply(change, fence)

    def lookup(self, key: str) -> Outcome | None:
        return self.host.intents.lookup(key)

    def capabilities(self) -> frozenset[str]:
        return self.host.capabilities()

    def observe(self, target: str) -> State:
        return self.host.observe(target)

    def runs(self, workflow: str | None = None) -> list[RunState]:
        """All runs known, or those of one workflow, the newest first."""
        return self.host.runs.list(workflow)

    def watch(self, cursor: int) -> list[Notice]:
        return self.host.notices.watch(cursor)

    # -- beyond the protocol, as the client of the host's HTTP interface has it

    def run(self, run_id: str) -> RunState | None:
        """A run by its id."""
        return self.host.runs.get(run_id)

    def log(self, run_id: str, step: str, tail: int | None = None, attempt: int | None = None) -> str | None:
        """What a step's attempts (or one) printed, or the last `tail` lines; None where there is no such step or attempt."""
        return self.host.runs.log(run_id, step, tail, attempt)

    def add_package(self, content: bytes) -> str:
        """Hands user code (a zip file) to the cluster and returns its digest."""
        return self.host.add_package(content)

    def urls(self) -> dict[str, str]:
        """Where requests for each service (`workflow/service`) are sent."""
        return self.host.urls()

    def scrape_targets(self) -> list[dict[str, Any]]:
        """The replicas as Prometheus' http_sd wants them: `{targets, labels}`."""
        return self.host.scrape_targets()

    def drift(self, workflow: str, service: str) -> dict[str, Any] | None:
        """`{"time": …, "values": {name: number}}` of a service's drift detector; None where there is no such service."""
        return self.host.drift(workflow, service)

    def points(self, workflow: str, service: str, state: str = "all") -> list[dict[str, Any]]:
        """The critical points that were picked: `unlabelled`, `labelled` or `all`."""
        return self.host.points(workflow, service, state) or []

    def look_up(self, workflow: str, service: str, ids: Sequence[str], inputs: bool = False) -> dict[str, list[dict[str, Any]]]:
        """Those of the prediction ids that the service's log has; with `inputs` each with its tensors."""
        return self.host.look_up(workflow, service, list(ids), inputs) or {}

    def add_labels(self, workflow: str, service: str, labels: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Joins true labels `{prediction_id, label, time}` to predictions; late and out of order is allowed."""
        counts = self.host.labels(workflow, service, [Label(**label) for label in labels])
        if counts is None:
            raise Permanent(f"There is no service {workflow}/{service} on this platform")
        return counts

    # -- searches

    def start_search(self, search: dict[str, Any]) -> dict[str, Any]:
        """Starts a search over a workflow's parameters, unless one with its id was started before."""
        return self.host.searches.start(search)

    def search(self, search_id: str) -> dict[str, Any] | None:
        """A search and its trials."""
        return self.host.searches.get(search_id)

    def stop_search(self, search_id: str) -> dict[str, Any]:
        """Ends a search; trials that ended are kept."""
        stopped = self.host.searches.stop(search_id)
        if stopped is None:
            raise Permanent(f"There is no search {search_id} on this platform")
        return stopped
