"""As much of a client of the Kubernetes API as starting and stopping the cluster needs."""

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

_TIMEOUT_SECONDS = 5.0


class Api:
    """Speaks with the API server as the cluster's administrator."""

    def __init__(self, server: str, pki: Path) -> None:
        self._server = server
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        # the controller manager and the scheduler make certificates of their own, which nobody signed
        self._trusting = ssl.create_default_context()
        self._trusting.check_hostname = False
        self._trusting.verify_mode = ssl.CERT_NONE

    def get(self, path: str) -> Any:
        """The JSON at `path`, or None while there is none."""
        try:
            with self._open(f"{self._server}{path}", self._context) as answer:
                return json.load(answer)
        except OSError:
            return None

    def answers(self, url: str) -> bool:
        """Whether `url`, of the API server or of another part, answers with 200."""
        try:
            with self._open(url, self._context if url.startswith(self._server) else self._trusting) as answer:
                return answer.status == 200
        except OSError:
            return False

    def ready_nodes(self) -> set[str]:
        """The names of the nodes that are Ready now."""
        nodes = (self.get("/api/v1/nodes") or {}).get("items", [])
        return {node["metadata"]["name"] for node in nodes if _condition(node, "Ready")}

    def available(self, namespace: str, deployment: str) -> bool:
        """Whether a Deployment has the replicas that it wants."""
        found = self.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}")
        return found is not None and _condition(found, "Available")

    def _open(self, url: str, context: ssl.SSLContext) -> Any:
        # the addresses are this machine's: no proxy of the environment leads to them
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        return urllib.request.build_opener(*handlers).open(url, timeout=_TIMEOUT_SECONDS)


def _condition(found: dict[str, Any], name: str) -> bool:
    conditions = found.get("status", {}).get("conditions", [])
    return any(condition["type"] == name and condition["status"] == "True" for condition in conditions)
