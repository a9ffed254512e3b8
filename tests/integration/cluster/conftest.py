"""A namespace of the local cluster for each test, and the words that the tests share."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from autonomic.cli.embedded.kubernetes.cluster import LocalCluster


@pytest.fixture(scope="session")
def cluster(kubernetes: Any) -> LocalCluster:
    """The local cluster; there is none to be tested where another one was given."""
    if kubernetes.local is None:
        pytest.skip("NO LOCAL CLUSTER IS TESTED: AUTONOMIC_TEST_KUBECONFIG names another one")
    return kubernetes.local


class Namespace:
    """A namespace, and what is done in it."""

    def __init__(self, cluster: LocalCluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return self.cluster.run_kubectl("--namespace", self.name, *arguments, text=text)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def create(self, *documents: dict[str, Any]) -> None:
        for document in documents:
            self.kubectl("create", "-f", "-", text=json.dumps(document))

    def pod(self, name: str, *command: str, image: str = "busybox", **spec: Any) -> None:
        """Creates a pod; `spec` is of the pod, but for `container`, which is of its container."""
        container = {
            "name": "main",
            "image": f"autonomic.local/{image}:1",
            "imagePullPolicy": "Never",
            "command": list(command),
            **spec.pop("container", {}),
        }
        body = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container], **spec}
        self.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": body})

    def message(self, name: str, within_seconds: float = 120) -> str:
        """What a pod that ends well has written to its termination log: the output of one that ends at once may be missing in its logs."""
        wait_for(lambda: self.get("pod", name)["status"].get("phase") in ("Succeeded", "Failed"), f"the end of {name}", within_seconds)
        status = self.get("pod", name)["status"]
        assert status["phase"] == "Succeeded", self.kubectl("logs", name)
        return status["containerStatuses"][0]["state"]["terminated"]["message"]


@pytest.fixture
def namespace(cluster: LocalCluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    name = f"t{abs(hash(request.node.nodeid)) % 10**9}"
    cluster.run_kubectl("create", "namespace", name)
    space = Namespace(cluster, name)
    # pods are refused until the controller manager has made it
    wait_for(lambda: space.get("serviceaccounts")["items"], "the default service account")
    yield space
    cluster.run_kubectl("delete", "namespace", name, "--wait=false")


def wait_for(condition: Callable[[], Any], what: str, within_seconds: float = 120) -> Any:
    deadline = time.monotonic() + within_seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come within {within_seconds:g} s"
        time.sleep(0.1)
    return found


@pytest.fixture
def wait() -> Callable[..., Any]:
    """Returns the first true answer of a condition, or fails."""
    return wait_for
