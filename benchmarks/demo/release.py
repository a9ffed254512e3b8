"""The agents and the host in pods of a local cluster, by the chart; MLflow and Prometheus beside the cluster."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from autonomic.agents.auth import Tokens
from autonomic.agents.settings import Settings
from autonomic.cli.embedded.kubernetes import helm, machine_python
from autonomic.cli.embedded.kubernetes.cluster import LocalCluster
from autonomic.cli.embedded.mlflow_server import MlflowServer
from autonomic.cli.embedded.prometheus_server import PrometheusServer
from autonomic.platforms.kubernetes.objects.in_pod import WORK
from autonomic.seams.errors import Permanent
from autonomic.workflows.processes import free_port

CHART = Path(__file__).parents[2] / "deploy" / "charts" / "autonomic"
NAMESPACE = "demo"
_AGENTS = ("monitor", "planner", "tuner")
# the chart's user: pods of workflows are of the same one, since they and the host share the prediction logs
_USER = 10001
_RUN_AS = {"runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER}
# the local cluster's image knows no such user, and has no folder of theirs
_NOBODY = {"HOME": WORK, "TMPDIR": WORK, "USER": "autonomic"}
_READY_SECONDS = 180
_NAME = "autonomic"


class Release:
    """What an operator would install on a cluster: the chart, with an MLflow and a Prometheus that pods reach."""

    def __init__(self, home: Path, cluster: LocalCluster, report: Callable[[str, str], None], readable: tuple[Path, ...]) -> None:
        self._home = home
        self._cluster = cluster
        self._report = report
        self._readable = readable
        self._mlflow: MlflowServer | None = None
        self._prometheus: PrometheusServer | None = None

    def install(self) -> Settings:
        """Returns where the parts answer, once all are ready."""
        self._kubectl("create", "namespace", NAMESPACE)
        address = self._cluster.host_address
        self._mlflow = MlflowServer.start(self._home / "mlflow", address=address)
        self._report("mlflow", self._mlflow.url)
        for agent in _AGENTS:
            self._kubectl("create", "--filename=-", text=json.dumps(self._volume(agent)))
        tokens = Tokens.load(self._home / "tokens.json")
        self._kubectl("create", "secret", "generic", "tokens", f"--from-file={self._home / 'tokens.json'}")
        port = free_port()
        self._helm(self._values(f"http://{address}:{port}", self._mlflow.url))
        urls = {part: f"http://{self._address(part)}:8000" for part in (*_AGENTS, "host")}
        self._prometheus = PrometheusServer.start(self._home / "prometheus", _scraped(urls, tokens["host"]), port, "1s", address=address)
        self._report("prometheus", self._prometheus.url)
        for part, url in urls.items():
            self._wait_ready(part)
            self._report(part, f"{url}, in a pod")
        front_url = f"http://{self._address('front')}:8080"
        others = {"front_url": front_url, "prometheus_url": self._prometheus.url, "mlflow_url": self._mlflow.url}
        answering = {f"{part}_url": url for part, url in urls.items()}
        return Settings.model_validate({"home": self._home, "platform": "kubernetes", **answering, **others})

    def stop(self) -> None:
        """Stops what runs beside the cluster."""
        for part in (self._prometheus, self._mlflow):
            if part is not None:
                part.stop()

    def _values(self, prometheus_url: str, mlflow_url: str) -> dict[str, Any]:
        data = self._home / "data"
        data.mkdir()
        os.chown(data, _USER, _USER)
        pods = json.loads(json.dumps(machine_python.pod_settings(data, self._readable)))
        repository, _, tag = pods.pop("image").partition(":")
        python_path = ":".join(pods["python_path"])
        return {
            "image": {"repository": repository, "tag": tag, "pullPolicy": pods.pop("image_pull_policy")},
            "python": sys.executable,
            "env": {"PYTHONPATH": python_path, "PATH": pods["env"]["PATH"]},
            "volumes": pods["volumes"],
            "volumeMounts": pods["mounts"],
            "persistence": {"storageClassName": ""},
            "prometheus": {"url": prometheus_url},
            "mlflow": {"url": mlflow_url},
            "tokens": {"existingSecret": "tokens"},
            "platform": {**pods, "env": {**pods["env"], **_NOBODY}, "data_path": str(data), "security_context": _RUN_AS},
        }

    def _volume(self, agent: str) -> dict[str, Any]:
        # what a storage class would do; a local cluster has none
        folder = self._home / "volumes" / agent
        folder.mkdir(parents=True)
        os.chown(folder, _USER, _USER)
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{NAMESPACE}-{agent}"},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": str(folder)},
                "claimRef": {"namespace": NAMESPACE, "name": f"{_NAME}-{agent}"},
            },
        }

    def _helm(self, values: dict[str, Any]) -> None:
        file = self._home / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        command = [str(helm.ensure(self._report)), "install", _NAME, str(CHART), f"--namespace={NAMESPACE}", f"--values={file}"]
        environment = {**os.environ, "KUBECONFIG": str(self._cluster.kubeconfig)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise Permanent(f"helm install failed: {done.stderr.strip()}")

    def _wait_ready(self, part: str) -> None:
        deployment = f"deployment/{_NAME}-{part}"
        try:
            self._kubectl("rollout", "status", deployment, f"--timeout={_READY_SECONDS}s")
        except Permanent as late:
            log = self._kubectl("logs", deployment, "--tail=30", "--ignore-errors")
            raise Permanent(f"{late}\n{self._kubectl('get', 'pods', '--output=wide')}\n{log}") from None

    def _address(self, part: str) -> str:
        return self._kubectl("get", "service", f"{_NAME}-{part}", "--output=jsonpath={.spec.clusterIP}")

    def _kubectl(self, *arguments: str, text: str | None = None) -> str:
        return self._cluster.run_kubectl(f"--namespace={NAMESPACE}", *arguments, text=text)


def _scraped(urls: dict[str, str], token: str) -> list[dict[str, object]]:
    targets = {part: url.removeprefix("http://") for part, url in urls.items()}
    credentials = {"type": "Bearer", "credentials": token}
    return [
        {"job_name": "agents", "static_configs": [{"targets": [targets[agent]], "labels": {"agent": agent}} for agent in _AGENTS]},
        {"job_name": "host", "static_configs": [{"targets": [targets["host"]]}]},
        {
            "job_name": "services",
            "honor_labels": True,
            "http_sd_configs": [{"url": f"{urls['host']}/v1/sd", "refresh_interval": "1s", "authorization": credentials}],
        },
    ]
