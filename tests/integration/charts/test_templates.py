"""What the chart makes of its values, judged by Helm and by the API server."""

import json
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from autonomic import __version__
from autonomic.agents.settings import Settings
from autonomic.platforms.kubernetes.settings import KubernetesSettings

CHART = Path(__file__).parents[3] / "deploy" / "charts" / "autonomic"
# what the chart says itself, or what means nothing in a pod
NOT_VALUES = {
    *("home", "kubeconfig", "context", "namespace", "installation", "mlflow_url", "host_address", "service_token"),
    *("front_address", "front_port", "front_url", "custom_resources"),
}


@pytest.fixture(scope="module")
def rendered(helm: Any) -> Callable[..., list[dict[str, Any]]]:
    def made(*values: str) -> list[dict[str, Any]]:
        done = helm("template", "ours", str(CHART), "--namespace", "ml", *(part for value in values for part in ("--set", value)))
        assert done.returncode == 0, done.stderr
        return [one for one in yaml.safe_load_all(done.stdout) if one]

    return made


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def test_the_chart_is_sound(helm: Any) -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nonsense=1", "nonsense"),
        ("persistence.size=big", "/persistence/size"),
        ("front.service.port=80", "/front/service/port"),
        ("prometheus.url=prometheus", "/prometheus/url"),
        ("platform.nonsense=1", "/platform"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("persistence.enabled=false", "the journal needs a place that outlives pods"),
    ],
)
def test_a_value_that_cannot_be_is_refused(helm: Any, value: str, said: str) -> None:
    done = helm("template", "ours", str(CHART), "--set", value)
    assert done.returncode != 0
    assert said in done.stderr


def test_a_long_name_is_refused(helm: Any) -> None:
    done = helm("template", "a-name-that-is-rather-long-for-us", str(CHART))
    assert done.returncode != 0
    assert "31 are allowed" in done.stderr


def test_the_agents_understand_what_they_are_told(rendered: Any) -> None:
    told = of_kind(rendered("customResources.enabled=true", "platform.stop_seconds=7", "mlflow.url=http://mlflow:5000/"), "ConfigMap")
    data = told["ours-autonomic"]["data"]
    settings = Settings.model_validate_json(data["settings.json"])
    assert settings.custom_resources
    assert settings.mlflow_url == "http://mlflow:5000"
    platform = KubernetesSettings.model_validate({**json.loads(data["kubernetes.json"]), "home": "/"})
    assert (platform.stop_seconds, platform.namespace, platform.installation) == (7, "ml", "ours-autonomic")


def test_the_chart_is_of_this_version() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_every_setting_of_the_platform_is_a_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"]["platform"]["properties"].keys() == KubernetesSettings.model_fields.keys() - NOT_VALUES


def test_rights_are_given_to_those_who_need_them_and_in_the_namespace_only(rendered: Any) -> None:
    without, with_objects = rendered(), rendered("customResources.enabled=true")
    assert list(of_kind(without, "Role")) == ["ours-autonomic-host"]
    assert sorted(of_kind(with_objects, "Role")) == ["ours-autonomic-host", "ours-autonomic-planner"]
    assert not of_kind(with_objects, "ClusterRole") | of_kind(with_objects, "ClusterRoleBinding")
    (nodes,) = of_kind(rendered("rbac.nodes=true"), "ClusterRole").values()
    assert nodes["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}]
    deployments = of_kind(with_objects, "Deployment")
    mounted = {name for name, one in deployments.items() if one["spec"]["template"]["spec"]["automountServiceAccountToken"]}
    assert mounted == {"ours-autonomic-planner", "ours-autonomic-host"}


def test_the_environment_that_is_given_goes_before_the_usual_one(rendered: Any) -> None:
    deployments = of_kind(rendered("env.OMP_NUM_THREADS=four", "env.MORE=x", "env.AUTONOMIC_HOME=/elsewhere"), "Deployment")
    for one in deployments.values():
        variables = one["spec"]["template"]["spec"]["containers"][0]["env"]
        named = {variable["name"]: variable["value"] for variable in variables}
        assert len(named) == len(variables)
        assert (named["OMP_NUM_THREADS"], named["MORE"], named["AUTONOMIC_HOME"]) == ("four", "x", "/var/lib/autonomic")


def test_a_journal_in_postgresql_needs_no_volumes(rendered: Any) -> None:
    objects = rendered("persistence.enabled=false", "journal.existingSecret=database")
    assert not of_kind(objects, "PersistentVolumeClaim")
    environment = of_kind(objects, "Deployment")["ours-autonomic-monitor"]["spec"]["template"]["spec"]["containers"][0]["env"]
    (given,) = [one for one in environment if one["name"] == "AUTONOMIC_JOURNAL_URL"]
    assert given["valueFrom"]["secretKeyRef"] == {"name": "database", "key": "url"}


@pytest.fixture
def restricted(kubernetes: Any) -> Iterator[Callable[..., str]]:
    """kubectl in a namespace that admits only pods of the Pod Security Standard `restricted`."""
    program = kubernetes.local.kubectl if kubernetes.local else shutil.which("kubectl")
    name = f"restricted-{secrets.token_hex(4)}"

    def kubectl(*arguments: str, documents: list[dict[str, Any]] | None = None) -> str:
        command = [str(program), f"--kubeconfig={kubernetes.kubeconfig}", "--namespace", name, *arguments]
        text = yaml.safe_dump_all(documents) if documents else None
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield kubectl
    kubectl("delete", "namespace", name, "--wait=false")


def test_the_api_server_takes_every_object_and_the_pods_are_restricted(helm: Any, restricted: Any) -> None:
    done = helm(
        "template",
        "ours",
        str(CHART),
        "--set",
        "customResources.enabled=true,networkPolicy.frontFrom[0].namespaceSelector.matchLabels.team=web",
    )
    objects = [one for one in yaml.safe_load_all(done.stdout) if one]
    accounts = list(of_kind(objects, "ServiceAccount").values())
    restricted("create", "-f", "-", documents=accounts)
    restricted("create", "--dry-run=server", "-f", "-", documents=[one for one in objects if one not in accounts])
    templates = [one["spec"]["template"] for one in of_kind(objects, "Deployment").values()]
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {**one["metadata"], "name": f"pod-{number}"}, "spec": one["spec"]}
        for number, one in enumerate(templates)
    ]
    assert len(restricted("create", "--dry-run=server", "-f", "-", documents=pods).splitlines()) == 4
