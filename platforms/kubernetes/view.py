"""What the cluster says of targets: as they are now, and as facts that are each told once to whoever remembers their ids."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autonomic.platforms.kubernetes import facts
from autonomic.platforms.kubernetes.facts import Fact
from autonomic.platforms.kubernetes.objects import names
from autonomic.platforms.kubernetes.objects.api import EVENTS, NODES, POD_METRICS, Api
from autonomic.platforms.kubernetes.objects.watch import Object, Watch
from autonomic.seams.clock import Clock
from autonomic.seams.errors import AutonomicError

_KEPT_FACTS = 1000
_SYNC_SECONDS = 3.0
_ENDED = ("Succeeded", "Failed")
_WARNINGS = "type!=Normal"


class ClusterView:
    """Answers from watches. Nodes and events are watched from the first time that somebody asks for them.

    A part that cannot be had now (a right is missing, the API server is away) is `{"missing": why}`, never an empty list.
    """

    def __init__(self, api: Api, clock: Clock, installation: str, pods: Watch, jobs: Watch, deployments: Watch) -> None:
        self._api = api
        self._clock = clock
        self._installation = installation
        self._pods = pods
        self._jobs = jobs
        self._deployments = deployments
        self._lazy: dict[str, Watch] = {}
        self._facts: dict[str, Fact] = {}
        self._lock = threading.Lock()
        self._beginning = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Ends the watches that were begun here."""
        with self._beginning:
            self._closed = True
            begun = list(self._lazy.values())
        for watch in begun:
            watch.close()

    # -- what happened

    def pod_changed(self, now: Object | None) -> None:
        """To be called for each change of a pod of ours: what it says is kept although the pod goes."""
        if now is not None:
            self._remember(list(facts.pod_facts(now, self._clock.now())))

    def job_changed(self, now: Object | None) -> None:
        """To be called for each change of a Job of ours."""
        if now is not None:
            self._remember(list(facts.job_facts(now, self._clock.now())))

    def news(self, source: str) -> dict[str, Any]:
        """The facts of a source (see `host.api.NEWS`), the oldest first: `{"facts": [...]}`, or `{"missing": why}`."""
        watches = (self._pods, self._jobs) if source == "workloads" else (self._begun(source),)
        for watch in watches:
            if watch.missing:
                return {"missing": watch.missing}
        if source == "events":
            self._remember(list(self._of_events()))
        prefixes = {"events": (f"{facts.TYPE}.event",), "nodes": (f"{facts.TYPE}.node.",)}
        wanted = prefixes.get(source, (f"{facts.TYPE}.pod.", f"{facts.TYPE}.job."))
        with self._lock:
            found = [fact for fact in self._facts.values() if fact.type.startswith(wanted)]
        return {"facts": [fact.model_dump(mode="json") for fact in sorted(found, key=lambda fact: fact.time)]}

    def _remember(self, found: Sequence[Fact]) -> None:
        with self._lock:
            for fact in found:
                self._facts.setdefault(fact.id, fact)
            for old in list(self._facts)[:-_KEPT_FACTS]:
                del self._facts[old]

    def _of_events(self) -> Iterable[Fact]:
        # whose it is may be known only after the event: it is looked up at each question until it is
        now = self._clock.now()
        for event in self._begun("events").all().values():
            target = self._target_of(event)
            if target:
                yield facts.event_fact(event, target, now)

    def _target_of(self, event: Object) -> str:
        about = event.get("involvedObject", {})
        name = str(about.get("name", ""))
        watches = {"Pod": self._pods, "Job": self._jobs, "Deployment": self._deployments}
        watch = watches.get(str(about.get("kind")))
        item = watch.get(name) if watch is not None else None
        if item is None:
            # a pod that is gone, and a ReplicaSet, are named for what made them
            made_by = (name.rpartition("-")[0], name.rpartition("-")[0].rpartition("-")[0])
            item = next((there for each in made_by for watch in (self._jobs, self._deployments) if (there := watch.get(each))), None)
        return facts.target_of(item) if item is not None else ""

    # -- what is

    def state(self, target: str, parts: Iterable[str]) -> dict[str, Any]:
        """Each of the `parts` (see `host.api.PARTS`) of a target: `{"items": [...]}`, or `{"missing": why}`."""
        return {part: self._part(target, part) for part in parts}

    def _part(self, target: str, part: str) -> dict[str, Any]:
        if part == "usage":
            return self._usage(target)
        watch = {"pods": self._pods, "jobs": self._jobs, "deployments": self._deployments}.get(part) or self._begun(part)
        if watch.missing:
            return {"missing": watch.missing}
        objects = watch.all().values()
        if part == "nodes":
            return {"items": [{"name": each["metadata"]["name"], "conditions": facts.true_conditions(each)} for each in objects]}
        if part == "events":
            return {"items": [facts.event_summary(each) for each in objects if _is_of(target, self._target_of(each))]}
        mine = [each for each in objects if _counts(target, each)]
        if part == "pods":
            return {"items": [facts.pod_summary(each) for each in newest(mine)]}
        if part == "jobs":
            return {"items": [{"name": each["metadata"]["name"], "conditions": facts.true_conditions(each)} for each in newest(mine)]}
        return {"items": [_replicas(each) for each in mine]}

    def _usage(self, target: str) -> dict[str, Any]:
        if self._pods.missing:
            return {"missing": self._pods.missing}
        workflow = target.partition("/")[0]
        running = {name: pod for name, pod in self._pods.all().items() if _counts(target, pod) and pod["status"].get("phase") == "Running"}
        try:
            told, _ = self._api.list(POD_METRICS, names.selector(names.labels(self._installation, workflow=workflow)))
        except AutonomicError as away:
            return {"missing": str(away)}
        measured = {each["metadata"]["name"]: each for each in told}
        return {"items": [_measured(name, pod, measured.get(name)) for name, pod in running.items()]}

    # -- watches that not everybody needs

    def _begun(self, part: str) -> Watch:
        with self._beginning:
            watch = self._lazy.get(part)
            if watch is None:
                if part == "nodes":
                    watch = Watch(self._api, NODES, "", self._node_changed)
                else:
                    watch = Watch(self._api, EVENTS, "", _ignore, _WARNINGS)
                self._lazy[part] = watch
                if not self._closed:
                    watch.start()
        # a right that is missing is told by the watch; the first list is worth a moment
        if not watch.away:
            watch.wait(_SYNC_SECONDS)
        return watch

    def _node_changed(self, _: Object | None, now: Object | None) -> None:
        if now is not None:
            self._remember(list(facts.node_facts(now, self._clock.now())))


def newest(items: list[Object]) -> list[Object]:
    """The pods (or Jobs) that count: of steps, those that have not ended and the newest of each; of services, all. Pure."""
    newest_of: dict[str, Object] = {}
    for item in items:
        if f"{names.PREFIX}/step" in item["metadata"].get("labels", {}):
            target = facts.target_of(item)
            if target not in newest_of or _made(item) > _made(newest_of[target]):
                newest_of[target] = item
    return [item for item in items if not _has_ended(item) or newest_of.get(facts.target_of(item), item) is item]


def _has_ended(item: Object) -> bool:
    return item.get("status", {}).get("phase") in _ENDED or bool({"Complete", "Failed"} & set(facts.true_conditions(item)))


def _made(item: Object) -> tuple[str, int]:
    # two attempts may be made within one second
    return item["metadata"]["creationTimestamp"], int(item["metadata"].get("annotations", {}).get(facts.ATTEMPT, 0))


def _is_of(target: str, own: str) -> bool:
    return bool(own) and (own == target or own.partition("/")[0] == target)


def _counts(target: str, item: Object) -> bool:
    """Whether it is a replica or a step of the target; a drift detector of a service is neither."""
    own = item["metadata"].get("labels", {})
    return _is_of(target, facts.target_of(item)) and any(f"{names.PREFIX}/{kind}" in own for kind in ("role", "step"))


def _replicas(deployment: Object) -> dict[str, Any]:
    return {
        "name": deployment["metadata"]["name"],
        "role": deployment["metadata"].get("labels", {}).get(f"{names.PREFIX}/role", ""),
        "wanted": int(deployment["spec"].get("replicas", 1)),
        "ready": int(deployment.get("status", {}).get("readyReplicas", 0)),
    }


def _measured(name: str, pod: Object, told: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a pod uses: cores and bytes; both None where the metrics API does not know it yet."""
    known = (
        {
            "cpu": sum(facts.quantity(each["usage"]["cpu"]) for each in told["containers"]),
            "memory": sum(facts.quantity(each["usage"]["memory"]) for each in told["containers"]),
            "time": facts.seconds(told.get("timestamp")),
        }
        if told is not None
        else {"cpu": None, "memory": None, "time": None}
    )
    role = pod["metadata"].get("labels", {}).get(f"{names.PREFIX}/role", "")
    return {"name": name, "node": pod["spec"].get("nodeName", ""), "role": role, **known}


def _ignore(_: Object | None, __: Object | None) -> None:
    """Events are looked at when somebody asks."""
