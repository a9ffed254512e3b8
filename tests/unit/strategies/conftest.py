from collections.abc import Callable
from typing import Any

import pytest

from autonomic.strategies.spec.strategy import Strategy

MakeStrategy = Callable[..., Strategy]


@pytest.fixture
def make_strategy() -> MakeStrategy:
    """Makes a strategy whose spec is keep-latency's but for what is given (`for_` and the like without the underscore)."""

    def make(name: str = "keep-latency", **changes: Any) -> Strategy:
        spec: dict[str, Any] = {
            "target": "online/predictor",
            "on": {"every": "1s"},
            "readings": {"p99": {"promql": "p99", "max_age": "5s"}, "replicas": {"platform": "ready_replicas"}},
            "when": "p99 > 0.1",
            "do": [{"rescale": {"by": 1}}],
            "guard": {"autonomy": "auto", "cooldown": "30s"},
            **{key.rstrip("_"): value for key, value in changes.items()},
        }
        spec = {key: value for key, value in spec.items() if value is not None}
        return Strategy.model_validate(
            {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Strategy", "metadata": {"name": name}, "spec": spec}
        )

    return make
