"""What is made on the cluster."""

import json
from pathlib import Path
from typing import Any

import pytest

from autonomic.platforms.host.apps import AppSpec
from autonomic.platforms.kubernetes.objects import in_pod, manifests, names
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.errors import Permanent
from autonomic.workflows.runs.launcher import Attempt
from autonomic.workflows.spec.workflow import Step

OF = {"workflow": "web", "service": "api", "role": "champion"}
MOUNT = {"name": "code", "mountPath": "/code", "readOnly": True}
VOLUME = {"name": "code", "hostPath": {"path": "/code"}}
SETTINGS = KubernetesSettings(
    home=Path("/home"),
    image="image:1",
    image_pull_policy="Never",
    namespace="here",
    python="/venv/bin/python",
    python_path=("/code/src", "/more"),
    env={"OMP_NUM_THREADS": "1"},
    volumes=(VOLUME,),
    mounts=(MOUNT,),
    service_account="pods",
    mlflow_url="http://mlflow",
)


def made(app: str = "web--api--champion--1234", settings: KubernetesSettings = SETTINGS, **spec: Any) -> list[dict[str, Any]]:
    server = {"class": "m:C", "drain_seconds": 10, "package": "", "package_parts": 0, "ask_for_token": False, "server": {"name": "api"}}
    fields = {"server": {**server, **spec.pop("server", {})}, "drain_seconds": 15.0, **spec}
    deployment = manifests.replicas(settings, app, OF, AppSpec.model_validate(fields), 2)
    there = {**deployment, "metadata": {**deployment["metadata"], "uid": "uid-1"}}
    return [*manifests.companions(there), deployment]


def test_replicas_are_a_deployment_that_nothing_owns_and_what_goes_with_it() -> None:
    service, budget, deployment = made(resources={"cpu": 0.5, "memory": 2**30, "gpu": 1})
    for each in (service, budget, deployment):
        assert each["metadata"]["name"] == "web--api--champion--1234"
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "autonomic"
        assert (labels["app.kubernetes.io/name"], labels["app.kubernetes.io/part-of"]) == ("api", "web")
        assert {name: labels[f"autonomic.dev/{name}"] for name in OF} == OF
    # whatever is deleted, it serves on; and what it needs beside it never outlives it
    assert "ownerReferences" not in deployment["metadata"]
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web--api--champion--1234", "uid": "uid-1"}
    assert [each["metadata"]["ownerReferences"] for each in (service, budget)] == [[owner], [owner]]
    template = deployment["spec"]["template"]
    for chosen in (deployment["spec"]["selector"]["matchLabels"], budget["spec"]["selector"]["matchLabels"], service["spec"]["selector"]):
        assert chosen.items() <= template["metadata"]["labels"].items()
    assert service["spec"]["clusterIP"] == "None"
    container = template["spec"]["containers"][0]
    assert container["resources"] == {
        "requests": {"cpu": "500m", "memory": "1073741824", "nvidia.com/gpu": "1"},
        "limits": {"memory": "1073741824", "nvidia.com/gpu": "1"},
    }
    assert container["command"] == ["/venv/bin/python", "-P", "-m", "autonomic.platforms.kubernetes.services.replica"]
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert (env["PYTHONPATH"], env["OMP_NUM_THREADS"]) == ("/code/src:/more", "1")
    assert MOUNT in container["volumeMounts"]
    assert VOLUME in template["spec"]["volumes"]
    assert template["spec"]["automountServiceAccountToken"] is False
    # it serves on, finishes what it has, and is then given some seconds
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] == 2
    assert template["spec"]["terminationGracePeriodSeconds"] == 2 + 15 + 5


def test_a_token_comes_from_a_secret_and_never_stands_in_a_manifest() -> None:
    settings = SETTINGS.model_copy(update={"service_token": "not to be seen"})
    *_, deployment = made(settings=settings, server={"ask_for_token": True})
    env = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["AUTONOMIC_SERVICE_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "autonomic-service-token", "key": "token"}
    assert "not to be seen" not in json.dumps(deployment)
    assert [each["stringData"] for each in manifests.secrets(settings)] == [{"url": "http://mlflow"}, {"token": "not to be seen"}]


def test_no_pod_holds_the_address_of_mlflow_that_it_was_made_with() -> None:
    """A pod asks for it when it starts: MLflow may be elsewhere by then."""
    request = {"detector": "0123", "package": "", "champion": "models:/mnist/1"}
    pods_of = [
        made()[-1]["spec"]["template"]["spec"],
        manifests.job(SETTINGS, step(), attempt(tracking_uri=SETTINGS.mlflow_url), "", 0)["spec"]["template"]["spec"],
        manifests.detector(SETTINGS, "web", "api", request, 0)["spec"]["template"]["spec"],
    ]
    for pod in pods_of:
        env = {each["name"]: each for each in pod["containers"][0]["env"]}
        found = env[manifests.REGISTRY_URL]["valueFrom"]["secretKeyRef"]
        assert found == {"name": manifests.registry_name("autonomic"), "key": "url"}
    assert "http://mlflow" not in json.dumps([pods_of[0], pods_of[2]])


def test_pods_run_as_whom_the_settings_say_and_are_scraped() -> None:
    user = {"runAsNonRoot": True, "runAsUser": 10002}
    settings = SETTINGS.model_copy(update={"security_context": user})
    template = made(settings=settings)[-1]["spec"]["template"]
    job = manifests.job(settings, step(), attempt(), "", 0)["spec"]["template"]
    for pod in (template["spec"], job["spec"]):
        assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}, **user}
    notes = {name: text for name, text in template["metadata"]["annotations"].items() if name.startswith("prometheus.io/")}
    assert notes == {"prometheus.io/scrape": "true", "prometheus.io/port": "8000", "prometheus.io/path": "/metrics"}
    assert not any(name.startswith("prometheus.io/") for name in job["metadata"]["annotations"])


def test_code_is_mounted_in_parts() -> None:
    *_, deployment = made(server={"package": "sha256-abc", "package_parts": 2})
    pod = deployment["spec"]["template"]["spec"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "autonomic-package"]
    parts = [source["configMap"] for source in volume["projected"]["sources"]]
    assert [part["name"] for part in parts] == [manifests.package_part("autonomic", "sha256-abc", number) for number in (0, 1)]
    assert [part["items"][0]["path"] for part in parts] == ["000", "001"]
    assert any(mount["mountPath"] == in_pod.PACKAGE for mount in pod["containers"][0]["volumeMounts"])


def test_another_number_of_replicas_changes_nothing_else() -> None:
    *_, deployment = made()
    changed = manifests.with_replicas(deployment, 5, epoch=7, version="42")
    assert changed["metadata"]["annotations"] == {"autonomic.dev/app": "web--api--champion--1234", "autonomic.dev/epoch": "7"}
    assert changed["metadata"]["resourceVersion"] == "42"
    assert changed["spec"]["replicas"] == 5
    assert {**changed["spec"], "replicas": 2} == deployment["spec"]
    assert "resourceVersion" not in manifests.with_replicas(deployment, 5, epoch=7, version="")["metadata"]
    assert deployment["spec"]["replicas"] == 2


def test_long_names_are_cut_and_stay_different() -> None:
    apps = [f"{'w' * 53}--{'s' * 53}--champion--{number}" for number in range(2)]
    deployments = [made(app)[-1] for app in apps]
    found = [each["metadata"]["name"] for each in deployments]
    assert found[0] != found[1]
    assert all(len(name) <= 46 for name in found)
    assert [each["metadata"]["annotations"]["autonomic.dev/app"] for each in deployments] == apps
    assert len(deployments[0]["spec"]["selector"]["matchLabels"]["autonomic.dev/app"]) <= 63


@pytest.mark.parametrize("text", ["web", "9lives", "Web_App", "x" * 80, "a--b", "-", "ü"])
def test_names_are_names_for_every_kind_of_object(text: str) -> None:
    import re

    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", names.dns_name(text))
    assert len(names.dns_name(text)) <= 46
    assert re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?", names.label_value(text))
    assert len(names.label_value(text)) <= 63


def attempt(**fields: Any) -> Attempt:
    given: dict[str, Any] = {
        "run_id": "run-1",
        "workflow": "job",
        "step": "train",
        "attempt": 2,
        "run": "m:f",
        "command": None,
        "arguments": {"x": 1},
        "folder": "/data/runs/run-1/train",
        "models_cache": "/data/models",
    }
    return Attempt.model_validate({**given, **fields})


def step(**fields: Any) -> Step:
    return Step.model_validate({"name": "train", "run": "m:f", **fields})


def test_an_attempt_is_a_job_that_tries_once() -> None:
    job = manifests.job(SETTINGS, step(resources={"cpu": 2, "memory": "1Gi"}), attempt(timeout_seconds=60.5), "", 0)
    assert job["metadata"]["name"] == "run-1-train-2"
    assert "ownerReferences" not in job["metadata"]
    assert job["spec"]["backoffLimit"] == 0
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["activeDeadlineSeconds"] == 66
    assert pod["containers"][0]["resources"]["requests"] == {"cpu": "2000m", "memory": "1073741824"}
    notes = job["spec"]["template"]["metadata"]["annotations"]
    assert notes == {"autonomic.dev/run": "run-1", "autonomic.dev/step": "train", "autonomic.dev/attempt": "2"}
    env = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert Attempt.model_validate(json.loads(env["AUTONOMIC_STEP"])["attempt"]) == attempt(timeout_seconds=60.5)
    assert "activeDeadlineSeconds" not in manifests.job(SETTINGS, step(), attempt(), "", 0)["spec"]["template"]["spec"]


def test_what_kubernetes_cannot_give_is_said() -> None:
    with pytest.raises(Permanent, match="whole ones only"):
        manifests.job(SETTINGS, step(resources={"gpu": 0.5}), attempt(), "", 0)
    with pytest.raises(Permanent, match="pass its path"):
        manifests.job(SETTINGS, step(), attempt(arguments={"x": "y" * 200_000}), "", 0)


def test_a_detector_is_one_pod_that_is_told_what_to_watch_and_no_replica() -> None:
    request = {"detector": "0123", "package": "sha256-1", "champion": "models:/mnist/1"}
    made = manifests.detector(SETTINGS, "web", "api", request, 1)
    assert made["metadata"]["name"] == manifests.detector_name("web", "api") == "drift-web-api"
    assert "ownerReferences" not in made["metadata"]
    assert made["metadata"]["annotations"] == {manifests.DETECTOR: "0123"}
    assert (made["spec"]["replicas"], made["spec"]["strategy"]) == (1, {"type": "Recreate"})
    template = made["spec"]["template"]
    chosen = made["spec"]["selector"]["matchLabels"]
    assert chosen.items() <= template["metadata"]["labels"].items()
    # nothing that looks for replicas finds it
    assert not {"autonomic.dev/app", "autonomic.dev/role"} & set(template["metadata"]["labels"])
    assert manifests.APP not in template["metadata"].get("annotations", {})
    container = template["spec"]["containers"][0]
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert json.loads(env["AUTONOMIC_DETECTOR"]) == request
    assert "autonomic-package" in [volume["name"] for volume in template["spec"]["volumes"]]
    assert template["spec"]["automountServiceAccountToken"] is False


def test_a_busy_node_costs_no_replica_its_life() -> None:
    """A little CPU is asked for by whatever asks for none, and only minutes without an answer end a process."""
    (container,) = made(resources={"cpu": 0})[-1]["spec"]["template"]["spec"]["containers"]
    liveness, readiness = container["livenessProbe"], container["readinessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 180
    assert readiness["periodSeconds"] * readiness["failureThreshold"] <= 3
    request = {"detector": "0123", "package": "", "champion": "models:/mnist/1"}
    pods_of = [
        container,
        manifests.job(SETTINGS, step(resources={"cpu": 0}), attempt(), "", 0)["spec"]["template"]["spec"]["containers"][0],
        manifests.detector(SETTINGS, "web", "api", request, 0)["spec"]["template"]["spec"]["containers"][0],
    ]
    assert [pod["resources"]["requests"]["cpu"] for pod in pods_of] == ["100m"] * 3
