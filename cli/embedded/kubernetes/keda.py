"""KEDA in a local cluster, for those who ask for it: its operator and its metrics server, built once from their pinned Go module."""

import base64
import fcntl
import hashlib
import platform
from pathlib import Path

from autonomic.cli.embedded.kubernetes import build, images, pki
from autonomic.cli.embedded.kubernetes.build import DATA, Module
from autonomic.cli.embedded.kubernetes.node import render

NAMESPACE = "keda"
DEPLOYMENTS = ("keda-operator", "keda-metrics-apiserver")
IMAGE = "autonomic.local/keda:1"
MODULE = Module(
    "keda",
    {name: f"github.com/kedacore/keda/v2/cmd/{name}" for name in ("operator", "adapter")},
    pinned="github.com/kedacore/keda/v2",
)


def folder() -> Path:
    """Where it is kept, named by what it is built from."""
    hashed = hashlib.sha256(f"{platform.machine()} {MODULE}".encode())
    for file in (DATA / MODULE.folder / "go.mod", DATA / MODULE.folder / "go.sum", Path(images.__file__)):
        hashed.update(file.read_bytes())
    return build.cache_folder().with_name("keda") / hashed.hexdigest()[:16]


def version() -> str:
    """The version that is built."""
    return build.version(MODULE, DATA)


def ensure(report: build.Report = lambda part, state: None) -> Path:
    """The folder with `keda.tar` and `definitions.yaml`; builds it where it is not built yet, which takes about seven minutes on two cores.

    Raises:
        Permanent: Go is missing or too old, or the build fails; quotes the end of what it said.
    """
    made = folder()
    (made / "bin").mkdir(parents=True, exist_ok=True)
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "keda.tar").exists():
            if not all((made / "bin" / name).exists() for name in MODULE.packages):
                build.compile_module(MODULE, made / "bin", report, modules=DATA)
            definitions = sorted((build.source(MODULE, DATA) / "config" / "crd" / "bases").glob("*.yaml"))
            (made / "definitions.yaml").write_text("\n---\n".join(file.read_text() for file in definitions))
            files = {name: made / "bin" / name for name in MODULE.packages}
            images.write_archive(images.Image(IMAGE, files=files, folders=("tmp", "certs")), made / "keda.partial")
            (made / "keda.partial").rename(made / "keda.tar")
    return made


def manifests(folder: Path) -> str:
    """All but the definitions of its kinds, as one stream of YAML documents; its certificates are made in `folder`."""
    names = [f"{service}.{NAMESPACE}.svc{domain}" for service in DEPLOYMENTS for domain in ("", ".cluster.local")]
    pki.issue(folder, "keda", pki.authority(folder, "keda-ca", "keda-ca"), "keda", names=names, client=True)
    files = {"ca": "keda-ca.crt", "certificate": "keda.crt", "key": "keda.key"}
    values = {name: base64.b64encode((folder / file).read_bytes()).decode() for name, file in files.items()}
    return render(DATA / "manifests" / "keda.yaml", {"keda_image": IMAGE, **values})
