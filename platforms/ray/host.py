"""The parts of a host put together, and what it looks after by itself."""

import logging
import threading
from pathlib import Path
from typing import Any

from autonomic.platforms.host.converging import ServicesWorld
from autonomic.platforms.host.drift import watched
from autonomic.platforms.host.effects import HostEffects
from autonomic.platforms.host.host import BaseHost, described
from autonomic.platforms.host.intents import Intents
from autonomic.platforms.host.models import Models
from autonomic.platforms.host.notices import Notices
from autonomic.platforms.host.points import add_labels, look_up, points
from autonomic.platforms.host.reconcile import Reconciler
from autonomic.platforms.host.records import ReplicaRecord, ServiceRecord, WorkflowRecord
from autonomic.platforms.host.routes import FrontRoutes
from autonomic.platforms.host.services import Services
from autonomic.platforms.host.store import Store
from autonomic.platforms.ray.abilities import ABILITIES
from autonomic.platforms.ray.detectors import Detectors
from autonomic.platforms.ray.lasting import keep_package, restore_packages
from autonomic.platforms.ray.packages import package_folder
from autonomic.platforms.ray.runs import BatchRuns
from autonomic.platforms.ray.serve_apps import ServeApps
from autonomic.platforms.ray.settings import HostSettings
from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.workflows.serving.front import Front
from autonomic.workflows.serving.predictions import Label

_PROCESS_CHECK_SECONDS = 0.25
_SERVE_CHECK_EVERY = 8
_RECONCILE_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Host(BaseHost):
    """All that one host does, but for its HTTP interface. `node` is the id of the node that it runs on."""

    abilities = ABILITIES

    def __init__(
        self,
        settings: HostSettings,
        store: Store,
        apps: ServeApps,
        front: Front,
        detectors: Detectors,
        runs: BatchRuns,
        searches: Any,
        clock: Clock,
        node: str,
    ) -> None:
        self.settings = settings
        self.notices = Notices(store, clock)
        self.runs = runs
        self.searches = searches
        self._apps = apps
        self._front = front
        self._routes = FrontRoutes(front)
        self._detectors = detectors
        self._node = node
        self._models = Models(settings.folder / "models", settings.mlflow_url)
        self.services = Services(store, apps, self._routes, self._models, clock, self.notices.tell, self._server_config)
        self.intents = Intents(store, HostEffects(self.services, runs, self.predictions, ABILITIES), clock)
        self._world = ServicesWorld(self.services, self.intents, apps.running)
        self._reconciler = Reconciler(self._world, clock, self.notices.tell)
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True, name="keeper")
        self._converger = threading.Thread(target=self._converge, daemon=True, name="converger")

    def start(self) -> None:
        """Puts the front right, settles what was left open, and begins to look after replicas."""
        self._front.start()
        # those of an earlier cluster are no node's of this one
        self._lose_replicas_of_other_clusters()
        self._lose_dead_processes()
        self.services.route_all()
        self._keeper.start()
        self._converger.start()

    def _lose_replicas_of_other_clusters(self) -> None:
        import ray

        nodes = {node["NodeID"] for node in ray.nodes()}
        for replica, *_ in self.services.all_registered():
            if replica.node not in nodes:
                self.services.unregister(replica.id, "its cluster has ended")

    def _converge(self) -> None:
        restore_packages(self._packages)
        is_settled = False
        while True:
            try:
                if not is_settled:
                    # also brings Serve's client in, which takes a second; the first change need not wait for it
                    self._apps.states()
                    self.intents.recover()
                    self.runs.resume()
                    self.searches.resume()
                    is_settled = True
                self._reconciler.turn()
            except (Retryable, Permanent) as error:
                _log.warning("making what runs as it is declared: %s", error)
            except Exception:  # noqa: BLE001 - one bad turn must not end it for all
                _log.exception("making what runs as it is declared failed; it is tried again")
            if self._stopping.wait(_RECONCILE_SECONDS):
                return

    def differs(self, target: str) -> tuple[str, ...]:
        missing = (self._reconciler.missing,) if self._reconciler.missing else ()
        return (*missing, *map(str, self._reconciler.standing(target)), *self._world.lacking(target))

    def close(self) -> None:
        """Ends all that the host started: applications, detectors, the front. What the store holds stays."""
        self._stopping.set()
        self._keeper.join()
        self._converger.join()
        self._detectors.keep({}, self.predictions)
        self.runs.leave()
        self._apps.delete(
            [
                entry.app
                for workflow in self.services.workflows().values()
                for record in workflow.services.values()
                for entry in record.roles.values()
            ]
        )
        self._front.stop()

    # -- the prediction log

    def predictions(self, workflow: str, service: str) -> Path:
        """The prediction log of a service."""
        return self.settings.folder / "predictions" / f"{workflow}--{service}.db"

    def drift(self, workflow: str, service: str) -> dict[str, Any] | None:
        """What the service's drift detector said last, None where there is no such service."""
        record = self.services.record(workflow, service)
        return None if record is None else self._detectors.values(workflow, record, self.predictions(workflow, service))

    def points(self, workflow: str, service: str, state: str) -> list[dict[str, Any]] | None:
        """The critical points of a service, None where there is no such service."""
        if self.services.record(workflow, service) is None:
            return None
        return points(self.predictions(workflow, service), state)

    def look_up(self, workflow: str, service: str, ids: list[str], inputs: bool) -> dict[str, list[dict[str, Any]]] | None:
        """Those of the prediction ids that are known, with their inputs if asked; None where there is no such service."""
        if self.services.record(workflow, service) is None:
            return None
        return look_up(self.predictions(workflow, service), ids, inputs)

    def labels(self, workflow: str, service: str, labels: list[Label]) -> dict[str, Any] | None:
        """Joins labels to predictions, None where there is no such service."""
        if self.services.record(workflow, service) is None:
            return None
        return add_labels(self.predictions(workflow, service), labels)

    def add_package(self, content: bytes) -> str:
        """Keeps user code in the cluster and returns its digest."""
        return keep_package(content, self._packages)

    def _server_config(self, workflow: str, deployed: WorkflowRecord, record: ServiceRecord, role: str) -> dict[str, Any]:
        spec, model = record.spec, record.roles[role].model
        return {
            "class": self.settings.server,
            "drain_seconds": spec.timeout,
            "server": {
                **described(workflow, record, role),
                "model_folder": str(self._models.fetch(model)),
                "address": self.settings.address,
                "token": self.settings.service_token if spec.token else "",
                "predictions": str(self.predictions(workflow, spec.name)) if spec.log else "",
                "python_path": list(self._code(deployed)),
            },
        }

    def _code(self, workflow: WorkflowRecord) -> tuple[str, ...]:
        return (str(package_folder(workflow.package, self._packages)),) if workflow.package else ()

    @property
    def _packages(self) -> Path:
        return self.settings.folder / "packages"

    # -- looking after replicas

    def _keep(self) -> None:
        turn = 0
        while not self._stopping.wait(_PROCESS_CHECK_SECONDS):
            turn += 1
            try:
                self._lose_dead_processes()
                if turn % _SERVE_CHECK_EVERY == 0:
                    self._lose_stopped_replicas()
                    self.report_restart("front", self._front.ensure())
                    self._watch_for_drift()
                    self.runs.tell_changes(self.notices.tell)
                    self.runs.keep_changes()
                    self.searches.keep_changes()
                    self.intents.forget_old()
            except (Retryable, Permanent) as error:
                _log.warning("looking after replicas: %s", error)
            except Exception:  # noqa: BLE001 - one bad turn must not end the watch over all services
                _log.exception("looking after replicas failed; it is tried again")

    def _lose_dead_processes(self) -> None:
        for replica, *_ in self.services.all_registered():
            if replica.node == self._node and not _alive(replica.pid):
                self.services.unregister(replica.id, "its process has ended")

    def _lose_stopped_replicas(self) -> None:
        # asked before the list is read: a replica that registers in between is not taken for one that has gone
        registered: list[ReplicaRecord] = [replica for replica, *_ in self.services.all_registered()]
        if not registered:
            return
        running = {replica for state in self._apps.states().values() for replica in state.replicas}
        for replica in registered:
            if replica.id not in running:
                self.services.unregister(replica.id, "Serve does not run it any more")

    def _watch_for_drift(self) -> None:
        wanted: dict[tuple[str, str], Any] = {}
        for name, workflow in self.services.workflows().items():
            for service, record in workflow.services.items():
                if record.spec.drift is None or not record.spec.log:
                    continue
                try:
                    champion = self._models.fetch(record.roles["champion"].model)
                    reference = self._models.fetch(record.spec.drift.reference) if record.spec.drift.reference else champion
                except (Retryable, Permanent) as error:
                    # the detectors of other services are looked after all the same
                    self._detectors.fail(name, service, str(error))
                    continue
                wanted[name, service] = (watched(record), (champion, reference), self._code(workflow))
        self._detectors.keep(wanted, self.predictions)


def _alive(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return fields.rpartition(")")[2].split()[0] not in ("Z", "X")
