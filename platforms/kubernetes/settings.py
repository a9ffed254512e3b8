"""What the Kubernetes platform is told of a cluster."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from autonomic.seams.errors import Permanent
from autonomic.seams.word import Word


class Accelerator(Word):
    """GPUs of one type: the extended resource they are, the labels of the nodes that have them, and the taints of these nodes."""

    resource: str = "nvidia.com/gpu"
    nodes: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()


class KubernetesSettings(Word):
    """`home` is a folder of the writer's own; the front and downloaded models are kept in it.

    `kubeconfig` "" takes the pod's own service account where there is one, else KUBECONFIG, else ~/.kube/config; `context`
    "" takes the current one. Everything is made in `namespace`, which must be there. Two installations in one namespace
    need different names (`installation`).

    Pods run `image`, in which `python` (a program) must find this package, by itself or through `python_path`. `volumes`,
    `mounts` and `security_context` (of the pod) are added to every pod as Kubernetes writes them. `data_path` is a folder
    that is the same in all pods and for the writer (a mount): steps work there, find what an earlier attempt left, and can
    hand paths on; prediction logs are kept there. Without it each pod has an empty folder of its own, and there is no
    prediction log.

    `accelerators` says what a type of GPU in `resources.accelerator` is on this cluster; of one that is not listed, it is the value
    of the nodes' label `accelerator_label`.

    `server` is the class that each replica starts (`package.module:Class`). `mlflow_url` is the address of MLflow for the
    pods, and for the writer; "" stands for the one that `autonomic up` starts, which then listens on `host_address`, an
    address of this machine that pods reach. Services answer on `front_address` (0.0.0.0: on every address) at `front_port`
    (0: a free one); callers find them at `front_url`, by default at that address. Durations are seconds: `stop_seconds` is
    how long a replica is still served from after it was told to stop, `ready_seconds` how long a deploy or an upgrade may
    take, `request_seconds` how long one answer of the API server. With `custom_resources` the planner puts in force the
    Workflow and Strategy objects of the namespace.
    """

    home: Path
    kubeconfig: str = ""
    context: str = ""
    namespace: str = "default"
    installation: str = Field(default="autonomic", pattern=r"^[a-z0-9]([-a-z0-9]{0,29}[a-z0-9])?$")
    image: str
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str = ""
    security_context: dict[str, Any] = {}
    python: str = "python"
    python_path: tuple[str, ...] = ()
    env: dict[str, str] = {}
    volumes: tuple[dict[str, Any], ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    accelerators: dict[str, Accelerator] = {}
    accelerator_label: str = "nvidia.com/gpu.product"
    data_path: str = ""
    server: str = "autonomic.workflows.serving.server:ModelServer"
    mlflow_url: str = ""
    host_address: str = ""
    service_token: str = ""
    front_address: str = "127.0.0.1"
    front_port: int = 0
    front_url: str = ""
    stop_seconds: int = Field(default=2, ge=1)
    ready_seconds: float = 180.0
    request_seconds: float = 15.0
    custom_resources: bool = False

    @property
    def folder(self) -> Path:
        """Where the writer keeps its files."""
        return self.home / "host"


def read_settings(path: Path, home: Path, **more: object) -> KubernetesSettings:
    """The settings in a YAML or JSON file; the folder `home` and `more` are not the file's to say.

    Raises:
        Permanent: it is not there or not valid; says what is wrong.
    """
    import yaml

    try:
        written = yaml.safe_load(path.read_text())
        if not isinstance(written, dict):
            raise Permanent(f"{path} holds no settings of the Kubernetes platform: it is a {type(written).__name__}, not a mapping")
        return KubernetesSettings.model_validate({**written, "home": home, **more})
    except OSError as missing:
        raise Permanent(f"The settings of the Kubernetes platform cannot be read: {missing}") from None
    except (yaml.YAMLError, ValidationError) as invalid:
        raise Permanent(f"{path} is not valid: {invalid}") from None
