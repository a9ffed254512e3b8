import pytest

from autonomic.workflows.serving.config import ServerConfig
from autonomic.workflows.serving.server_metrics import ServerMetrics, request_start


def test_a_request_begins_when_the_front_says_so() -> None:
    assert request_start("t=1700000000250000", now=1_700_000_001.0) == 1_700_000_000.25


TOO_OLD, IN_THE_FUTURE = "t=1600000000000000", "t=1700000002000000"


@pytest.mark.parametrize("header", [None, "", "t=", "t=x", "1700000000250000", "t=-5", TOO_OLD, IN_THE_FUTURE, "t=" + "9" * 500, "t=²"])
def test_a_start_that_cannot_be_true_is_now(header: str | None) -> None:
    assert request_start(header, now=1_700_000_001.0) == 1_700_000_001.0


def test_metrics_carry_the_names_and_labels_that_strategies_use() -> None:
    config = ServerConfig(workflow="w", service="s", role="canary", name="s", model="models:/m/3", model_version="3", model_folder="/m")
    metrics = ServerMetrics(config)
    metrics.count(200)
    metrics.duration.observe(0.02)
    text = metrics.exposition().decode()
    labels = 'model_version="3",role="canary",service="s",workflow="w"'
    assert f'autonomic_request_duration_seconds_bucket{{le="0.02",{labels}}} 1.0' in text
    assert f'autonomic_requests_total{{code="200",{labels}}} 1.0' in text
    assert 'autonomic_model_info{model="models:/m/3",role="canary",service="s",version="3",workflow="w"} 1.0' in text
    assert f"autonomic_server_in_flight_requests{{{labels}}} 0.0" in text
