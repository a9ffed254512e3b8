"""The parts of the platform put together: the one writer of an installation, and what it looks after by itself."""

import logging
import threading
from pathlib import Path
from typing import Any

from autonomic.platforms.host.host import BaseHost, described
from autonomic.platforms.host.intents import Intents, Refused
from autonomic.platforms.host.models import Models
from autonomic.platforms.host.notices import Notices
from autonomic.platforms.host.points import add_labels, look_up, points
from autonomic.platforms.host.reconcile import Reconciler
from autonomic.platforms.host.records import ReplicaRecord, ServiceRecord, WorkflowRecord
from autonomic.platforms.host.services import Services
from autonomic.platforms.host.store import MemoryStore
from autonomic.platforms.kubernetes.abilities import ABILITIES
from autonomic.platforms.kubernetes.adopted.workloads import Adopted
from autonomic.platforms.kubernetes.effects import KubernetesEffects
from autonomic.platforms.kubernetes.events import Events
from autonomic.platforms.kubernetes.objects import manifests, names, pods
from autonomic.platforms.kubernetes.objects.api import DEPLOYMENTS, EVENTS, JOBS, PODS, SECRETS, Api
from autonomic.platforms.kubernetes.objects.in_pod import WORK
from autonomic.platforms.kubernetes.objects.packages import Packages
from autonomic.platforms.kubernetes.objects.store import ConfigMapStore
from autonomic.platforms.kubernetes.objects.watch import Object, Watch
from autonomic.platforms.kubernetes.patience import insist
from autonomic.platforms.kubernetes.services.apps import KubernetesApps, app_of, foreign_writer
from autonomic.platforms.kubernetes.services.converging import KubernetesWorld
from autonomic.platforms.kubernetes.services.detectors import KubernetesDetectors
from autonomic.platforms.kubernetes.services.exposure import ExposedRoutes
from autonomic.platforms.kubernetes.services.healing import Healing
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.platforms.kubernetes.steps.runs import KubernetesRuns
from autonomic.platforms.kubernetes.steps.searches import KubernetesSearches
from autonomic.platforms.kubernetes.view import ClusterView
from autonomic.seams.clock import Clock, SystemClock
from autonomic.seams.errors import AutonomicError, Permanent, Retryable
from autonomic.seams.state import State
from autonomic.workflows.runs.run_records import is_finished
from autonomic.workflows.serving.front import Front
from autonomic.workflows.serving.predictions import Label
from autonomic.workflows.spec.workflow import Service

_LOOK_SECONDS = 1.0
_CERTIFICATE_SECONDS = 300.0
_SYNC_SECONDS = 15.0
# whoever asks whether all is ready waits for at most three seconds
_TROUBLE_SECONDS = 2.0
_KEPT_NOTICES = 500
_KEPT_EPOCHS = 50
_log = logging.getLogger(__name__)


class KubernetesHost(BaseHost):
    """The one writer of an installation. `start` and `close` once each; what runs on the cluster goes on without it.

    Raises:
        Permanent: there are no credentials, or a right is missing.
        Retryable: the API server does not answer.
    """

    abilities = ABILITIES
    _routes: ExposedRoutes

    def __init__(self, settings: KubernetesSettings, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        settings.folder.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self._api = Api(settings, clock)
        try:
            self._make(settings, clock)
        except BaseException:
            self._api.close()
            raise

    def _make(self, settings: KubernetesSettings, clock: Clock) -> None:
        self._clock = clock
        self._renewed = clock.monotonic()
        self._store = ConfigMapStore(self._api, settings.installation)
        deployed = self._api.list(DEPLOYMENTS, names.selector(names.labels(settings.installation)))[0]
        self.notices = Notices(self._store, clock, _KEPT_NOTICES)
        self._events = Events(self._api, clock)
        self._models = Models(settings.folder / "models", settings.mlflow_url)
        self._packages = Packages(self._api, self._store, settings.installation, settings.folder / "packages")
        self._front = Front(settings.folder / "haproxy", settings.front_port, address=settings.front_address, public_url=settings.front_url)
        self._routes = ExposedRoutes(settings, self._api, self._store, self._front)
        mine = names.labels(settings.installation)
        self._pods = Watch(self._api, PODS, names.selector(mine), self._pod_changed)
        self._jobs = Watch(self._api, JOBS, names.selector(mine), self._job_changed)
        self._refusals = Watch(self._api, EVENTS, "", self._pod_refused, "reason=FailedCreate,involvedObject.kind=Job")
        self._deployments = Watch(self._api, DEPLOYMENTS, names.selector(mine), self._deployment_changed)
        self.view = ClusterView(self._api, clock, settings.installation, self._pods, self._jobs, self._deployments)
        apps = KubernetesApps(settings, self._api, self._store, self._deployments, self._pods, lambda: self.intents.epoch, clock)
        # pods are their own record: those that are ready now were registered already
        ready = MemoryStore()
        for pod in self._api.list(PODS, names.selector(mine, f"{names.PREFIX}/app"))[0]:
            if pods.is_ready(pod):
                ready.put(f"replica/{pod['metadata']['name']}", replica_of(pod).model_dump(mode="json"))
        self.services = Services(
            self._store,
            apps,
            self._routes,
            self._models,
            clock,
            self.notices.tell,
            self._server_config,
            settings.ready_seconds,
            ready,
            mounts_volumes=True,
        )
        self.runs = KubernetesRuns(settings, self._api, self._store, self._packages, self._pods, self._events, clock, self._run_changed)
        self.searches = KubernetesSearches(settings, self._store, self.runs, clock)
        self._detectors = KubernetesDetectors(settings, apps, self._packages, self._deployments, self.predictions, clock)
        self.adopted = Adopted(self._api, self._store, self.notices.tell, self._events)
        effects = KubernetesEffects(
            self.services, self.runs, self.adopted, self._shared_predictions, settings.data_path, self._routes, self._tell_done
        )
        # the memory may have been lost while nobody looked; what runs says who wrote it
        written = (each["metadata"].get("annotations", {}).get(manifests.EPOCH, 0) for each in deployed)
        self._store.raise_epoch(max(map(int, written), default=0))
        self.intents = Intents(self._store, effects, clock)
        self._store.epoch = self.intents.epoch
        self._healing = Healing(
            settings, self._api, clock, self._store, self._packages, apps, self._routes, self._packages_in_use, self._apps_in_service
        )
        self._world = KubernetesWorld(self.services, apps, self.intents)
        self._reconciler = Reconciler(self._world, clock, self._report_drift)
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True, name="keeper")
        self._converger = threading.Thread(target=self._converge, daemon=True, name="converger")

    def start(self) -> None:
        """Puts the front right, settles what was left open, goes on with runs, and begins to watch."""
        for secret in manifests.secrets(self.settings):
            self._api.apply(SECRETS, secret)
        self._events.start()
        self._front.start()
        watches = (self._pods, self._jobs, self._deployments)
        for watch in watches:
            watch.start()
        for watch in watches:
            if not watch.wait(_SYNC_SECONDS):
                if watch.refused:
                    raise Permanent(watch.away)
                raise Retryable(f"The cluster could not be listed within {_SYNC_SECONDS:g} s: {watch.away}")
        for replica, *_ in self.services.all_registered():
            if self._pods.get(replica.id) is None:
                self.services.unregister(replica.id, "its pod is gone")
        # what became of certificates while nobody looked
        self._routes.renew(self._declared())
        self.services.route_all()
        self.runs.resume()
        self._refusals.start()
        self._healing.start()
        self.searches.resume()
        self._keeper.start()
        self._converger.start()

    def close(self) -> None:
        """Ends the threads of this process. The front, the replicas and the steps go on."""
        self._stopping.set()
        self.searches.close()
        self.runs.close()
        self.view.close()
        for watch in (self._pods, self._jobs, self._deployments, self._refusals, self._healing):
            watch.close()
        for thread in (self._keeper, self._converger):
            if thread.is_alive():
                thread.join(10)
        self._events.close()
        self._api.close()

    @property
    def lost(self) -> str:
        """Why this writer may not write any more, "" while it may."""
        return self._store.lost

    def stop_front(self) -> None:
        """Ends the front: services do not answer until the next start."""
        self._front.stop()

    def cluster(self, target: str, parts: list[str]) -> dict[str, Any] | None:
        """See `ClusterView.state`; None where there is no such target."""
        if self.adopted.observe(target, 0) is not None:
            # its pods have not our labels, and are not watched
            why = f"{target} is adopted, and the signal platform says of it what is known: ready_replicas and wanted_replicas"
            return {part: {"missing": why} for part in parts}
        return None if self.observe(target).kind == "absent" else self.view.state(target, parts)

    def news(self, source: str) -> dict[str, Any]:
        """See `ClusterView.news`."""
        return self.view.news(source)

    # -- the prediction log and code

    def predictions(self, workflow: str, service: str) -> Path:
        """The prediction log of a service, where pods and this process share a folder."""
        return Path(self.settings.data_path or WORK) / "predictions" / f"{workflow}--{service}.db"

    def _shared_predictions(self, workflow: str, service: str) -> Path:
        if not self.settings.data_path:
            raise Refused(f"The predictions of {workflow}/{service} are in no folder that steps can read; data_path names none")
        return self.predictions(workflow, service)

    def drift(self, workflow: str, service: str) -> dict[str, Any] | None:
        """What the service's drift detector said last, None where there is no such service."""
        deployed, record = self.services.workflows().get(workflow), self.services.record(workflow, service)
        if deployed is None or record is None:
            return None
        return self._detectors.values(workflow, record, deployed.package)

    def points(self, workflow: str, service: str, state: str) -> list[dict[str, Any]] | None:
        """The points that were picked, None where there is no such service."""
        if self.services.record(workflow, service) is None:
            return None
        return points(self.predictions(workflow, service), state) if self.settings.data_path else []

    def look_up(self, workflow: str, service: str, ids: list[str], inputs: bool) -> dict[str, list[dict[str, Any]]] | None:
        """Those of the prediction ids that are known, with their inputs if asked; None where there is no such service."""
        if self.services.record(workflow, service) is None:
            return None
        return look_up(self.predictions(workflow, service), ids, inputs) if self.settings.data_path else {}

    def labels(self, workflow: str, service: str, labels: list[Label]) -> dict[str, Any] | None:
        """Joins labels to predictions, None where there is no such service."""
        if self.services.record(workflow, service) is None:
            return None
        if not self.settings.data_path:
            raise Permanent("There is no prediction log: data_path names no folder that this process shares with the pods")
        return add_labels(self.predictions(workflow, service), labels)

    def add_package(self, content: bytes) -> str:
        """Keeps user code in the cluster and returns its digest."""
        return self._packages.add(content)

    def _server_config(self, workflow: str, deployed: WorkflowRecord, record: ServiceRecord, role: str) -> dict[str, Any]:
        spec, package = record.spec, deployed.package
        logs = spec.log and bool(self.settings.data_path)
        return {
            "class": self.settings.server,
            "drain_seconds": spec.timeout,
            "ask_for_token": spec.token,
            "package": package,
            "package_parts": self._packages.parts(package) if package else 0,
            "server": {
                **described(workflow, record, role),
                "predictions": str(self.predictions(workflow, spec.name)) if logs else "",
            },
        }

    def observe(self, target: str) -> State:
        """See `seams.platform.Platform.observe`; of a step it tells what its next attempt gets, and where it may run.

        Adopted workloads are asked of the API server.
        """
        adopted = self.adopted.observe(target, self.intents.revision(target))
        if adopted is not None:
            return adopted
        state = super().observe(target)
        name, _, step = target.partition("/")
        return state.model_copy(update={"spec": self.runs.variations.of(name, step)}) if state.kind == "batch" else state

    # -- what is heard of the cluster

    def _pod_changed(self, before: Object | None, now: Object | None) -> None:
        self.view.pod_changed(now)
        if self.lost:
            # the front and the runs are another writer's now
            return
        self.runs.pod_changed(before, now)
        pod = now or before
        if pod is None or not app_of(pod):
            return
        if now is not None and pods.is_ready(now):
            self.services.register(replica_of(now))
        elif before is not None:
            gone = now is None or now["metadata"].get("deletionTimestamp")
            self.services.unregister(pod["metadata"]["name"], "its pod goes" if gone else "its pod is not ready")

    def _job_changed(self, before: Object | None, now: Object | None) -> None:
        self.view.job_changed(now)
        self.runs.job_changed(before, now)

    def _pod_refused(self, _: Object | None, now: Object | None) -> None:
        if now is not None:
            self.runs.pod_refused(now)

    def _deployment_changed(self, before: Object | None, now: Object | None) -> None:
        if before is None or now is None or before["spec"].get("replicas") == now["spec"].get("replicas"):
            return
        other = foreign_writer(now)
        if other:
            own = now["metadata"]["labels"]
            data = {"app": app_of(now), "writer": other, "replicas": now["spec"].get("replicas")}
            self.notices.tell("outside_write", f"{own.get(f'{names.PREFIX}/workflow')}/{own.get(f'{names.PREFIX}/service')}", data)

    def _tell_done(self, app: str, key: str, reason: str, message: str) -> None:
        self._events.tell(self._api.get(DEPLOYMENTS, names.dns_name(app)), key, reason, message)

    def _run_changed(self, kind: str, target: str, data: dict[str, Any]) -> None:
        self._tell_patiently(kind, target, data)
        self.searches.run_changed()

    def _tell_patiently(self, kind: str, target: str, data: dict[str, Any]) -> None:
        insist(lambda: self.notices.tell(kind, target, data), self._stopping)

    # -- looking after itself

    def _converge(self) -> None:
        try:
            self.intents.recover()
            for key in self._store.keys("epoch/")[:-_KEPT_EPOCHS]:
                self._store.delete(key)
        except AutonomicError as away:
            # what is open is settled before the next change of its workflow
            _log.warning("settling what was left open: %s", away)
        while not self.lost:
            try:
                self._reconciler.turn()
            except AutonomicError as away:
                _log.warning("making what runs as it is declared: %s", away)
            except Exception:  # noqa: BLE001 - one bad turn must not end it for all
                _log.exception("making what runs as it is declared failed; it is tried again")
            if self._stopping.wait(_LOOK_SECONDS):
                return

    def _report_drift(self, kind: str, target: str, data: dict[str, Any]) -> None:
        self.notices.tell(kind, target, data)
        deployment = self._api.get(DEPLOYMENTS, names.dns_name(data["name"]))
        if kind == "converged":
            words = f"{data['desired']} again"
        else:
            why = "; ".join(filter(None, [data["why"], data["error"]]))
            words = f"{data['desired']} declared, found {data['actual']}{f': {why}' if why else ''}"
        self._events.tell(deployment, f"{kind}-{self._clock.now():.3f}", kind.capitalize(), words, good=kind == "converged")

    def missing(self) -> tuple[str, ...]:
        """See `BaseHost.missing`: the API server is asked, and a watch that was cut off tells why."""
        away = (watch.missing for watch in (self._pods, self._jobs, self._deployments))
        lacking = dict.fromkeys(filter(None, (self.lost, self._api.trouble(_TROUBLE_SECONDS) or next(filter(None, away), ""))))
        return tuple(lacking)

    def differs(self, target: str) -> tuple[str, ...]:
        missing = (self._reconciler.missing,) if self._reconciler.missing else ()
        return (*missing, *map(str, self._reconciler.standing(target)), *self._world.lacking(target))

    def _keep(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            for what, look in (
                ("the front", lambda: self.report_restart("front", self._front.ensure())),
                ("the certificates", self._renew_certificates),
                ("what was deleted by hand", self._heal),
                ("the drift detectors", self._watch_for_drift),
                ("steps that wait for a quota", self._try_again),
                ("the progress of steps", self.runs.hear_progress),
                ("old outcomes", self._forget),
            ):
                try:
                    look()
                except (Retryable, Permanent) as error:
                    _log.warning("looking after %s: %s", what, error)
                except Exception:  # noqa: BLE001 - one bad turn must not end the watch over all that runs
                    _log.exception("looking after %s failed; it is tried again", what)

    def _heal(self) -> None:
        if not self.lost and self._healing.look():
            self.services.route_all()

    def _packages_in_use(self) -> set[str]:
        running = (self.runs.records.request(run.id) for run in self.runs.list() if not is_finished(run))
        found = {request.package for request in running if request is not None}
        return (found | {workflow.package for workflow in self.services.workflows().values()}) - {""}

    def _apps_in_service(self) -> list[str]:
        services = (record for workflow in self.services.workflows().values() for record in workflow.services.values())
        return [entry.app for record in services for entry in record.roles.values()]

    def _watch_for_drift(self) -> None:
        if self.lost or not self.settings.data_path:
            return
        self._detectors.keep(
            {
                (name, service): (record, workflow.package)
                for name, workflow in self.services.workflows().items()
                for service, record in workflow.services.items()
                if record.spec.drift and record.spec.log
            }
        )

    def _try_again(self) -> None:
        if not self.lost:
            self.runs.try_again()

    def _forget(self) -> None:
        if not self.lost:
            self.intents.forget_old()

    def _renew_certificates(self) -> None:
        if self.lost or self._clock.monotonic() - self._renewed < _CERTIFICATE_SECONDS:
            return
        self._renewed = self._clock.monotonic()
        self._routes.renew(self._declared())
        self.services.route_all()

    def _declared(self) -> dict[tuple[str, str], Service]:
        deployed = self.services.workflows().items()
        return {(name, service): record.spec for name, workflow in deployed for service, record in workflow.services.items()}


def replica_of(pod: Object) -> ReplicaRecord:
    """A ready pod as a replica. Pure."""
    meta = pod["metadata"]
    return ReplicaRecord(
        id=meta["name"],
        app=app_of(pod),
        host=pod["status"]["podIP"],
        port=manifests.PORT,
        pid=0,
        node=pod["spec"].get("nodeName", ""),
        started_at=pods.created_at(pod),
    )
