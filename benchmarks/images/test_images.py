"""A step runs on a local cluster in an image that `autonomic build` made. Not a part of `make test`: it takes a minute or two, and
buildah and mmdebstrap.

make images
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autonomic.cli.embedded.kubernetes.cluster import LocalCluster
from autonomic.platforms.kubernetes.platform import KubernetesPlatform
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.plan import Change
from autonomic.seams.state import FINISHED
from autonomic.workflows.images.build import check_tools
from autonomic.workflows.runs.packages import pack

pytestmark = pytest.mark.timeout(3600)
IMAGE = "autonomic.local/images-test:1"
STEP = """
import os
import humanize
import numpy

def say(size: int) -> dict:
    return {"text": humanize.naturalsize(size), "user": os.getuid(), "mean": float(numpy.mean([1, 2])), "from": humanize.__file__}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[LocalCluster]:
    check_tools("")
    cluster = LocalCluster.start(home / "cluster", tied=True)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def code(home: Path) -> Path:
    folder = home / "code"
    folder.mkdir()
    (folder / "requirements.txt").write_text("humanize>=4,<5\nnumpy>=2,<3\n")
    (folder / "sizes.py").write_text(STEP)
    return folder


@pytest.fixture(scope="module")
def image(cluster: LocalCluster, code: Path, home: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "autonomic.cli.main", "build", str(code), "--tag", IMAGE, "--load", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{IMAGE}\n"
    yield IMAGE
    subprocess.run(["buildah", "rmi", IMAGE], capture_output=True, check=True)


@pytest.fixture(scope="module")
def platform(cluster: LocalCluster, image: str, home: Path) -> Iterator[KubernetesPlatform]:
    cluster.run_kubectl("create", "namespace", "ml")
    cluster.run_kubectl("label", "namespace", "ml", "pod-security.kubernetes.io/enforce=restricted")
    settings = KubernetesSettings(
        home=home / "host",
        kubeconfig=str(cluster.kubeconfig),
        namespace="ml",
        image=image,
        image_pull_policy="Never",
        security_context={"runAsNonRoot": True},
    )
    platform = KubernetesPlatform(settings)
    yield platform
    platform.close()
    # it outlives the host, so that a restart of that costs no request
    platform.host.stop_front()


def test_a_step_finds_its_requirements_and_is_not_root(platform: KubernetesPlatform, code: Path) -> None:
    step = {"name": "say", "run": "sizes:say", "with": {"size": 10**6}}
    document = {
        "apiVersion": "autonomic.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": "sizes"},
        "spec": {"type": "batch", "steps": [step]},
    }
    package = platform.add_package(pack(code))
    to = {"run_id": "sizes-1", "workflow": "sizes", "spec": document, "parameters": {}, "cause": "a test", "package": package}
    outcome = platform.apply(Change(key="start.sizes-1", primitive="run", target="sizes", to=to), 1)
    assert outcome.status == "done", outcome.detail
    deadline = time.monotonic() + 120
    while (run := platform.run("sizes-1")) is None or run.status not in FINISHED:
        assert time.monotonic() < deadline, run
        time.sleep(0.1)
    assert run.status == "succeeded", run.model_dump_json(indent=1)
    assert run.outputs["text"] == "1.0 MB"
    # numpy finds the libraries that compiled wheels take to be there
    assert run.outputs["mean"] == 1.5
    assert run.outputs["user"] == 10001
    assert run.outputs["from"].startswith("/opt/autonomic/")


def test_the_image_keeps_nothing_of_how_this_machine_reaches_mirrors_and_indices(image: str) -> None:
    look = "import os; print([f for f in ('/etc/apt/sources.list', '/etc/pip.conf', '/run/secrets', '/context') if os.path.exists(f)])"
    name = subprocess.run(["buildah", "from", "--pull-never", image], capture_output=True, text=True, check=True).stdout.strip()
    try:
        run = ["buildah", "run", "--isolation=chroot", name, "--", "python", "-c", look]
        found = subprocess.run(run, capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["buildah", "rm", name], capture_output=True, check=True)
    assert found.stdout == "[]\n", found.stderr
