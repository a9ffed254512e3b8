"""The programs of the cluster: built once from pinned Go modules into the user's cache, and shared by every checkout.

The cache's folder is named by the digest of all that the result depends on: go.mod and go.sum of each module, the flags here,
and the machine's architecture.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from autonomic.cli.embedded.kubernetes import images, tools
from autonomic.cli.embedded.kubernetes.compiling import compile_programs
from autonomic.seams.errors import Permanent

DATA = Path(__file__).parent / "data"
MINIMUM_GO = (1, 26, 8)
_FIRST_GO_THAT_FETCHES = (1, 21, 0)
_CONTAINERD_TAGS = "no_btrfs,no_devmapper,no_zfs,no_aufs,osusergo,netgo,static_build"
_KUBERNETES_VERSION = (
    "-X k8s.io/component-base/version.gitVersion={version} -X k8s.io/client-go/pkg/version.gitVersion={version} "
    "-X k8s.io/component-base/version.gitMajor={major} -X k8s.io/component-base/version.gitMinor={minor}"
)

Report = Callable[[str, str], None]


class Module(NamedTuple):
    """A folder of data/go, and what is built in it: the name of each binary and its package."""

    folder: str
    packages: dict[str, str]
    pinned: str = ""
    tags: str = ""
    flags: str = ""


def _commands(module: str, *names: str) -> dict[str, str]:
    return {name.rpartition("/")[2]: f"{module}/{name}" for name in names}


MODULES = (
    Module(
        "kubernetes",
        _commands(
            "k8s.io/kubernetes/cmd",
            *("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet", "kube-proxy"),
        ),
        pinned="k8s.io/kubernetes",
        flags=_KUBERNETES_VERSION,
    ),
    Module(
        "containerd",
        _commands("github.com/containerd/containerd/v2/cmd", "containerd", "containerd-shim-runc-v2", "ctr"),
        pinned="github.com/containerd/containerd/v2",
        tags=_CONTAINERD_TAGS,
        flags="-X github.com/containerd/containerd/v2/version.Version={version}",
    ),
    Module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}, pinned="go.etcd.io/etcd/server/v3"),
    Module(
        "cni",
        _commands("github.com/containernetworking/plugins/plugins", "main/bridge", "main/loopback", "ipam/host-local"),
        pinned="github.com/containernetworking/plugins",
    ),
    Module("pause", {"pause": "."}),
    Module("coredns", {"coredns": "github.com/coredns/coredns"}, pinned="github.com/coredns/coredns"),
    Module("metrics-server", _commands("sigs.k8s.io/metrics-server/cmd", "metrics-server"), pinned="sigs.k8s.io/metrics-server"),
    Module("kwok", _commands("sigs.k8s.io/kwok/cmd", "kwok"), pinned="sigs.k8s.io/kwok"),
)
_STAGES = ("node/fast", "node/heartbeat-with-lease", "pod/fast")


class Programs(NamedTuple):
    """Where the built parts are: `binaries`, archives of `images`, and the behaviour of fake nodes (`stages`)."""

    folder: Path

    @property
    def binaries(self) -> Path:
        return self.folder / "bin"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def stages(self) -> Path:
        return self.folder / "kwok-stages.yaml"


def cache_folder() -> Path:
    """Where programs of any version are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autonomic" / "cluster"


def digest() -> str:
    """Names what the programs are built from."""
    hashed = hashlib.sha256(f"{platform.machine()} {MODULES} {_STAGES}".encode())
    for file in sorted((DATA / "go").rglob("*")):
        if file.is_file():
            hashed.update(f"{file.relative_to(DATA)}\0".encode() + file.read_bytes())
    hashed.update(b"".join((Path(__file__).parent / source).read_bytes() for source in ("images.py", "tools.py")))
    return hashed.hexdigest()[:16]


def built() -> Programs | None:
    """The programs, where they are built already."""
    folder = cache_folder() / digest()
    return Programs(folder) if folder.is_dir() else None


def version(module: Module, modules: Path | None = None) -> str:
    """The version that go.mod pins; `modules` is the folder of the module's folder, by default that of the cluster's."""
    text = ((modules or DATA / "go") / module.folder / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(module.pinned)} (v\S+)", text, re.M)
    return found[1] if found else ""


def ensure(report: Report = lambda part, state: None) -> Programs:
    """Builds what is not built yet and returns where it is; another process that builds the same is waited for.

    Raises:
        Permanent: Go is missing or too old, or a build fails; quotes the end of what it said.
    """
    done = built()
    if done is not None:
        return done
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return built() or _build(cache_folder() / digest(), report)


def go_version() -> tuple[int, int, int] | None:
    """The version of the `go` on PATH, or None."""
    if not shutil.which("go"):
        return None
    said = subprocess.run(["go", "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", said)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def go_is_enough() -> bool:
    """Whether the `go` on PATH builds the cluster: it is new enough, or it fetches one that is."""
    found = go_version()
    if found is None or found < _FIRST_GO_THAT_FETCHES:
        return False
    asked = ["go", "env", "GOTOOLCHAIN"]
    return found >= MINIMUM_GO or subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() != "local"


def _build(folder: Path, report: Report) -> Programs:
    _check_go()
    # an interrupted build is gone on with
    partial = Programs(folder.with_suffix(".partial"))
    partial.binaries.mkdir(parents=True, exist_ok=True)
    report("tools", tools.install(partial.folder / "packages", partial.binaries))
    for number, module in enumerate(MODULES, 1):
        if not all((partial.binaries / binary).exists() for binary in module.packages):
            compile_module(module, partial.binaries, report, f" ({number} of {len(MODULES)})")
    _copy_stages(partial.stages)
    for archive, image in images.builtin(partial.binaries).items():
        images.write_archive(image, partial.images / f"{archive}.tar")
    partial.folder.rename(folder)
    report("built", f"everything, into {folder}")
    return Programs(folder)


def _check_go() -> None:
    if not go_is_enough():
        wanted, found = (".".join(map(str, version or ())) for version in (MINIMUM_GO, go_version()))
        raise Permanent(f"Go {wanted} or newer is needed to build the cluster, or one that may fetch it; found {found or 'none'}.")


def compile_module(module: Module, binaries: Path, report: Report, place: str = "", modules: Path | None = None) -> None:
    """Builds the programs of a module into `binaries`; `modules` is the folder of its folder, by default that of the cluster's.

    Raises:
        Permanent: Go is missing or too old, or the build fails; quotes the end of what it said.
    """
    _check_go()
    modules = modules or DATA / "go"
    pinned = version(module, modules)
    name = f"{module.folder} {pinned}".strip()
    report("building", f"{name}{place}")
    started = time.monotonic()
    major, minor = [*pinned.lstrip("v").split("."), "", ""][:2]
    flags = f"-s -w {module.flags.format(version=pinned, major=major, minor=minor)}".strip()
    given = ["-trimpath", "-mod=readonly", "-buildvcs=false", "-tags", module.tags, "-ldflags", flags]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}
    packages = list(module.packages.values())
    # a package alone may be called otherwise than its program
    target = binaries if len(packages) > 1 else binaries / next(iter(module.packages))
    try:
        compile_programs(
            given, packages, target, modules / module.folder, environment, lambda far: report("building", f"{name}{place}: {far}")
        )
    except Permanent as failed:
        raise Permanent(f"building {name}: {failed}\nWhat is built already is kept; run the same again to go on.") from None
    report("built", f"{name} in {time.monotonic() - started:.0f} s")


def source(module: Module, modules: Path | None = None) -> Path:
    """The source of what a module pins, fetched where it is not there; `modules` as for `compile_module`.

    Raises:
        Permanent: Go is missing or too old, or the source cannot be had; says why.
    """
    _check_go()
    command = ["go", "mod", "download", "-json", module.pinned]
    environment = {**os.environ, "GOWORK": "off", "GOFLAGS": ""}
    where = (modules or DATA / "go") / module.folder
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout) if done.stdout.strip() else {}
    if done.returncode or "Dir" not in told:
        raise Permanent(f"{module.pinned} cannot be fetched: {told.get('Error') or done.stderr.strip()}")
    return Path(told["Dir"])


def _copy_stages(target: Path) -> None:
    # kwok knows no behaviour of its own: its module carries it
    carried = source(MODULES[-1]) / "kustomize" / "stage"
    files = [file for stage in _STAGES for file in sorted((carried / stage).glob("*.yaml")) if file.name != "kustomization.yaml"]
    target.write_text("\n---\n".join(file.read_text().strip() for file in files) + "\n")
