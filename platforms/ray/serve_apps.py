"""Serve applications, one deployment each, without Serve's HTTP proxy; nothing here touches an application that it was not asked for."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from autonomic.platforms.host.apps import FAILED_FOR_GOOD, AppSpec, AppState
from autonomic.platforms.host.causes import cause_of
from autonomic.seams.errors import Permanent, Retryable

DEPLOYMENT = "replica"
_CALL_SECONDS = 30.0
_START_ATTEMPTS = 2
"""How often a replica of a new application may fail to start before the application has failed; one that ran is always restarted."""


class ServeApps:
    """The applications of the Ray cluster that this process is connected to."""

    def __init__(self, replica_class: type) -> None:
        self._replica_class = replica_class
        self._controller: Any = None
        self._lock = threading.Lock()

    def create(self, name: str, spec: AppSpec, replicas: int) -> None:
        state = self.state(name)
        if state is not None and state.status not in FAILED_FOR_GOOD:
            self.scale(name, replicas)
            return
        from ray import serve
        from ray.serve import api

        options: dict[str, Any] = {"num_cpus": spec.resources.cpu, "num_gpus": spec.resources.gpu}
        if spec.resources.memory:
            options["memory"] = spec.resources.memory
        deployment = serve.deployment(self._replica_class).options(
            name=DEPLOYMENT,
            num_replicas=replicas,
            ray_actor_options=options,
            graceful_shutdown_timeout_s=spec.drain_seconds,
            graceful_shutdown_wait_loop_s=0.05,
            max_constructor_retry_count=_START_ATTEMPTS,
            health_check_period_s=2,
            health_check_timeout_s=60,
        )
        # serve.run() can only wait until all replicas run; the host waits by itself, and names what fails
        api._run(
            deployment.bind(name, spec.server),
            name=name,
            route_prefix=None,
            external_scaler_enabled=True,
            _blocking=False,
        )

    def scale(self, name: str, replicas: int) -> None:
        from ray.exceptions import RayTaskError
        from ray.serve._private.common import DeploymentID

        try:
            self._call("update_deployment_replicas", DeploymentID(name=DEPLOYMENT, app_name=name), replicas)
        except RayTaskError as error:
            raise Permanent(f"Serve does not scale {name}: {error.cause}") from error

    def vary(self, replicas: Mapping[str, int], variation: dict[str, Any]) -> None:
        """Refuses: Serve starts a deployment anew for this, and keeps none of its replicas meanwhile."""
        told = ", ".join(replicas)
        raise Permanent(f"Serve cannot change what the replicas of {told} get without a restart; deploy the workflow with other resources")

    def delete(self, names: Sequence[str]) -> None:
        there = self.states()
        wanted = [name for name in names if name in there]
        if wanted:
            self._call("delete_apps", wanted)

    def state(self, name: str) -> AppState | None:
        return self.running().get(name)

    def running(self) -> dict[str, AppState]:
        """All applications by name, but for those that are being deleted."""
        return {name: state for name, state in self.states().items() if state.status != "DELETING"}

    def states(self) -> dict[str, AppState]:
        """All applications by name, whoever made them."""
        details = self._call("get_serve_instance_details")
        found: dict[str, AppState] = {}
        for name, app in details["applications"].items():
            deployment = app["deployments"].get(DEPLOYMENT)
            message = app["message"]
            replicas: tuple[str, ...] = ()
            if deployment:
                message = deployment["message"] or message
                replicas = tuple(replica["replica_id"] for replica in deployment["replicas"] if _text(replica["state"]) != "STOPPING")
            target = deployment["target_num_replicas"] if deployment else 0
            found[name] = AppState(status=_text(app["status"]), message=cause_of(message), target=target, replicas=replicas)
        return found

    def _call(self, method: str, *args: Any) -> Any:
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError

        deadline = time.monotonic() + _CALL_SECONDS
        while True:
            try:
                return ray.get(getattr(self._find_controller(), method).remote(*args), timeout=_CALL_SECONDS)
            except GetTimeoutError as error:
                raise Retryable(f"Serve's controller did not answer {method} within {_CALL_SECONDS:g} s") from error
            except RayActorError as error:
                # Ray restarts the controller; what we ask of it is absolute, so asking twice is asking once
                self._controller = None
                if time.monotonic() > deadline:
                    raise Retryable(f"Serve's controller is not there ({error})") from error
                time.sleep(0.2)

    def _find_controller(self) -> Any:
        with self._lock:
            if self._controller is None:
                from ray import serve
                from ray.serve.context import _get_global_client

                serve.start(proxy_location="Disabled")
                self._controller = _get_global_client()._controller  # pyright: ignore[reportOptionalMemberAccess]
            return self._controller


def _text(status: Any) -> str:
    # Serve gives members of enumerations
    return str(getattr(status, "value", status))
