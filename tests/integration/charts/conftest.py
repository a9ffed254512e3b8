"""Helm, and a release of the chart whose pods run the Python of this machine."""

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from autonomic.cli.embedded.kubernetes import helm as built_helm
from autonomic.cli.embedded.kubernetes.machine_python import pod_settings
from autonomic.cli.embedded.prometheus_server import PrometheusServer
from autonomic.strategies.crds.definitions import files
from autonomic.workflows.serving.model import save_model

if TYPE_CHECKING:
    from conftest import Kubernetes  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "charts" / "autonomic"
PARTS = ("monitor", "planner", "tuner", "host")
Helm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Types `helm` with these arguments."""
    program = built_helm.ensure()

    def typed(*arguments: str, kubeconfig: Path | None = None) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig or os.devnull)}
        return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False, env=environment)

    return typed


class Release:
    """The chart, installed in a namespace of its own."""

    name = "trial"
    full_name = "trial-autonomic"
    chart = CHART

    def __init__(self, cluster: "Kubernetes", helm: Helm, home: Path) -> None:
        program = cluster.local.kubectl if cluster.local else shutil.which("kubectl")
        assert program, "kubectl is not on PATH"
        self.cluster, self.home, self._helm, self._program = cluster, home, helm, str(program)
        self.namespace = f"charts-{secrets.token_hex(4)}"
        self.targets = home / "targets.json"
        self.targets.write_text("[]")
        scraped = [{"job_name": "pods", "file_sd_configs": [{"files": [str(self.targets)]}]}]
        rules = [ROOT / "deploy" / "prometheus" / "autonomic.rules.yaml"]
        self.prometheus = PrometheusServer.start(home / "prometheus", scraped, interval="500ms", address=cluster.host_address, rules=rules)

    def values(self) -> dict[str, Any]:
        """Pods run the Python of this machine, and see this checkout where it is."""
        given = pod_settings(self.home / "models")
        image, _, tag = given["image"].partition(":")
        volumes, mounts = list(given["volumes"]), list(given["mounts"])
        return {
            "image": {"repository": image, "tag": tag, "pullPolicy": given["image_pull_policy"]},
            "python": given["python"],
            "env": {"PYTHONPATH": ":".join(given["python_path"]), **given["env"]},
            "volumes": volumes,
            "volumeMounts": mounts,
            "persistence": {"storageClassName": ""},
            "prometheus": {"url": self.prometheus.url},
            "customResources": {"enabled": True},
            "platform": {
                "volumes": volumes,
                "mounts": mounts,
                "python_path": list(given["python_path"]),
                "env": given["env"],
                "security_context": {"runAsNonRoot": True, "runAsUser": 10002, "runAsGroup": 10002},
                "stop_seconds": 1,
            },
        }

    def prepare(self) -> None:
        """A namespace, our kinds, and the volumes that an administrator would have a storage class for."""
        self.kubectl("create", "namespace", self.namespace)
        self.kubectl("apply", "--server-side", "-f", "-", text="---\n".join(files().values()))
        for part in PARTS[:3]:
            folder = self.home / "volumes" / part
            folder.mkdir(parents=True)
            folder.chmod(0o777)
            volume = {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"{self.namespace}-{part}"},
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "hostPath": {"path": str(folder)},
                    "claimRef": {"namespace": self.namespace, "name": f"{self.full_name}-{part}"},
                },
            }
            self.kubectl("create", "-f", "-", text=json.dumps(volume))

    def install(self) -> None:
        path = self.home / "values.yaml"
        path.write_text(yaml.safe_dump(self.values()))
        done = self.helm("install", self.name, str(CHART), "--values", str(path), "--wait", "--timeout", "180s")
        assert done.returncode == 0, f"{done.stderr}\n{self.kubectl('get', 'pods,events')}\n{self.logs()}"

    def helm(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self._helm(*arguments, "--namespace", self.namespace, kubeconfig=self.cluster.kubeconfig)

    def run(self, *arguments: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
        command = [self._program, f"--kubeconfig={self.cluster.kubeconfig}", "--namespace", self.namespace, *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False)

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        done = self.run(*arguments, text=text)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def autonomic(self, *arguments: str) -> str:
        """`autonomic` in the pod of the planner, as an operator types it."""
        return self.kubectl("exec", f"deployment/{self.full_name}-planner", "--", sys.executable, "-m", "autonomic.cli.main", *arguments)

    def ask_planner(self, path: str) -> Any:
        """What the planner answers at `path`: the items of a page, or a text."""
        token = json.loads(base64.b64decode(self.get("secret", f"{self.full_name}-tokens")["data"]["tokens.json"]))["read"]
        address = self.get("service", f"{self.full_name}-planner")["spec"]["clusterIP"]
        url, headers = f"http://{address}:8000{path}", {"Authorization": f"Bearer {token}"}
        answer = httpx.get(url, headers=headers, trust_env=False, timeout=30).raise_for_status()
        return answer.json()["items"] if answer.headers["content-type"].startswith("application/json") else answer.text

    def logs(self) -> str:
        return "\n".join(self.run("logs", f"deployment/{self.full_name}-{part}", "--tail=15").stdout for part in PARTS)

    def scrape(self) -> None:
        """Tells Prometheus of the pods that ask for it, as its Kubernetes discovery would, which not every build has."""
        groups: list[dict[str, Any]] = []
        for pod in self.get("pods")["items"]:
            notes = pod["metadata"].get("annotations", {})
            if notes.get("prometheus.io/scrape") == "true" and pod["status"].get("podIP"):
                labels = {"pod": pod["metadata"]["name"], "namespace": self.namespace, "__metrics_path__": notes["prometheus.io/path"]}
                groups.append({"targets": [f"{pod['status']['podIP']}:{notes['prometheus.io/port']}"], "labels": labels})
        partial = self.targets.with_suffix(".new")
        partial.write_text(json.dumps(groups))
        partial.rename(self.targets)

    def until(self, true: Callable[[], Any], what: str, seconds: float = 180) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}\n{self.kubectl('get', 'all')}\n{self.logs()}"
            time.sleep(0.1)
        return found

    def model(self) -> str:
        """The address of a tiny real model."""
        import torch

        folder = save_model(
            torch.nn.Linear(4, 3),
            self.home / "models" / "tiny",
            architecture="torch.nn:Linear",
            kwargs={"in_features": 4, "out_features": 3},
            inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            outputs=[{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
            postprocess="classifier",
        )
        return f"file://{folder}"

    def close(self) -> None:
        self.prometheus.stop()
        self.run("delete", "namespace", self.namespace, "--wait=false")
        self.run("delete", "persistentvolume", *(f"{self.namespace}-{part}" for part in PARTS[:3]), "--wait=false")


@pytest.fixture(scope="module")
def release(kubernetes: "Kubernetes", helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """The chart, installed and ready."""
    home = tmp_path_factory.mktemp("release")
    (home / "models").mkdir()
    made = Release(kubernetes, helm, home)
    try:
        made.prepare()
        made.install()
        yield made
    finally:
        made.close()
