"""The runs of batch workflows: a thread drives each, a Job runs each attempt of a step, the pods tell what became of it."""

import contextlib
import logging
import threading
from pathlib import Path
from typing import Any

from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.state import RunState
from autonomic.workflows.batch.launcher import Attempt
from autonomic.workflows.batch.packages import code_tags
from autonomic.workflows.batch.run_driver import RunDriver
from autonomic.workflows.batch.run_records import RunRecords, RunRequest, is_finished
from autonomic.workflows.batch.step_main import failed
from autonomic.workflows.platforms.base.services import Tell
from autonomic.workflows.platforms.kubernetes import manifests, names, pods, step
from autonomic.workflows.platforms.kubernetes.api import JOBS, PODS, Api, Conflict
from autonomic.workflows.platforms.kubernetes.packages import Packages
from autonomic.workflows.platforms.kubernetes.patience import PatientStore, insist
from autonomic.workflows.platforms.kubernetes.progress import Progress
from autonomic.workflows.platforms.kubernetes.settings import KubernetesSettings
from autonomic.workflows.platforms.kubernetes.step_variations import StepVariations
from autonomic.workflows.platforms.kubernetes.store import ConfigMapStore, Lost
from autonomic.workflows.platforms.kubernetes.variation import varied_pod
from autonomic.workflows.platforms.kubernetes.watch import Watch
from autonomic.workflows.spec.workflow import BatchSpec, Step

_STOP_SECONDS = 30.0
# a container runtime cuts lines into parts of 16 KiB, which count as lines
_RESULT_LINES = 20
_log = logging.getLogger(__name__)


class TellingRecords(RunRecords):
    """Records that tell when a run begins and ends."""

    def __init__(self, store: PatientStore, tell: Tell) -> None:
        super().__init__(store)
        self._tell = tell

    def put_state(self, run: RunState) -> None:
        before = self.state(run.id)
        super().put_state(run)
        if before is None or before.status != run.status:
            self._tell(f"run_{run.status}", run.workflow, {"run_id": run.id, "status": run.status, "detail": run.detail})


class _Run:
    """One run that is driven here, and what carries its orders out: see `run_driver.Executor`."""

    def __init__(self, runs: "KubernetesRuns", request: RunRequest, run: RunState) -> None:
        self._runs = runs
        self._request = request
        self.ended = threading.Event()
        self.driver = RunDriver(
            runs.records,
            request,
            run,
            runs.clock,
            self,
            code_tags=code_tags(request.package, lambda digest: runs.packages.folder(digest, runs.settings.folder / "packages")),
            send_artifact=_sent_by_the_step,
        )
        self.thread = threading.Thread(target=self._drive, daemon=True, name=f"run-{request.run_id}")
        self.thread.start()

    def _drive(self) -> None:
        # a younger writer has the run: it is driven there
        with contextlib.suppress(Lost), contextlib.closing(self.driver):
            try:
                if not self.driver.drive():
                    return
            except Permanent as refused:
                _log.error("the run %s cannot be driven: %s", self._request.run_id, refused)
                return
            self._runs.left(self._request.run_id)
            self.ended.set()
            self.driver.finish()

    def launch(self, step: Step, attempt: Attempt) -> str:
        return insist(lambda: self._runs.launch(self._request, step, attempt), self._runs.stopping)

    def kill(self, step: str, attempt: int) -> None:
        name = manifests.job_name(self._request.run_id, step, attempt)
        insist(lambda: self._runs.api.delete(JOBS, name), self._runs.stopping)


class KubernetesRuns:
    """The runs of one installation; see `base.effects.Runs`. `heard` is to be called by the watches of pods and Jobs."""

    def __init__(
        self, settings: KubernetesSettings, api: Api, store: ConfigMapStore, packages: Packages, of_pods: Watch, clock: Clock, tell: Tell
    ) -> None:
        self.settings = settings
        self.api = api
        self.packages = packages
        self.clock = clock
        self.stopping = threading.Event()
        self._store = store
        self.records = TellingRecords(PatientStore(store, self.stopping), tell)
        self.variations = StepVariations(store, self.records)
        self._pods = of_pods
        self._progress = Progress(settings.data_path)
        self._lock = threading.Lock()
        self._driven: dict[str, _Run] = {}

    def resume(self) -> None:
        """Goes on with every run that has not ended."""
        for run in self.records.runs():
            if not is_finished(run):
                self._drive(run.id)

    def close(self) -> None:
        """Leaves the runs as they are; their steps go on."""
        self.stopping.set()
        with self._lock:
            driven = list(self._driven.values())
        for run in driven:
            run.driver.hear("leave")
        for run in driven:
            run.thread.join(10)

    # -- changes

    def start(self, to: dict[str, Any]) -> None:
        """Starts a run unless one with this id was started before.

        Raises:
            Permanent: it cannot be run.
        """
        fields = {name: to[name] for name in ("run_id", "parameters", "package", "cause", "parent") if name in to}
        home = Path(self.settings.data_path or manifests.WORK)
        try:
            request = RunRequest.model_validate({**fields, "workflow": to["spec"], "tracking_uri": self.settings.mlflow_url, "home": home})
        except ValueError as invalid:
            raise Permanent(f"The run {to.get('run_id')} cannot be started: {invalid}") from invalid
        if not isinstance(request.workflow.spec, BatchSpec):
            raise Permanent(f"{request.workflow.name} is an online workflow; only batch workflows are run")
        for one in request.batch.steps:
            manifests.resources(one.resources.cpu, one.resources.memory, one.resources.gpu)
        if request.package:
            self.packages.parts(request.package)
        is_new = self.records.add(request)
        self._drive(request.run_id)
        for old in self.records.too_many() if is_new else ():
            # what the run made on the cluster goes with its record
            self.records.forget(old.run_id)

    def stop(self, run_ids: list[str], why: str = "stopped on request") -> None:
        """Stops runs; those that have ended stay as they are.

        Raises:
            Retryable: a run did not stop within 30 s.
        """
        for run_id in run_ids:
            run = self._drive(run_id)
            if run is None:
                continue
            run.driver.hear("stop", data={"why": why})
            if not run.ended.wait(_STOP_SECONDS):
                raise Retryable(f"the run {run_id} did not stop within {_STOP_SECONDS:g} s; it is asked again")

    def _drive(self, run_id: str) -> _Run | None:
        with self._lock:
            request, run = self.records.request(run_id), self.records.state(run_id)
            if request is None or run is None or is_finished(run):
                return None
            driven = self._driven.get(run_id)
            if driven is None or not driven.thread.is_alive():
                driven = self._driven[run_id] = _Run(self, request, run)
            return driven

    def left(self, run_id: str) -> None:
        """A run has ended."""
        with self._lock:
            self._driven.pop(run_id, None)

    # -- questions

    def list(self, workflow: str | None = None) -> list[RunState]:
        """All runs (of one workflow), the newest first."""
        return self.records.runs(workflow)

    def get(self, run_id: str) -> RunState | None:
        """A run, None where it is not known."""
        return self.records.state(run_id)

    def log(self, run_id: str, step_name: str, tail: int | None) -> str | None:
        """What a step's newest attempt has printed, or its last `tail` lines; None where there is no such run or step."""
        run = self.records.state(run_id)
        if run is None or step_name not in run.steps:
            return None
        place = self.records.place(run_id, step_name)
        text = self.api.log(place["pod"]) if place else None
        text = step.without_result(text or "")
        return "".join(text.splitlines(keepends=True)[-tail:]) if tail else text

    # -- steps

    def launch(self, request: RunRequest, wanted: Step, attempt: Attempt) -> str:
        """Makes the Job of an attempt, unless it is there; what its pod says already is heard."""
        try:
            parts = self.packages.parts(request.package) if request.package else 0
            owner = self._store.owner(f"request/{request.run_id}")
            sized, placement = self.variations.varied(request.workflow.name, wanted)
            job = manifests.job(self.settings, sized, attempt, request.package, parts, owner)
            template = job["spec"]["template"]
            template["spec"] = varied_pod(template["spec"], {"placement": placement}, self.settings.installation, {})
            self.api.create(JOBS, job)
        except Conflict:
            # made before a restart, or by a request whose answer was lost: it may have ended meanwhile
            for pod in self._pods.all().values():
                if _whose(pod) == (attempt.run_id, attempt.step, attempt.attempt):
                    self.pod_changed(None, pod)
            there = self.api.get(JOBS, manifests.job_name(attempt.run_id, attempt.step, attempt.attempt))
            if there is not None:
                self.job_changed(None, there)
        except Permanent as refused:
            self._hear(attempt.run_id, "ended", attempt.step, attempt.attempt, failed(str(refused), retry=False))
        return ""

    def hear_progress(self) -> None:
        """Reads how far the running steps are, where pods and this process share a folder."""
        if not self.settings.data_path:
            return
        with self._lock:
            driven = list(self._driven)
        states = [run for run_id in driven if (run := self.records.state(run_id)) is not None]
        running = [(run.id, each.name, each.attempt) for run in states for each in run.steps.values() if each.status == "running"]
        for (run_id, name, attempt), notes in self._progress.read(running):
            self._hear(run_id, "notes", name, attempt, {"notes": notes})

    def pod_changed(self, before: dict[str, Any] | None, now: dict[str, Any] | None) -> None:
        """A pod of a step came, changed or went."""
        run_id, step_name, attempt = _whose(now or before or {})
        if not run_id:
            return
        if now is None:
            self._hear(run_id, "ended", step_name, attempt, failed("its pod was deleted"))
            return
        report = pods.step_report(now)
        if report is not None and (before is None or report != pods.step_report(before)):
            self._report(now, *report)

    def job_changed(self, before: dict[str, Any] | None, now: dict[str, Any] | None) -> None:
        """A Job came, changed or went; what matters is one that has ended of which no pod has told."""
        condition = _ended(now) if now else None
        if now is None or condition is None or (before is not None and _ended(before) is not None):
            return
        run_id, step_name, attempt = _whose(now)
        with self._lock:
            if run_id not in self._driven:
                return
        chosen = names.selector({"batch.kubernetes.io/job-name": now["metadata"]["name"]})
        for pod in self.api.list(PODS, chosen)[0]:
            report = pods.step_report(pod)
            if report is not None and report[0] == "ended":
                self._report(pod, *report)
                return
        self._hear(run_id, "ended", step_name, attempt, failed(f"{condition.get('reason')}: {condition.get('message')}"))

    def pod_refused(self, event: dict[str, Any]) -> None:
        """A Kubernetes event says that no pod can be made for a Job, as where a quota is used up: its step waits, and says why."""
        job = self.api.get(JOBS, event["involvedObject"]["name"])
        if job is not None and _ended(job) is None and not job.get("status", {}).get("active"):
            run_id, step_name, attempt = _whose(job)
            self._hear(run_id, "waiting", step_name, attempt, {"why": f"its pod cannot be made: {event.get('message', '')}"})

    def _report(self, pod: dict[str, Any], kind: str, data: dict[str, Any]) -> None:
        run_id, step_name, attempt = _whose(pod)
        if kind == "ended":
            # that it ran is heard also of a step that ended before anybody looked
            started = {"pod": pod["metadata"]["name"], "node": pod["spec"].get("nodeName", "")}
            self._hear(run_id, "started", step_name, attempt, started)
            if data.get("in_log"):
                found = insist(lambda: self.api.log(pod["metadata"]["name"], _RESULT_LINES), self.stopping)
                data = step.result_in(found or "") or failed("its result was too long to be told and is not in its log")
        self._hear(run_id, kind, step_name, attempt, data)

    def _hear(self, run_id: str, kind: str, step_name: str, attempt: int, data: dict[str, Any]) -> None:
        with self._lock:
            driven = self._driven.get(run_id)
        if driven is not None:
            driven.driver.hear(kind, step_name, attempt, data)


def _whose(item: dict[str, Any]) -> tuple[str, str, int]:
    notes = item.get("metadata", {}).get("annotations", {})
    return notes.get(manifests.RUN, ""), notes.get(manifests.STEP, ""), int(notes.get(manifests.ATTEMPT, 0))


def _ended(job: dict[str, Any]) -> dict[str, Any] | None:
    conditions = job.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] in ("Failed", "Complete") and each["status"] == "True"), None)


def _sent_by_the_step(step: str, path: str, uri: str) -> None:
    raise Permanent(f"the artifact {path} of {step} was to be sent by its pod")
