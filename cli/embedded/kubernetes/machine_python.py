"""Pods of the local cluster that run the Python of this machine: no image has to be built, and what they import is what is here."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import autonomic

_PROGRAMS = ("/usr", "/lib", "/lib64", "/bin")


def cluster_settings(kubeconfig: Path, host_address: str, data: Path, namespace: str = "default") -> dict[str, Any]:
    """What a `cluster.yaml` says for a local cluster: pods run this Python, and share the folder `data` with this machine."""
    given = {"kubeconfig": str(kubeconfig), "namespace": namespace, "host_address": host_address, "data_path": str(data)}
    pods = pod_settings(data)
    return {**given, **{name: list(value) if isinstance(value, tuple) else value for name, value in pods.items()}}


def pod_settings(writable: Path, readable: Iterable[Path] = ()) -> dict[str, Any]:
    """The fields of `KubernetesSettings` that say what pods run: this Python, with what it imports, on the local cluster's image.

    Pods see the folder `writable` (the place for `data_path`) and those of `readable` where they are on this machine.
    """
    package = Path(next(iter(autonomic.__path__)))
    # in a checkout the package's folders are links to those beside src
    checkout = (package / "workflows").resolve().parent
    code = [checkout] if package.is_relative_to(checkout) else [package.parent, checkout]
    shared = [*map(Path, _PROGRAMS), Path(sys.base_prefix), Path(sys.prefix), *code, *readable, writable]
    folders = {f"host-{number}": path for number, path in enumerate(dict.fromkeys(shared)) if path.is_dir()}
    return {
        "image": "autonomic.local/host:1",
        "image_pull_policy": "Never",
        "python": sys.executable,
        "python_path": (str(package.parent),),
        "env": {"OMP_NUM_THREADS": "1", "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/busybox"},
        "volumes": tuple({"name": name, "hostPath": {"path": str(path), "type": "Directory"}} for name, path in folders.items()),
        "mounts": tuple({"name": name, "mountPath": str(path), "readOnly": path != writable} for name, path in folders.items()),
    }
