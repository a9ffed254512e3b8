"""One replica of a service: a model server of its own on a free port, announced to the host."""

import importlib
import os
import threading
import time
from typing import Any

HOST_ACTOR = "autonomic-host"
NAMESPACE = "autonomic"
_ANNOUNCE_SECONDS = 2.0
_RETRY_SECONDS = 0.1


class Replica:
    """What Serve starts. The front sends requests straight to its server; none comes through Serve.

    The host puts a replica into the front the moment it announces itself, and takes it out before it stops.
    """

    def __init__(self, app: str, config: dict[str, Any]) -> None:
        import ray
        from ray import serve

        from autonomic.workflows.serving.config import ServerConfig

        module, _, name = config["class"].partition(":")
        server = ServerConfig.model_validate(config["server"])
        self._drain_seconds = float(config["drain_seconds"])
        self._server = getattr(importlib.import_module(module), name)(server)
        port = self._server.start()
        replica_id = serve.get_replica_context().replica_id.unique_id
        node = ray.get_runtime_context().get_node_id()
        self._record = {"id": replica_id, "app": app, "host": server.address, "port": port, "pid": os.getpid(), "node": node}
        self._record["started_at"] = time.time()
        self._leaving = threading.Event()
        self._announcer = threading.Thread(target=self._announce, daemon=True, name="announce")
        self._announcer.start()

    def _announce(self) -> None:
        # again and again, so that a host that lost the record gets it back
        while not self._leaving.is_set():
            self._leaving.wait(_ANNOUNCE_SECONDS if self._tell("register", self._record) else _RETRY_SECONDS)

    def _tell(self, method: str, *args: Any) -> bool:
        import ray

        try:
            host = ray.get_actor(HOST_ACTOR, namespace=NAMESPACE)
            ray.get(getattr(host, method).remote(*args), timeout=5)
            return True
        except Exception:  # noqa: BLE001 - whatever keeps the host away, the replica serves on and tells it later
            return False

    def check_health(self) -> None:
        """Serve restarts the replica when this raises."""
        if not self._server.alive():
            raise RuntimeError(f"the model server is dead: {self._server.death()}")

    def __del__(self) -> None:
        # Serve calls this and waits (up to the drain time) before it ends the process; Python may call it again
        if "_announcer" not in self.__dict__ or self._leaving.is_set():
            return
        self._leaving.set()
        self._announcer.join()
        self._tell("unregister", self._record["id"])
        self._server.drain(self._drain_seconds)
