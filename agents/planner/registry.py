"""The model registry as the planner needs it; an installation may be without one."""

import math

from autonomic.seams.errors import Permanent
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.state import ModelVersion
from autonomic.workflows.registry.client import Mlflow, NotFound, metrics_of, tags_of
from autonomic.workflows.registry.effector import RegistryEffector


class Registry:
    """Reads aliases with their versions' tags, and carries out changes of them."""

    def __init__(self, mlflow_url: str) -> None:
        self._server = Mlflow(mlflow_url) if mlflow_url else None
        self._effector = RegistryEffector(self._server) if self._server else None

    def close(self) -> None:
        """Closes the connections."""
        if self._server is not None:
            self._server.close()

    def aliases(self, model: str) -> dict[str, ModelVersion]:
        """The versions of a registered model by alias; none where there is no such model.

        Raises:
            Retryable: MLflow cannot be reached.
            Permanent: this installation has no registry.
        """
        if self._server is None:
            raise Permanent(_NONE)
        try:
            named = self._server.aliases(model)
            found = {version: self._version(self._server, model, version) for version in set(named.values())}
        except NotFound:
            return {}
        return {alias: found[version] for alias, version in named.items()}

    def named(self, model: str) -> dict[str, str]:
        """The versions of a registered model by alias, by one request; none where there is no such model, or no registry.

        Raises:
            Retryable: MLflow cannot be reached.
        """
        try:
            return self._server.aliases(model) if self._server is not None else {}
        except NotFound:
            return {}

    def _version(self, server: Mlflow, model: str, version: str) -> ModelVersion:
        described = server.version(model, version)
        try:
            metrics = metrics_of(server.run(described["run_id"])) if described.get("run_id") else {}
        except NotFound:  # the run was deleted, and the version stays
            metrics = {}
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        return ModelVersion(version=version, tags=tags_of(described), metrics=finite)

    def apply(self, change: Change, fence: int) -> Outcome:
        """See `EffectorPort.apply`."""
        if self._effector is None:
            raise Permanent(_NONE)
        return self._effector.apply(change, fence)

    def lookup(self, key: str) -> Outcome | None:
        """See `EffectorPort.lookup`."""
        return self._effector.lookup(key) if self._effector is not None else None


_NONE = "there is no model registry: mlflow_url is not set in settings.json"
