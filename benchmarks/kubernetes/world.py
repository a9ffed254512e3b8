"""A real cluster on this machine and the system beside it, as `autonomic cluster up` and `autonomic up` start them."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from autonomic.cli.embedded.kubernetes.cluster import LocalCluster
from autonomic.cli.embedded.kubernetes.supervisor import Options
from autonomic.cli.system import System
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from benchmarks.demo.api import Api
from benchmarks.kubernetes.audit import AuditLog

ROOT = Path(__file__).parents[2]
NAMESPACE = "benchmark"
HOST_USER = f"system:serviceaccount:{NAMESPACE}:host"
MODEL = "model"


class World:
    """The cluster, and a system whose host has the rights of docs/kubernetes.md and no others. To be used as a context."""

    def __init__(
        self, home: Path, options: Options, *, metrics_interval: str = "1s", env: dict[str, str] | None = None, **more: Any
    ) -> None:
        self.home = home
        shutil.copytree(ROOT / "tests" / "light" / "model", home / MODEL)
        (home / "data").mkdir()
        self.cluster = LocalCluster.start(home / "cluster", replace(options, audit=True), tied=True)
        try:
            self.audit = AuditLog(home / "cluster" / "logs" / "audit.log")
            self.kubectl("create", "namespace", NAMESPACE)
            given = self._settings()
            self.settings = KubernetesSettings.model_validate({**given, "env": {**given["env"], **(env or {})}, **more})
            self.system = System(home / "system", metrics_interval=metrics_interval, kubernetes=self.settings)
            self.urls = self.system.start()
        except BaseException:
            self.cluster.stop()
            raise
        self.api = Api(self.urls)

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.audit.close()
        self.api.close()
        self.system.stop()
        self.cluster.stop()

    @property
    def model(self) -> str:
        """The address of a model folder that pods see."""
        return f"file://{self.home / MODEL}"

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """What kubectl prints, as the cluster's administrator."""
        return self.cluster.run_kubectl(*arguments, text=text)

    def apply(self, *documents: dict[str, Any]) -> None:
        """Puts documents in force."""
        self.api.post("planner", "/v1/apply", {"documents": list(documents)})

    def rescale(self, target: str, replicas: int) -> None:
        """A person's rescale, by the planner's REST interface.

        Raises:
            RuntimeError: it was not planned.
        """
        record = self.api.post("planner", "/v1/primitives/rescale", {"target": target, "args": {"to": replicas}})
        if not record["plan"]:
            raise RuntimeError(f"the rescale of {target} was not planned: {record}")

    def _settings(self) -> dict[str, Any]:
        # pods run the Python of this machine, and see this checkout and the model where they are
        shared = [*("/usr", "/lib", "/lib64", "/bin"), sys.base_prefix, sys.prefix, str(ROOT), str(self.home)]
        folders = {f"host-{number}": path for number, path in enumerate(dict.fromkeys(shared)) if Path(path).is_dir()}
        return {
            "home": self.home / "system",
            "kubeconfig": str(self._credentials()),
            "namespace": NAMESPACE,
            "image": "autonomic.local/host:1",
            "image_pull_policy": "Never",
            "python": sys.executable,
            "python_path": (str(ROOT / "src"), str(ROOT)),
            "env": {"PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/busybox"},
            "volumes": tuple({"name": name, "hostPath": {"path": path, "type": "Directory"}} for name, path in folders.items()),
            "mounts": tuple({"name": name, "mountPath": path, "readOnly": True} for name, path in folders.items()),
            "data_path": str(self.home / "data"),
            "host_address": self.cluster.host_address,
            "server": "benchmarks.kubernetes.server:WorkServer",
            "stop_seconds": 1,
        }

    def _credentials(self) -> Path:
        text = (ROOT / "docs" / "kubernetes.md").read_text()
        role = yaml.safe_load(next(block for block in text.split("```yaml")[1:] if "kind: Role" in block).partition("```")[0])
        role["metadata"]["namespace"] = NAMESPACE
        inside = f"--namespace={NAMESPACE}"
        self.kubectl("create", "serviceaccount", "host", inside)
        self.kubectl("apply", "-f", "-", text=yaml.safe_dump(role))
        self.kubectl("create", "rolebinding", "host", f"--role={role['metadata']['name']}", f"--serviceaccount={NAMESPACE}:host", inside)
        token = self.kubectl("create", "token", "host", "--duration=12h", inside).strip()
        config = yaml.safe_load(self.cluster.kubeconfig.read_text())
        config["users"] = [{**user, "user": {"token": token}} for user in config["users"]]
        path = self.home / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path
