"""KEDA in a local cluster, for those who ask for it: its operator and its metrics adapter, built from their Go module."""

import base64
from pathlib import Path

from autonomic.workflows.embedded.kubernetes import build, images, pki
from autonomic.workflows.embedded.kubernetes.build import DATA, Module
from autonomic.workflows.embedded.kubernetes.node import render

NAMESPACE = "keda"
DEPLOYMENTS = ("keda-operator", "keda-metrics-apiserver")
IMAGE = "autonomic.local/keda:1"
MODULE = Module(
    "keda",
    {name: f"github.com/kedacore/keda/v2/cmd/{name}" for name in ("operator", "adapter")},
    pinned="github.com/kedacore/keda/v2",
)


def ensure(report: build.Report = lambda part, state: None) -> Path:
    """Builds KEDA where it is not built yet; returns the folder with `keda.tar` and `definitions.yaml`.

    Raises:
        Permanent: it cannot be built; says why.
    """
    return build.once(build.cache_folder() / f"keda-{build.digest((MODULE,))}", lambda partial: _make(partial, report))


def manifests(folder: Path) -> str:
    """All but the definitions of its kinds, as one stream of YAML documents; its certificates are made in `folder`."""
    names = [f"{service}.{NAMESPACE}.svc{domain}" for service in DEPLOYMENTS for domain in ("", ".cluster.local")]
    pki.issue(folder, "keda", pki.authority(folder, "keda-ca", "keda-ca"), "keda", names=names, client=True)
    files = {"ca": "keda-ca.crt", "certificate": "keda.crt", "key": "keda.key"}
    values = {name: base64.b64encode((folder / file).read_bytes()).decode() for name, file in files.items()}
    return render(DATA / "manifests" / "keda.yaml", {"keda_image": IMAGE, **values})


def _make(folder: Path, report: build.Report) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    build.compile_module(MODULE, folder / "bin", report)
    definitions = sorted((build.module_folder(MODULE) / "config" / "crd" / "bases").glob("*.yaml"))
    (folder / "definitions.yaml").write_text("\n---\n".join(file.read_text() for file in definitions))
    files = {name: folder / "bin" / name for name in MODULE.packages}
    images.write_archive(images.Image(IMAGE, files=files, folders=("tmp", "certs")), folder / "keda.tar")
