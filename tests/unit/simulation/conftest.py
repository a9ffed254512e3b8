from collections.abc import Callable
from typing import Any

import pytest

from autonomic.agents.simulation import Simulation
from autonomic.platforms.simulated import Load
from autonomic.strategies.spec.strategy import Strategy
from autonomic.workflows.spec.workflow import Workflow

TARGET = "online/predictor"
API = {"apiVersion": "autonomic.dev/v1alpha1"}
P99 = {
    "promql": "histogram_quantile(0.99, sum by (le) (rate(autonomic_request_duration_seconds_bucket{service='predictor'}[15s])))",
    "max_age": "5s",
}


@pytest.fixture
def strategy() -> Callable[..., Strategy]:
    """A strategy on the simulated service; without more it is keep-latency, auto."""

    def make(name: str = "keep-latency", **changes: Any) -> Strategy:
        spec: dict[str, Any] = {
            "target": TARGET,
            "on": {"every": "1s"},
            "readings": {"p99": P99, "replicas": {"platform": "wanted_replicas"}},
            "when": "p99 > 0.5",
            "for": "3s",
            "constraint": "replicas < 4",
            "do": [{"rescale": {"by": 1}}],
            "verify": {"that": "p99 <= 0.5", "within": "60s", "else": "keep"},
            "guard": {"autonomy": "auto", "cooldown": "20s"},
            **{key.rstrip("_"): value for key, value in changes.items()},
        }
        return Strategy.model_validate({**API, "kind": "Strategy", "metadata": {"name": name}, "spec": spec})

    return make


@pytest.fixture
def simulate() -> Callable[..., Simulation]:
    """A simulation of a service of 1 to 4 replicas and a training, with the given strategies."""

    def make(*strategies: Strategy, replicas: int = 1, load: Load | None = None, **options: Any) -> Simulation:
        models = {"model": "models:/mnist@champion", "backup": "models:/mnist@backup"}
        resources = {"cpu": 1, "max": {"cpu": 4}}
        service = {"name": "predictor", **models, "replicas": {"min": replicas, "max": 4}, "resources": resources}
        online = {**API, "kind": "Workflow", "metadata": {"name": "online"}, "spec": {"type": "online", "services": [service]}}
        steps = [{"name": "train", "command": ["true"]}]
        parameters = {"base_model": "", "points": ""}
        batch = {
            **API,
            "kind": "Workflow",
            "metadata": {"name": "training"},
            "spec": {"type": "batch", "parameters": parameters, "steps": steps},
        }
        workflows = [Workflow.model_validate(online), Workflow.model_validate(batch)]
        registered = {"mnist": {"backup": {}, "champion": {}}}
        return Simulation([*workflows, *strategies], loads={TARGET: load or Load(rate=10)}, models=registered, **options)

    return make
