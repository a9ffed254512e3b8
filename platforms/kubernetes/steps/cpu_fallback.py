"""Attempts of steps that ask for GPUs, and go on without where none could be had for `cpu_after`."""

import threading
from collections.abc import Callable

from autonomic.platforms.kubernetes.objects import manifests, pods
from autonomic.platforms.kubernetes.objects.api import JOBS, PODS, Api, Conflict
from autonomic.platforms.kubernetes.objects.watch import Object, Watch
from autonomic.seams.clock import Clock


class CpuFallback:
    """Waits for GPUs as long as a step declares; `due` is told of a pod that has waited long enough, from the clock's thread.

    `moving` is held while an attempt is moved or ended.
    """

    def __init__(self, api: Api, of_pods: Watch, clock: Clock, due: Callable[[Object], None]) -> None:
        self._api = api
        self._pods = of_pods
        self._clock = clock
        self._due = due
        # Jobs whose pod waited in vain (and of which run), and pods of which it is known when that will be
        self._given_up: dict[str, str] = {}
        self._patient: set[str] = set()
        self._lock = threading.Lock()
        self.moving = threading.Lock()

    def has_given_up(self, job: str) -> bool:
        """Whether what happens to a Job and its pod does not count any more."""
        return job in self._given_up

    def expect(self, pod: Object) -> None:
        """Sees that a pod for which there is no node is looked at again when it has waited long enough."""
        name = pod["metadata"]["name"]
        patience = pod["metadata"].get("annotations", {}).get(manifests.CPU_AFTER)
        since = pods.unscheduled_since(pod)
        if patience is None or since is None or name in self._patient:
            return
        self._patient.add(name)
        self._clock.call_at(since + float(patience), lambda: self._look(name))

    def _look(self, name: str) -> None:
        # from now on its wait is heard again
        self._patient.discard(name)
        pod = self._pods.get(name)
        if pod is not None and pods.unscheduled_since(pod) is not None:
            self._due(pod)

    def give_up(self, pod: Object, job: str, run_id: str) -> bool:
        """Takes away a Job and its pod, unless a node was found at the last moment, or it was stopped meanwhile."""
        meta = pod["metadata"]
        there = self._api.get(JOBS, job)
        if there is None and job not in self._given_up:
            return False
        with self._lock:
            self._given_up[job] = run_id
        try:
            self._api.delete(PODS, meta["name"], uid=meta["uid"], resourceVersion=meta["resourceVersion"])
        except Conflict:
            # something has happened to it: it has a node now, or its wait is told again
            self.forget(job)
            return False
        self._api.delete(JOBS, job)
        return True

    def forget(self, job: str) -> None:
        """The attempt of a Job is ended."""
        with self._lock:
            self._given_up.pop(job, None)

    def forget_run(self, run_id: str) -> None:
        """A run has ended."""
        with self._lock:
            self._given_up = {job: run for job, run in self._given_up.items() if run != run_id}
