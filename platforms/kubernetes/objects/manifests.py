"""What is made on the cluster, as Kubernetes writes it. Pure functions of settings and records."""

import json
import math
from typing import Any

from autonomic.platforms.host.apps import AppSpec
from autonomic.platforms.kubernetes.objects import names, placement
from autonomic.platforms.kubernetes.objects.in_pod import PACKAGE, REGISTRY_URL, WORK
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.errors import Permanent
from autonomic.workflows.runs.launcher import Attempt
from autonomic.workflows.spec.workflow import Resources, Step

Manifest = dict[str, Any]

PORT = 8000
"""Where every model server listens, on its pod's own address."""
EPOCH = f"{names.PREFIX}/epoch"
"""The annotation that says under which epoch an object was written last."""
APP = f"{names.PREFIX}/app"
"""The label, and where labels are too short the annotation, with the name of the application."""
DETECTOR = f"{names.PREFIX}/detector"
"""The annotation that tells one detector of a service from another; the label says which service it watches."""
RUN, STEP, ATTEMPT = (f"{names.PREFIX}/{name}" for name in ("run", "step", "attempt"))
CPU_AFTER = f"{names.PREFIX}/cpu-after"
"""The annotation of a step's pod that says after how many seconds without a GPU it is made again without one."""
QUEUE = "kueue.x-k8s.io/queue-name"
"""The label by which Kueue takes a Job into a queue."""
# how a Prometheus that finds pods by itself is told of replicas
_SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT), "prometheus.io/path": "/metrics"}
# a step that was told to stop ends its processes at once
_STEP_STOP_SECONDS = 5
DEADLINE_GRACE_SECONDS = 5
"""How long after its own timeout a step's pod may take to say so."""
# the kernel takes no longer text of the environment
_MAX_REQUEST_BYTES = 120_000


def service_token_name(installation: str) -> str:
    """The Secret with the token that callers of services show."""
    return f"{installation}-service-token"


def registry_name(installation: str) -> str:
    """The Secret with the address of MLflow, which may be another one after each start of the system."""
    return f"{installation}-registry"


def package_part(installation: str, digest: str, number: int) -> str:
    """The ConfigMap with one part of a code package."""
    return f"{installation}-package-{names.digest(digest, 20)}-{number:03d}"


def replicas(settings: KubernetesSettings, app: str, labels: dict[str, str], spec: AppSpec, count: int) -> Manifest:
    """The Deployment of an application. `labels` say whose replicas they are (workflow, service, role).

    It has no owner: it serves on whatever becomes of our memory, until we delete it.
    """
    name = names.dns_name(app)
    note = {APP: app}
    chosen = names.labels(settings.installation, app=app)
    own = {
        **chosen,
        **names.labels(settings.installation, **labels),
        **names.recommended(labels["service"], name, labels["role"], labels["workflow"]),
    }
    meta = {
        "name": name,
        "namespace": settings.namespace,
        "labels": {**own, **names.version_label()},
        "annotations": note,
    }
    drain, starting = math.ceil(spec.drain_seconds), math.ceil(settings.ready_seconds)
    container = {
        **_container(settings, "replica", "autonomic.platforms.kubernetes.services.replica"),
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": placement.resources(settings, spec.resources),
        # readiness decides about traffic; a process is ended only where it has not answered for minutes: on a busy node it is late
        "readinessProbe": {**_probe("/v2/health/ready"), "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 2},
        "startupProbe": {**_probe("/v2/health/live"), "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": starting},
        "livenessProbe": {**_probe("/v2/health/live"), "periodSeconds": 20, "timeoutSeconds": 20, "failureThreshold": 9},
        # it serves on while everybody learns that it goes
        "lifecycle": {"preStop": {"sleep": {"seconds": settings.stop_seconds}}},
    }
    container["env"] = [*container["env"], {"name": "AUTONOMIC_REPLICA", "value": json.dumps(spec.server, sort_keys=True)}]
    if spec.server.get("ask_for_token"):
        container["env"].append(_from_secret("AUTONOMIC_SERVICE_TOKEN", service_token_name(settings.installation), "token"))
    pod = {
        **_pod(settings, container, spec.server.get("package", ""), spec.server.get("package_parts", 0), spec),
        "terminationGracePeriodSeconds": settings.stop_seconds + drain + 5,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": chosen},
            }
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "replicas": count,
            "selector": {"matchLabels": chosen},
            "revisionHistoryLimit": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": own, "annotations": {**note, **_SCRAPED}}, "spec": pod},
        },
    }


def companions(deployment: Manifest) -> list[Manifest]:
    """The headless Service and the PodDisruptionBudget of an application whose Deployment is there: they go with it."""
    known, chosen = deployment["metadata"], deployment["spec"]["selector"]["matchLabels"]
    meta = {
        "name": known["name"],
        "namespace": known["namespace"],
        "labels": known["labels"],
        "annotations": {APP: known["annotations"][APP]},
        "ownerReferences": [owner_reference(deployment)],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"clusterIP": "None", "selector": chosen, "ports": [{"name": "http", "port": PORT, "targetPort": PORT}]},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": meta,
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": chosen}, "unhealthyPodEvictionPolicy": "AlwaysAllow"},
        },
    ]


def owner_reference(item: Manifest) -> Manifest:
    """A reference to an object that is there, for objects that go when it goes."""
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "name": item["metadata"]["name"], "uid": item["metadata"]["uid"]}


def with_replicas(deployment: Manifest, count: int, epoch: int, version: str) -> Manifest:
    """A Deployment with another number of replicas, written under `epoch`; `version` "" is for one that is not there yet."""
    meta = {**deployment["metadata"], "annotations": {**deployment["metadata"].get("annotations", {}), EPOCH: str(epoch)}}
    if version:
        meta["resourceVersion"] = version
    return {**deployment, "metadata": meta, "spec": {**deployment["spec"], "replicas": count}}


def job_name(run_id: str, step: str, attempt: int, on_cpu: bool = False) -> str:
    """The name of the Job of one attempt; `on_cpu`: of the one that is made where no GPU could be had."""
    return names.dns_name(f"{run_id}-{step}-{attempt}{'-cpu' if on_cpu else ''}")


def job(settings: KubernetesSettings, step: Step, attempt: Attempt, package: str, parts: int, on_cpu: bool = False) -> Manifest:
    """The Job of one attempt of a step; `on_cpu`: without the GPUs that it asks for. The run repeats attempts, not the Job.

    Raises:
        Permanent: its arguments are too long, or it asks for a part of a GPU.
    """
    name = job_name(attempt.run_id, attempt.step, attempt.attempt, on_cpu)
    needed = step.resources.model_copy(update={"gpu": 0.0}) if on_cpu else step.resources
    request = json.dumps({"attempt": attempt.model_dump(mode="json"), "package": package})
    if len(request.encode()) > _MAX_REQUEST_BYTES:
        raise Permanent(
            f"what the step {attempt.step} is told takes {len(request.encode())} bytes; at most {_MAX_REQUEST_BYTES} are taken. "
            "Write data to a file and pass its path"
        )
    told = {"workflow": attempt.workflow, "run": attempt.run_id, "step": attempt.step, "attempt": str(attempt.attempt)}
    own = {**names.labels(settings.installation, **told), **names.recommended(attempt.step, name, "step", attempt.workflow)}
    notes = {RUN: attempt.run_id, STEP: attempt.step, ATTEMPT: str(attempt.attempt)}
    if needed.gpu and needed.cpu_after is not None:
        notes[CPU_AFTER] = f"{needed.cpu_after:g}"
    container = {
        **_container(settings, "step", "autonomic.platforms.kubernetes.steps.step"),
        "resources": placement.resources(settings, needed),
    }
    container["env"] = [*container["env"], {"name": "AUTONOMIC_STEP", "value": request}]
    pod = {
        **_pod(settings, container, package, parts, step.model_copy(update={"resources": needed})),
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _STEP_STOP_SECONDS,
    }
    if attempt.timeout_seconds is not None:
        pod["activeDeadlineSeconds"] = math.ceil(attempt.timeout_seconds) + DEADLINE_GRACE_SECONDS
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "labels": {**own, **names.version_label()} | ({QUEUE: step.queue} if step.queue else {}),
            "annotations": notes,
        },
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": own, "annotations": notes}, "spec": pod}},
    }


def attempt_of(pod: Manifest) -> Attempt:
    """The attempt that a pod of a Job was made for."""
    env = {each["name"]: each.get("value", "") for each in pod["spec"]["containers"][0]["env"]}
    return Attempt.model_validate(json.loads(env["AUTONOMIC_STEP"])["attempt"])


def detector_name(workflow: str, service: str) -> str:
    """The name of the Deployment that looks for the drift of a service."""
    return names.dns_name(f"drift-{workflow}-{service}")


def detector(settings: KubernetesSettings, workflow: str, service: str, request: Manifest, parts: int) -> Manifest:
    """The Deployment of a service's drift detector, whose pod is told `request`. There is never more than one pod of it."""
    name = detector_name(workflow, service)
    chosen = names.labels(settings.installation, detector=f"{workflow}--{service}")
    own = {
        **names.labels(settings.installation, workflow=workflow, service=service),
        **chosen,
        **names.recommended(service, name, "detector", workflow),
    }
    container = {
        **_container(settings, "detector", "autonomic.platforms.kubernetes.services.detector"),
        "resources": placement.resources(settings, Resources(cpu=0.0)),
    }
    container["env"] = [*container["env"], {"name": "AUTONOMIC_DETECTOR", "value": json.dumps(request, sort_keys=True)}]
    pod = {**_pod(settings, container, request["package"], parts, AppSpec(server={})), "terminationGracePeriodSeconds": _STEP_STOP_SECONDS}
    meta = {"name": name, "namespace": settings.namespace, "labels": {**own, **names.version_label()}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**meta, "annotations": {DETECTOR: request["detector"]}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": chosen},
            "revisionHistoryLimit": 1,
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": own}, "spec": pod},
        },
    }


def secrets(settings: KubernetesSettings) -> list[Manifest]:
    """What pods take from Secrets when they start: where MLflow answers now, and the token of services."""
    told = [(registry_name(settings.installation), "registry", "url", settings.mlflow_url)]
    if settings.service_token:
        told.append((service_token_name(settings.installation), "token", "token", settings.service_token))
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": settings.namespace, "labels": names.own_labels(settings.installation, component)},
            "stringData": {key: value},
        }
        for name, component, key, value in told
    ]


def _from_secret(variable: str, name: str, key: str) -> Manifest:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def _probe(path: str) -> Manifest:
    return {"httpGet": {"path": path, "port": "http"}}


def _container(settings: KubernetesSettings, name: str, module: str) -> Manifest:
    env = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": ":".join(settings.python_path), **settings.env}
    made: Manifest = {
        "name": name,
        "image": settings.image,
        "command": [settings.python, "-P", "-m", module],
        # a pod that starts later than it was described finds MLflow where it is then
        "env": [
            *({"name": key, "value": value} for key, value in env.items() if value),
            _from_secret(REGISTRY_URL, registry_name(settings.installation), "url"),
        ],
        "volumeMounts": [*settings.mounts, {"name": "autonomic-work", "mountPath": WORK}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if settings.image_pull_policy:
        made["imagePullPolicy"] = settings.image_pull_policy
    return made


def _pod(settings: KubernetesSettings, container: Manifest, package: str, parts: int, of: Step | AppSpec) -> Manifest:
    volumes = [*settings.volumes, {"name": "autonomic-work", "emptyDir": {}}]
    if package:
        sources = [
            {
                "configMap": {
                    "name": package_part(settings.installation, package, number),
                    "items": [{"key": "part", "path": f"{number:03d}"}],
                }
            }
            for number in range(parts)
        ]
        volumes.append({"name": "autonomic-package", "projected": {"sources": sources}})
        mounts = [*container["volumeMounts"], {"name": "autonomic-package", "mountPath": PACKAGE, "readOnly": True}]
        container = {**container, "volumeMounts": mounts}
    made: Manifest = {
        "containers": [container],
        "volumes": volumes,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, **settings.security_context},
    }
    if settings.service_account:
        made["serviceAccountName"] = settings.service_account
    if settings.image_pull_secrets:
        made["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    return placement.with_volumes(placement.placed(made, settings, of.resources, of.placement), of.volumes)
