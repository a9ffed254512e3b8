"""The runs of batch workflows: a thread drives each, a Job runs each attempt of a step, the pods tell what became of it."""

import contextlib
import logging
import threading
from pathlib import Path
from typing import Any

from autonomic.platforms.host.services import Tell
from autonomic.platforms.kubernetes.events import Events, Object, owner_of
from autonomic.platforms.kubernetes.objects import manifests, names, placement, pods
from autonomic.platforms.kubernetes.objects.api import JOBS, PODS, Api, Conflict, NoRoom
from autonomic.platforms.kubernetes.objects.in_pod import WORK
from autonomic.platforms.kubernetes.objects.packages import Packages
from autonomic.platforms.kubernetes.objects.store import ConfigMapStore, Lost
from autonomic.platforms.kubernetes.objects.variation import varied_pod
from autonomic.platforms.kubernetes.objects.watch import Watch
from autonomic.platforms.kubernetes.patience import PatientStore, insist, until_found
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.platforms.kubernetes.steps import leftovers, step
from autonomic.platforms.kubernetes.steps.cpu_fallback import CpuFallback
from autonomic.platforms.kubernetes.steps.for_room import ForRoom
from autonomic.platforms.kubernetes.steps.progress import Progress
from autonomic.platforms.kubernetes.steps.step_variations import StepVariations
from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.state import RunState
from autonomic.workflows.runs.attempt_logs import joined
from autonomic.workflows.runs.launcher import Attempt
from autonomic.workflows.runs.packages import code_tags
from autonomic.workflows.runs.run_driver import RunDriver
from autonomic.workflows.runs.run_records import RunRecords, RunRequest, is_finished
from autonomic.workflows.runs.step_main import failed
from autonomic.workflows.spec.workflow import BatchSpec, Step

_STOP_SECONDS = 30.0
# a container runtime cuts lines into parts of 16 KiB, which count as lines
_RESULT_LINES = 20
_LOG_SECONDS = 5.0
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
        insist(lambda: self._runs.kill(self._request, step, attempt), self._runs.stopping)

    def go_on_without_gpus(self, pod: dict[str, Any]) -> None:
        """Makes the attempt of a pod for which no GPU could be had again on CPU."""
        try:
            insist(lambda: self._runs.without_gpus(self._request, self.driver, pod), self._runs.stopping)
        except Lost:
            # a younger writer has the run
            return
        except Permanent as refused:
            self._runs.refuse(pod, str(refused))


class KubernetesRuns:
    """The runs of one installation; see `host.effects.Runs`. `heard` is to be called by the watches of pods and Jobs."""

    def __init__(
        self,
        settings: KubernetesSettings,
        api: Api,
        store: ConfigMapStore,
        packages: Packages,
        of_pods: Watch,
        events: Events,
        clock: Clock,
        tell: Tell,
    ) -> None:
        self.settings = settings
        self.api = api
        self.packages = packages
        self.clock = clock
        self.stopping = threading.Event()
        self.records = TellingRecords(PatientStore(store, self.stopping), tell)
        self.variations = StepVariations(store, self.records)
        self._pods = of_pods
        self._events = events
        self._progress = Progress(settings.data_path)
        self._lock = threading.Lock()
        self._driven: dict[str, _Run] = {}
        self._for_room = ForRoom(clock)
        self._fallback = CpuFallback(api, of_pods, clock, self._waited_for_gpus)

    def resume(self) -> None:
        """Goes on with every run that has not ended, and deletes Jobs that have ended of runs that nobody knows."""
        leftovers.delete_unknown_jobs(self.api, self.settings.installation, frozenset(self.records.ids()))
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
        home = Path(self.settings.data_path or WORK)
        try:
            request = RunRequest.model_validate({**fields, "workflow": to["spec"], "tracking_uri": self.settings.mlflow_url, "home": home})
        except ValueError as invalid:
            raise Permanent(f"The run {to.get('run_id')} cannot be started: {invalid}") from invalid
        if not isinstance(request.workflow.spec, BatchSpec):
            raise Permanent(f"{request.workflow.name} is an online workflow; only batch workflows are run")
        for one in request.batch.steps:
            placement.resources(self.settings, one.resources)
        if request.package:
            self.packages.parts(request.package)
        is_new = self.records.add(request)
        self._drive(request.run_id)
        for old in self.records.too_many() if is_new else ():
            leftovers.delete_jobs(self.api, self.settings.installation, old.run_id)
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
            # MLflow may answer elsewhere than when the run began
            request = request.model_copy(update={"tracking_uri": self.settings.mlflow_url})
            driven = self._driven.get(run_id)
            if driven is None or not driven.thread.is_alive():
                driven = self._driven[run_id] = _Run(self, request, run)
            return driven

    def _is_driven(self, run_id: str) -> bool:
        with self._lock:
            return run_id in self._driven

    def left(self, run_id: str) -> None:
        """A run has ended."""
        with self._lock:
            self._driven.pop(run_id, None)
        self._fallback.forget_run(run_id)

    # -- questions

    def list(self, workflow: str | None = None) -> list[RunState]:
        """All runs (of one workflow), the newest first."""
        return self.records.runs(workflow)

    def get(self, run_id: str) -> RunState | None:
        """A run, None where it is not known."""
        return self.records.state(run_id)

    def log(self, run_id: str, step_name: str, tail: int | None, attempt: int | None = None) -> str | None:
        """What a step's attempts (or one) have printed, or the last `tail` lines; None where there is no such run, step or attempt."""
        run = self.records.state(run_id)
        if run is None or step_name not in run.steps:
            return None
        places = self.records.places(run_id, step_name)
        texts = {number: self.api.log(place["pod"]) for number, place in places.items() if attempt in (None, number)}
        logs = {number: None if text is None else step.without_result(text) for number, text in texts.items()}
        return joined(logs, attempt, tail)

    # -- steps

    def launch(self, request: RunRequest, wanted: Step, attempt: Attempt) -> str:
        """Makes the Job of an attempt, unless it is there; what its pod says already is heard."""
        try:
            if not self._is_on_cpu(wanted, attempt):
                self._create(request, wanted, attempt)
        except NoRoom as full:
            self._hear(attempt.run_id, "waiting", attempt.step, attempt.attempt, {"why": f"its Job cannot be made: {full}"})
            self._wait_for_room(request, wanted, attempt)
        except Permanent as refused:
            self._hear(attempt.run_id, "ended", attempt.step, attempt.attempt, failed(str(refused), retry=False))
        return ""

    def _wait_for_room(self, request: RunRequest, wanted: Step, attempt: Attempt) -> None:
        name = manifests.job_name(attempt.run_id, attempt.step, attempt.attempt)
        self._for_room.wait(name, lambda: self.launch(request, wanted, attempt))

    def kill(self, request: RunRequest, step_name: str, attempt: int) -> None:
        """Ends an attempt, whatever it runs on."""
        wanted = next(each for each in request.batch.steps if each.name == step_name)
        self._for_room.forget(manifests.job_name(request.run_id, step_name, attempt))
        with self._fallback.moving:
            self._fallback.forget(manifests.job_name(request.run_id, step_name, attempt))
            for on_cpu in (False, True) if wanted.resources.cpu_after is not None else (False,):
                self.api.delete(JOBS, manifests.job_name(request.run_id, step_name, attempt, on_cpu))

    def _is_on_cpu(self, wanted: Step, attempt: Attempt) -> bool:
        """Whether an attempt runs without the GPUs that it asks for; if so, what became of it is heard."""
        if wanted.resources.cpu_after is None:
            return False
        there = self.api.get(JOBS, manifests.job_name(attempt.run_id, attempt.step, attempt.attempt, on_cpu=True))
        if there is not None:
            self._hear_again(there)
        return there is not None

    def _create(self, request: RunRequest, wanted: Step, attempt: Attempt, on_cpu: bool = False) -> None:
        parts = self.packages.parts(request.package) if request.package else 0
        sized, override = self.variations.varied(request.workflow.name, wanted)
        job = manifests.job(self.settings, sized, attempt, request.package, parts, on_cpu)
        template = job["spec"]["template"]
        template["spec"] = varied_pod(template["spec"], {"placement": override}, self.settings, {})
        try:
            made = self.api.create(JOBS, job)
        except Conflict:
            # made before a restart, or by a request whose answer was lost: it may have ended meanwhile
            there = self.api.get(JOBS, job["metadata"]["name"])
            if there is not None:
                self._hear_again(there)
        else:
            self._tell_start(request, wanted, attempt, made, on_cpu)

    def _tell_start(self, request: RunRequest, wanted: Step, attempt: Attempt, job: dict[str, Any], on_cpu: bool) -> None:
        run = self.records.state(attempt.run_id)
        failures = run.steps[attempt.step].failures if run else ()
        words = f"attempt {attempt.attempt} of at most {wanted.retries.limit + 1} of the step {attempt.step} of the run {attempt.run_id}"
        why = f"{request.cause or 'it was asked for'}{f'; before: {failures[-1]}' if failures else ''}"
        if on_cpu:
            why = f"no GPU was free for {wanted.resources.cpu_after:g} s"
        self._events.tell(job, "made", "AttemptMade", f"{words}{', without GPUs' if on_cpu else ''}: {why}")

    def _tell_end(self, job: Object | None, run_id: str, result: dict[str, Any]) -> None:
        if not self._is_driven(run_id):
            return
        good = result["status"] == "succeeded"
        self._events.tell(job, "ended", f"Attempt{'Succeeded' if good else 'Failed'}", result.get("detail") or "it has ended", good=good)

    def _hear_again(self, job: dict[str, Any]) -> None:
        for pod in self._pods.all().values():
            if _job_of(pod) == job["metadata"]["name"]:
                self.pod_changed(None, pod)
        self.job_changed(None, job)

    def without_gpus(self, request: RunRequest, driver: RunDriver, pod: dict[str, Any]) -> None:
        """Makes the attempt of a pod for which no node was found again without GPUs, unless one is found at the last moment."""
        run_id, step_name, number = _whose(pod)
        wanted = next(each for each in request.batch.steps if each.name == step_name)
        with self._fallback.moving:
            if not self._fallback.give_up(pod, _job_of(pod), run_id):
                return
            driver.hear("waiting", step_name, number, {"why": f"no GPU was free for {wanted.resources.cpu_after:g} s; it goes on without"})
            self._create(request, wanted, manifests.attempt_of(pod), on_cpu=True)

    def refuse(self, pod: dict[str, Any], why: str) -> None:
        """Ends the attempt of a pod for good."""
        run_id, step_name, attempt = _whose(pod)
        self._hear(run_id, "ended", step_name, attempt, failed(why, retry=False))

    def try_again(self) -> None:
        """Makes the Jobs for which a quota left no room, where there is some now."""
        self._for_room.look()

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
        if not run_id or self._fallback.has_given_up(_job_of(now or before or {})):
            return
        if now is None:
            told = (pods.step_report(before) or ("",))[0] if before else ""
            if told == "ended":
                return
            taken_back = self._taken_back(before or {})
            if taken_back and told != "started":
                # it had not begun, and begins when its Job is let go on
                self._hear(run_id, "waiting", step_name, attempt, {"why": taken_back})
                return
            result = self._without_its_job(before or {}, taken_back) if taken_back else failed("its pod was deleted")
            self._tell_end(owner_of(before or {}), run_id, result)
            self._hear(run_id, "ended", step_name, attempt, result)
            return
        if self._is_driven(run_id):
            self._fallback.expect(now)
        report = pods.step_report(now)
        if report is not None and (before is None or report != pods.step_report(before)):
            self._report(now, *report)

    def job_changed(self, before: dict[str, Any] | None, now: dict[str, Any] | None) -> None:
        """A Job came, changed or went; what matters is one that has ended of which no pod has told."""
        condition = _ended(now) if now else None
        if now is None or self._fallback.has_given_up(now["metadata"]["name"]):
            return
        if condition is None:
            self._tell_queue(before, now)
            return
        if before is not None and _ended(before) is not None:
            return
        run_id, step_name, attempt = _whose(now)
        if not self._is_driven(run_id):
            return
        chosen = names.selector({"batch.kubernetes.io/job-name": now["metadata"]["name"]})
        for pod in self.api.list(PODS, chosen)[0]:
            report = pods.step_report(pod)
            if report is not None and report[0] == "ended":
                self._report(pod, *report)
                return
        result = failed(f"{condition.get('reason')}: {condition.get('message')}")
        self._tell_end(now, run_id, result)
        self._hear(run_id, "ended", step_name, attempt, result)

    def _tell_queue(self, before: dict[str, Any] | None, now: dict[str, Any]) -> None:
        if now["spec"].get("suspend") and not (before and before["spec"].get("suspend")):
            run_id, step_name, attempt = _whose(now)
            self._hear(run_id, "waiting", step_name, attempt, {"why": _suspended(now)})

    def _taken_back(self, pod: dict[str, Any]) -> str:
        """In words, that the Job of a pod was suspended, as queues do; "" where it was not, or nobody waits for it."""
        if not self._is_driven(_whose(pod)[0]):
            return ""
        job = insist(lambda: self.api.get(JOBS, _job_of(pod)), self.stopping)
        return _suspended(job) if job is not None and job["spec"].get("suspend") else ""

    def _without_its_job(self, pod: dict[str, Any], taken_back: str) -> dict[str, Any]:
        """The failure of an attempt that was taken back after it had begun. Its Job shall not begin it a second time."""
        insist(lambda: self.api.delete(JOBS, _job_of(pod)), self.stopping)
        return failed(f"Preempted: it was ended because its Job was suspended ({taken_back})")

    def _waited_for_gpus(self, pod: dict[str, Any]) -> None:
        with self._lock:
            driven = self._driven.get(_whose(pod)[0])
        if driven is not None and not self.stopping.is_set():
            driven.go_on_without_gpus(pod)

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
                data = self._result_in_log(pod["metadata"]["name"])
            if data["status"] != "succeeded" and pod["metadata"].get("deletionTimestamp") and (why := self._taken_back(pod)):
                data = self._without_its_job(pod, why)
            self._tell_end(owner_of(pod), run_id, data)
        self._hear(run_id, kind, step_name, attempt, data)

    def _result_in_log(self, pod: str) -> dict[str, Any]:
        # the last lines of a log may be there only after its container is known to have ended
        found = until_found(lambda: step.result_in(self.api.log(pod, _RESULT_LINES) or ""), self.stopping, _LOG_SECONDS)
        return found or failed("its result was too long to be told and is not in its log")

    def _hear(self, run_id: str, kind: str, step_name: str, attempt: int, data: dict[str, Any]) -> None:
        with self._lock:
            driven = self._driven.get(run_id)
        if driven is not None:
            driven.driver.hear(kind, step_name, attempt, data)


def _whose(item: dict[str, Any]) -> tuple[str, str, int]:
    notes = item.get("metadata", {}).get("annotations", {})
    return notes.get(manifests.RUN, ""), notes.get(manifests.STEP, ""), int(notes.get(manifests.ATTEMPT, 0))


def _job_of(pod: dict[str, Any]) -> str:
    return pod.get("metadata", {}).get("labels", {}).get("batch.kubernetes.io/job-name", "")


def _suspended(job: dict[str, Any]) -> str:
    queue = job["metadata"].get("labels", {}).get(manifests.QUEUE, "")
    return f"waits in the queue {queue}" if queue else "its Job is suspended"


def _ended(job: dict[str, Any]) -> dict[str, Any] | None:
    conditions = job.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] in ("Failed", "Complete") and each["status"] == "True"), None)


def _sent_by_the_step(step: str, path: str, uri: str) -> None:
    raise Permanent(f"the artifact {path} of {step} was to be sent by its pod")
