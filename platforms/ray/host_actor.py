"""The detached actor that is the only writer to Serve: `autonomic-host` in the namespace `autonomic`."""

import os
from typing import Any

from autonomic.platforms.ray.replica import HOST_ACTOR, NAMESPACE
from autonomic.platforms.ray.settings import HostSettings
from autonomic.seams.clock import SystemClock

_THREADS = 32


class RayHost:
    """The actor: it starts the parts and hands the calls of replicas and runs to them.

    Ray starts it again whenever its process ends. What it knows is in HOME/host/records.db, which outlives the cluster.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        import ray

        from autonomic.platforms.host.api import ApiServer, create_app
        from autonomic.platforms.host.durable_store import SqliteStore
        from autonomic.platforms.ray.cluster_store import ClusterStore
        from autonomic.platforms.ray.detectors import Detectors
        from autonomic.platforms.ray.host import Host
        from autonomic.platforms.ray.replica import Replica
        from autonomic.platforms.ray.runs import BatchRuns
        from autonomic.platforms.ray.searches import BatchSearches
        from autonomic.platforms.ray.serve_apps import ServeApps
        from autonomic.workflows.serving.front import Front

        given = HostSettings.model_validate(settings)
        given.folder.mkdir(parents=True, exist_ok=True)
        self._home, self._mlflow_url = given.home, given.mlflow_url
        store, clock = SqliteStore(given.folder / "records.db"), SystemClock()
        node = ray.get_runtime_context().get_node_id()
        self._host = Host(
            given,
            store,
            ServeApps(Replica),
            Front(given.folder / "haproxy", given.front_port),
            Detectors(ClusterStore(NAMESPACE), store),
            BatchRuns(given, store, clock),
            BatchSearches(given, store, clock),
            clock,
            node,
        )
        self._host.start()
        self._api = ApiServer(create_app(self._host, given.token), given.address, given.port)
        self._api.start()

    def pid(self) -> int:
        """The process that the host runs in now."""
        return os.getpid()

    def home(self) -> str:
        """The home that this host is part of."""
        return str(self._home)

    def refused_by_mlflow(self) -> str:
        """Why MLflow refuses the processes of this cluster; "" where it does not, or does not answer now."""
        from autonomic.seams.errors import Permanent, Retryable
        from autonomic.workflows.registry.client import Mlflow

        if not self._mlflow_url:
            return ""
        server = Mlflow(self._mlflow_url)
        try:
            server.call("POST", "experiments/search", {"max_results": 1})
        except Retryable:
            return ""
        except Permanent as refused:
            return str(refused)
        finally:
            server.close()
        return ""

    def register(self, replica: dict[str, Any]) -> bool:
        """A replica announces itself; from now on it gets requests."""
        from autonomic.platforms.host.records import ReplicaRecord

        return self._host.services.register(ReplicaRecord.model_validate(replica))

    def unregister(self, replica_id: str) -> None:
        """A replica is about to stop; when this returns it gets no new request."""
        self._host.services.unregister(replica_id, "it was stopped")

    def replica_pids(self, workflow: str, service: str, role: str) -> list[int]:
        """The processes of a role's replicas."""
        return [replica.pid for replica, *owner in self._host.services.all_registered() if owner == [workflow, service, role]]

    def notice(self, kind: str, target: str, data: dict[str, Any]) -> None:
        """Something happened to a run or a search."""
        self._host.notices.tell(kind, target, data)

    def stop(self) -> None:
        """Deletes what the host started: applications, detectors, the front."""
        self._host.close()
        self._api.stop()


def create_host(settings: HostSettings) -> Any:
    """The host of the cluster that this process is connected to; made, on the node of this process, where there is none."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    path = os.pathsep.join(filter(None, [*settings.python_path, os.environ.get("PYTHONPATH", "")]))
    options: dict[str, Any] = {"env_vars": {"PYTHONPATH": path}} if settings.python_path else {}
    return (
        ray.remote(RayHost)
        .options(
            name=HOST_ACTOR,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=_THREADS,
            # its records are files of the home
            scheduling_strategy=NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False),
            runtime_env=options,
        )
        .remote(settings.model_dump(mode="json"))
    )
