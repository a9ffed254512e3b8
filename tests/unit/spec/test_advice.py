from pathlib import Path
from typing import Any

import pytest

from autonomic.strategies.validation import load_specs
from autonomic.workflows.spec.advice import advice
from autonomic.workflows.spec.workflow import Workflow

ROOT = Path(__file__).parents[3]


def workflow(**service: Any) -> Workflow:
    spec = {"type": "online", "services": [{"name": "api", "model": "models:/m/1", **service}]}
    return Workflow.model_validate({"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "w"}, "spec": spec})


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ({"max_in_flight": 1, "batching": {"max_batch_size": 8}}, "write 8 or more"),
        ({"batching": {"max_wait": "5ms"}}, "max_wait 5ms has no effect"),
        ({"batching": {"max_batch_size": 4, "max_wait": "2s"}, "timeout": "1s"}, "no request can be answered"),
        ({"device_time": "1s", "timeout": "1s"}, "no request can be answered"),
        ({"device_time": "1s", "timeout": "10s"}, "max_rows: 2560 or less"),
    ],
)
def test_settings_that_do_not_fit_together_are_warned_of(service: dict[str, Any], said: str) -> None:
    (text,) = advice(workflow(**service))
    assert text.startswith("w/api: ")
    assert said in text


@pytest.mark.parametrize(
    "service",
    [
        {},
        {"batching": {"max_batch_size": 32}},
        {"batching": {"max_batch_size": 8, "max_wait": "2ms"}, "max_in_flight": 16},
        {"max_in_flight": 1},
    ],
)
def test_the_defaults_and_what_fits_are_not_warned_of(service: dict[str, Any]) -> None:
    assert advice(workflow(**service)) == []


def test_by_default_a_replica_takes_as_many_requests_as_a_batch_holds() -> None:
    def in_flight(**service: Any) -> int:
        return workflow(**service).spec.services[0].max_in_flight  # pyright: ignore[reportAttributeAccessIssue]

    assert (in_flight(), in_flight(batching={"max_batch_size": 32}), in_flight(batching={"max_batch_size": 32}, max_in_flight=3)) == (
        1,
        32,
        3,
    )


def test_nothing_is_warned_of_in_what_is_shipped() -> None:
    shipped = load_specs([ROOT / "examples"])
    assert [text for each in shipped.workflows for text in advice(each)] == []
