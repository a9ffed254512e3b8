"""Every type of event that the product itself sends to strategies (`on: {event: TYPE}`), in one place."""

from collections.abc import Mapping

PREFIX = "dev.autonomic."
"""What begins so is ours; every other type is a custom one, which somebody sends to `POST /v1/events` of the monitor."""
PART_RESTARTED = f"{PREFIX}part.restarted"
EVENT_TYPES: Mapping[str, str] = {
    f"{PREFIX}alert.firing": "an alert of Alertmanager fires",
    f"{PREFIX}alert.resolved": "an alert of Alertmanager is resolved",
    f"{PREFIX}kubernetes.event": "Kubernetes has a warning about an object",
    f"{PREFIX}kubernetes.job.complete": "a Job has completed",
    f"{PREFIX}kubernetes.job.failed": "a Job has failed",
    f"{PREFIX}kubernetes.node.not_ready": "a node is not ready any more",
    f"{PREFIX}kubernetes.node.pressure": "a node lacks memory, disk or process ids",
    f"{PREFIX}kubernetes.node.ready": "a node is ready",
    f"{PREFIX}kubernetes.pod.config_error": "a pod's container cannot be configured",
    f"{PREFIX}kubernetes.pod.crash_loop": "a pod's container ends again and again",
    f"{PREFIX}kubernetes.pod.evicted": "a pod was evicted",
    f"{PREFIX}kubernetes.pod.image_missing": "a pod's image cannot be had",
    f"{PREFIX}kubernetes.pod.node_lost": "a pod's node is gone",
    f"{PREFIX}kubernetes.pod.oom_killed": "a container was ended because its memory was over the limit",
    f"{PREFIX}kubernetes.pod.unschedulable": "no node has room for a pod",
    f"{PREFIX}mlflow.run.finished": "a run in MLflow has ended",
    f"{PREFIX}model.version.created": "a version of a registered model was made",
    PART_RESTARTED: "a part of the installation ended or did not answer, and was started again",
    f"{PREFIX}run.failed": "a run of a batch workflow has failed",
    f"{PREFIX}run.stopped": "a run of a batch workflow was stopped",
    f"{PREFIX}run.succeeded": "a run of a batch workflow has succeeded",
    f"{PREFIX}search.finished": "a search of the tuner has ended",
}
