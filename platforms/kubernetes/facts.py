"""What pods, Jobs, nodes and Kubernetes events say of themselves, in a few words, and as facts that are told once. Pure."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from autonomic.platforms.kubernetes.objects import names
from autonomic.platforms.kubernetes.objects.manifests import ATTEMPT, RUN
from autonomic.seams.word import Word

Object = dict[str, Any]

TYPE = "dev.autonomic.kubernetes"
POD_FACTS = {
    "OOMKilled": "oom_killed",
    "Unschedulable": "unschedulable",
    "CrashLoopBackOff": "crash_loop",
    "Evicted": "evicted",
    "DeletionByTaintManager": "node_lost",
    "ErrImagePull": "image_missing",
    "ImagePullBackOff": "image_missing",
    "ErrImageNeverPull": "image_missing",
    "InvalidImageName": "image_missing",
    "CreateContainerConfigError": "config_error",
}
"""The reasons of pods that are told as events `dev.autonomic.kubernetes.pod.NAME`."""
_STARTING = frozenset({"ContainerCreating", "PodInitializing"})
_LABELS = tuple(f"{names.PREFIX}/{name}" for name in ("workflow", "service", "step"))


class Fact(Word):
    """Something that happened on the cluster. `id` is the same whenever it is looked at, `time` is when it was so (seconds)."""

    id: str
    type: str
    time: float
    target: str = ""
    data: dict[str, Any] = {}


def target_of(item: Object) -> str:
    """The `workflow/service` or `workflow/step` that an object of ours is of, "" where it is of none."""
    own = item["metadata"].get("labels", {})
    workflow, service, step = (own.get(label, "") for label in _LABELS)
    return f"{workflow}/{service or step}" if workflow else ""


def quantity(text: str) -> float:
    """The number that a quantity such as 250m or 64Mi stands for (cores, bytes)."""
    from kubernetes.utils.quantity import parse_quantity

    return float(parse_quantity(text))


def seconds(text: str | None) -> float | None:
    """A time as Kubernetes writes it in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp() if text else None


# -- pods


def reasons(pod: Object) -> dict[str, str]:
    """Why a pod is not well, or has ended: the reasons as Kubernetes writes them, and what it says of each."""
    status = pod["status"]
    found: dict[str, str] = {}
    if status.get("reason"):
        found[status["reason"]] = status.get("message", "")
    for condition in status.get("conditions", []):
        waits = condition["type"] == "PodScheduled" and condition["status"] == "False"
        if waits or (condition["type"] == "DisruptionTarget" and condition["status"] == "True"):
            found.setdefault(condition.get("reason", ""), condition.get("message", ""))
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") and waiting["reason"] not in _STARTING:
            found.setdefault(waiting["reason"], waiting.get("message", ""))
        ended = container.get("state", {}).get("terminated")
        if ended is None and not container.get("ready"):
            ended = container.get("lastState", {}).get("terminated")
        if ended and ended.get("reason"):
            found.setdefault(ended["reason"], f"{container['name']} ended with exit code {ended.get('exitCode')}")
    found.pop("", None)
    return found


def pod_summary(pod: Object) -> Object:
    """A pod as readings count it."""
    meta, status = pod["metadata"], pod["status"]
    own = meta.get("labels", {})
    return {
        "name": meta["name"],
        "node": pod["spec"].get("nodeName", ""),
        "role": own.get(f"{names.PREFIX}/role", ""),
        "phase": status.get("phase", "Unknown"),
        "reasons": reasons(pod),
        "restarts": sum(int(container.get("restartCount", 0)) for container in status.get("containerStatuses", [])),
    }


def pod_facts(pod: Object, now: float) -> Iterator[Fact]:
    """What happened to a pod, as far as it still says so."""
    meta = pod["metadata"]
    about = {"pod": meta["name"], "node": pod["spec"].get("nodeName", ""), **_run_of(pod)}
    for ended, container in _out_of_memory(pod):
        limit = next((each for each in pod["spec"]["containers"] if each["name"] == container["name"]), {})
        memory = limit.get("resources", {}).get("limits", {}).get("memory")
        said = f"its memory went over its limit of {memory}" if memory else "its node ran out of memory"
        data = {**about, "reason": "OOMKilled", "message": said, "memory_bytes": quantity(memory) if memory else None}
        yield Fact(
            id=f"{meta['uid']}-oom_killed-{ended.get('containerID', container.get('restartCount'))}",
            type=f"{TYPE}.pod.oom_killed",
            time=seconds(ended.get("finishedAt")) or now,
            target=target_of(pod),
            data=data,
        )
    for reason, message in reasons(pod).items():
        kind = POD_FACTS.get(reason)
        if kind is None or reason == "OOMKilled":
            continue
        yield Fact(
            id=f"{meta['uid']}-{kind}",
            type=f"{TYPE}.pod.{kind}",
            time=_since(pod, reason) or now,
            target=target_of(pod),
            data={**about, "reason": reason, "message": message},
        )


def _out_of_memory(pod: Object) -> Iterator[tuple[Object, Object]]:
    for container in pod["status"].get("containerStatuses", []):
        for state in (container.get("state", {}), container.get("lastState", {})):
            ended = state.get("terminated") or {}
            if ended.get("reason") == "OOMKilled":
                yield ended, container


def _since(pod: Object, reason: str) -> float | None:
    conditions = pod["status"].get("conditions", [])
    return next((seconds(each.get("lastTransitionTime")) for each in conditions if each.get("reason") == reason), None)


def _run_of(item: Object) -> Object:
    notes = item["metadata"].get("annotations", {})
    return {"run": notes[RUN], "attempt": int(notes.get(ATTEMPT, 0))} if RUN in notes else {}


# -- Jobs, nodes, events


def true_conditions(item: Object) -> list[str]:
    """The conditions of an object that are true."""
    return [each["type"] for each in item.get("status", {}).get("conditions", []) if each["status"] == "True"]


def job_facts(job: Object, now: float) -> Iterator[Fact]:
    """That a Job is complete, or has failed."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            kind = condition["type"].lower()
            yield Fact(
                id=f"{job['metadata']['uid']}-{kind}",
                type=f"{TYPE}.job.{kind}",
                time=seconds(condition.get("lastTransitionTime")) or now,
                target=target_of(job),
                data={"job": job["metadata"]["name"], **_run_of(job), **_told(condition)},
            )


def node_facts(node: Object, now: float) -> Iterator[Fact]:
    """Whether a node is ready, and under which pressure it is."""
    for condition in node.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready":
            kind = "ready" if condition["status"] == "True" else "not_ready"
        elif condition["status"] == "True":
            kind = "pressure"
        else:
            continue
        changed = condition.get("lastTransitionTime", "")
        yield Fact(
            id=f"{node['metadata']['uid']}-{condition['type']}-{condition['status']}-{changed}",
            type=f"{TYPE}.node.{kind}",
            time=seconds(changed) or now,
            data={"node": node["metadata"]["name"], "condition": condition["type"], "status": condition["status"], **_told(condition)},
        )


def event_summary(event: Object) -> Object:
    """A Kubernetes event as readings count it."""
    about = event.get("involvedObject", {})
    return {
        "reason": event.get("reason", ""),
        "message": event.get("message", ""),
        "object": f"{about.get('kind', '')}/{about.get('name', '')}",
        "count": _count(event),
        "time": _event_time(event),
    }


def event_fact(event: Object, target: str, now: float) -> Fact:
    """A Kubernetes event, told when it first comes."""
    summary = event_summary(event)
    time = summary.pop("time") or now
    return Fact(id=event["metadata"]["uid"], type=f"{TYPE}.event", time=time, target=target, data=summary)


def _count(event: Object) -> int:
    return int(event.get("count") or (event.get("series") or {}).get("count") or 1)


def _event_time(event: Object) -> float | None:
    last = (event.get("series") or {}).get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return seconds(last or event["metadata"].get("creationTimestamp"))


def _told(condition: Object) -> Object:
    return {"reason": condition.get("reason", ""), "message": condition.get("message", "")}
