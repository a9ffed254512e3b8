"""An online workflow that is an object of the cluster, served by pods of that cluster."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autonomic.workflows.serving.front import Front


@pytest.fixture
def light(installation: Callable[..., Any], defined: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = installation(tmp_path_factory.mktemp("crd-host"))
    yield made
    made.remove()


@pytest.fixture
def served(light: Any, bare_planner: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A planner whose platform is the host of this namespace."""
    home = light.home
    planner = bare_planner(home, light.settings.namespace, own_world=False)
    # one file tells both of the cluster, and one account has the rights of both
    binding = ("create", "rolebinding", "host-as-planner", "--role=autonomic-planner")
    light.kubectl(*binding, f"--serviceaccount={light.settings.namespace}:host")
    (home / "kubernetes.json").write_text(light.settings.model_dump_json(exclude={"home", "service_token"}))
    planner.host = _start_host(home)
    planner.start()
    yield planner
    planner.close()
    planner.host.terminate()
    planner.host.wait(30)
    Front(light.settings.folder / "haproxy").stop()


def _start_host(home: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "autonomic.platforms.kubernetes", "--home", str(home)])


def _deployments(light: Any) -> list[str]:
    return light.kubectl("get", "deployments", "-l", "autonomic.dev/workflow=growing", "-o", "name").split()


def test_a_workflow_is_served_and_taken_out_of_service(light: Any, served: Any) -> None:
    service = {"name": "api", "model": light.model("growing"), "replicas": {"min": 1, "max": 3}, "log": False}
    document = {
        "apiVersion": "autonomic.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": "growing"},
        "spec": {"type": "online", "services": [service]},
    }
    served.cluster.apply(document)
    served.until(lambda: served.cluster.condition("workflow", "growing", "Ready").get("status") == "True")
    # it is ready before the plan that deployed it has been verified
    served.until(lambda: served.cluster.get("workflow", "growing")["status"].get("lastAction") == "deploy done")
    row = served.cluster.kubectl("get", "workflows").splitlines()[1].split()
    assert row[:7] == ["growing", "online", "serving", "1/1", "growing", "deploy", "done"]
    # a replica that is lost is told without anybody acting; it is not replaced before we have looked
    served.cluster.kubectl("create", "quota", "none", "--hard=pods=0")
    served.until(lambda: served.cluster.kubectl("get", "quota", "none", "-o", "jsonpath={.status.hard.pods}") == "0")
    served.cluster.kubectl("delete", "pods", "-l", "autonomic.dev/workflow=growing", "--wait=false")
    served.until(lambda: served.cluster.get("workflow", "growing")["status"]["replicas"] == "0/1")
    served.cluster.kubectl("delete", "quota", "none")
    served.until(lambda: served.cluster.get("workflow", "growing")["status"]["replicas"] == "1/1")
    assert len(_deployments(light)) == 1
    served.cluster.kubectl("delete", "workflow", "growing", "--timeout=120s")
    served.until(lambda: not _deployments(light))
    served.until(lambda: not served.get("/v1/plans?phase=applying")["items"])
    assert served.get("/v1/workflows/growing") is None

    # nobody is there when it is deleted: Kubernetes takes it away, and the agents find nothing amiss when they are back
    served.cluster.apply(document)
    served.until(lambda: served.cluster.condition("workflow", "growing", "Ready").get("status") == "True")
    served.kill()
    served.host.kill()
    served.host.wait()
    served.cluster.kubectl("delete", "workflow", "growing", "--timeout=120s")
    served.until(lambda: not _deployments(light))
    served.host = _start_host(served.home)
    served.start()
    served.until(lambda: served.get("/v1/workflows/growing") is None)
    served.cluster.apply(document)
    served.until(lambda: served.cluster.condition("workflow", "growing", "Ready").get("status") == "True")
