"""What a pod says of the replica or the step in it. Pure."""

import json
import re
from datetime import datetime
from typing import Any

from autonomic.platforms.kubernetes.objects.manifests import DEADLINE_GRACE_SECONDS
from autonomic.workflows.runs.step_main import failed
from autonomic.workflows.spec.units import format_bytes

Pod = dict[str, Any]

_NEVER = frozenset({"ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"})
_PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
_UNMADE = frozenset({"CreateContainerError", "RunContainerError"})
_CRASHES = "CrashLoopBackOff"
_BROKEN = _NEVER | _PULLING | _UNMADE | {_CRASHES}
_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Permanent|Retryable|Refused)\b(:|$)")
_LONGEST_CAUSE = 800
_MAKING_SECONDS = 30.0
_OUT_OF_MEMORY = "OOMKilled"
_NODE_GONE = "DeletionByTaintManager"
# how a pod that is ended by the cluster is told, by the reason of its condition DisruptionTarget
_TAKEN = {
    _NODE_GONE: "NodeLost: its node {node} does not answer, or turned it away",
    "EvictionByEvictionAPI": "Evicted: it was asked to leave its node {node}, as when a node is drained",
    "PreemptionByScheduler": "Preempted: its place on the node {node} was needed for a pod of higher priority",
    "TerminationByKubelet": "Evicted: its node {node} had to end it",
}


def is_ready(pod: Pod) -> bool:
    """Whether it is to get requests: it is ready, and not asked to stop."""
    conditions = pod["status"].get("conditions", [])
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and bool(pod["status"].get("podIP")) and not pod["metadata"].get("deletionTimestamp")


def created_at(pod: Pod) -> float:
    """When it was made, in seconds since the epoch."""
    return datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()


def trouble(pod: Pod) -> str:
    """Why a replica does not start or has ended, "" where nothing is known to be wrong."""
    if pod["metadata"].get("deletionTimestamp"):
        return ""
    status = _container(pod)
    waiting = status.get("state", {}).get("waiting", {})
    ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated") or {}
    if ended.get("reason") == _OUT_OF_MEMORY:
        return f"{_OUT_OF_MEMORY}: {_memory(pod)}"
    if ended and not status.get("ready"):
        code, cause = ended.get("exitCode"), _cause(ended.get("message", ""))
        if waiting.get("reason") == _CRASHES:
            return f"{_CRASHES}: {cause or 'it printed nothing'} (exit code {code}, started {int(status.get('restartCount', 0)) + 1} times)"
        return f"it ended with exit code {code}: {cause}"
    if waiting.get("reason") in _BROKEN:
        return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    return ""


def lasting_trouble(pod: Pod, now: float) -> str:
    """Why a replica will not come up by itself, "" where it may: its container ended twice, or could not be made for a while.

    A node that is busy, or has just come back, may take more than one try to make a container.
    """
    wrong = trouble(pod)
    status = _container(pod)
    state = status.get("state", {})
    if state.get("waiting", {}).get("reason") in _UNMADE:
        lasts = now - created_at(pod) > _MAKING_SECONDS
    elif wrong.startswith(("it ended", _CRASHES, _OUT_OF_MEMORY)):
        lasts = int(status.get("restartCount", 0)) + ("running" not in state) > 1
    else:
        lasts = True
    return wrong if lasts else ""


def unscheduled_since(pod: Pod) -> float | None:
    """When no node was found for it (seconds since the epoch), None where it has one or nobody has looked yet."""
    condition = _condition(pod, "PodScheduled")
    if condition.get("status") != "False" or pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
        return None
    return datetime.fromisoformat(condition["lastTransitionTime"]).timestamp()


def waits_for(pod: Pod) -> str:
    """Why it has not started, "" where nothing is known."""
    condition = _condition(pod, "PodScheduled")
    if condition.get("status") == "False":
        return f"waits for a node ({condition.get('reason', '')}): {condition.get('message', '')}"
    waiting = _container(pod).get("state", {}).get("waiting", {})
    if waiting.get("reason") in _PULLING:
        return f"its image cannot be brought ({waiting['reason']}): {waiting.get('message', '')}"
    return ""


def unready(pod: Pod) -> str:
    """Why a replica whose container runs gets no requests, "" where it is ready or does not run."""
    status = _container(pod)
    if pod["metadata"].get("deletionTimestamp") or status.get("ready") or "running" not in status.get("state", {}):
        return ""
    name = pod["metadata"]["name"]
    if not status.get("started", True):
        return f"{name} starts: its container runs, and the model server does not answer yet"
    return f"{name} is not ready: its container runs, and the model server is silent or says that it is not ready"


def step_report(pod: Pod) -> tuple[str, dict[str, Any]] | None:
    """What the driver of the run is to hear of a step's pod: (kind, data) as `RunDriver.hear` takes them; None: nothing.

    A result that was too long to be told by the pod is `{"in_log": True}`.
    """
    phase = pod["status"].get("phase", "Pending")
    status = _container(pod)
    state = status.get("state", {})
    if phase in ("Succeeded", "Failed"):
        return "ended", _result(pod, state.get("terminated") or {})
    if pod["metadata"].get("deletionTimestamp") and _condition(pod, "DisruptionTarget").get("reason") == _NODE_GONE:
        # its node does not answer, so that nobody will ever tell how it ended
        return "ended", failed(_taken(pod))
    if "running" in state:
        return "started", {"pod": pod["metadata"]["name"], "node": pod["spec"].get("nodeName", "")}
    waiting = state.get("waiting", {})
    if waiting.get("reason") in _NEVER:
        return "ended", failed(f"its image cannot be used ({waiting['reason']}): {waiting.get('message', '')}", retry=False)
    why = waits_for(pod)
    return ("waiting", {"why": why}) if why else None


def _result(pod: Pod, ended: dict[str, Any]) -> dict[str, Any]:
    reason, message = pod["status"].get("reason", ""), pod["status"].get("message", "")
    if ended.get("reason") == _OUT_OF_MEMORY:
        return failed(f"{_OUT_OF_MEMORY}: {_memory(pod)}")
    if reason == "DeadlineExceeded":
        limit = pod["spec"].get("activeDeadlineSeconds", 0) - DEADLINE_GRACE_SECONDS
        return failed(f"timed out after {limit} s, and its pod was ended by the cluster (DeadlineExceeded)")
    if reason:
        return failed(f"{reason}: on the node {_node(pod)}: {message or 'its pod was ended by the cluster'}")
    told = ended.get("message", "")
    try:
        result = json.loads(told)
        if isinstance(result, dict) and str(result.get("detail", "")).startswith(f"{_OUT_OF_MEMORY}: "):
            # the step's process was ended within a container that lives on, which knows no limits
            return {**result, "detail": f"{_OUT_OF_MEMORY}: {_memory(pod)} ({result['detail'].removeprefix(f'{_OUT_OF_MEMORY}: ')})"}
        if isinstance(result, dict) and ("status" in result or result.get("in_log")):
            return result
    except ValueError:
        pass
    if _condition(pod, "DisruptionTarget"):
        return failed(_taken(pod))
    if not ended:
        return failed("its pod was ended by the cluster")
    return failed(f"its pod ended with exit code {ended.get('exitCode')} and left no result: {_last_lines(told)}")


def _taken(pod: Pod) -> str:
    condition = _condition(pod, "DisruptionTarget")
    reason, message = str(condition.get("reason", "")), condition.get("message", "")
    words = _TAKEN.get(reason, f"{reason}: on the node {{node}}").format(node=_node(pod))
    return f"{words}: {message}" if message else words


def _node(pod: Pod) -> str:
    return pod["spec"].get("nodeName", "")


def _condition(pod: Pod, kind: str) -> dict[str, Any]:
    return next((each for each in pod["status"].get("conditions", []) if each["type"] == kind), {})


def _container(pod: Pod) -> dict[str, Any]:
    statuses = pod["status"].get("containerStatuses") or [{}]
    return statuses[0]


def _memory(pod: Pod) -> str:
    limit = pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory")
    if limit is None:
        return "its node ran out of memory; ask for some with resources.memory"
    told = format_bytes(int(limit)) if str(limit).isdecimal() else limit
    return f"its memory went over its limit of {told}; ask for more with resources.memory"


def _cause(log: str) -> str:
    """What a process that failed said last: the error at the end of a traceback, with what it said over several lines, or a line."""
    lines = [line for line in log.splitlines() if line.strip()]
    for number in range(len(lines) - 1, -1, -1):
        if _ERROR.match(lines[number]):
            return "\n".join(lines[number:])[:_LONGEST_CAUSE]
    return lines[-1].strip()[-_LONGEST_CAUSE:] if lines else ""


def _last_lines(text: str) -> str:
    return text.strip()[-800:]
