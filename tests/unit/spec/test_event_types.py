from pathlib import Path

import pytest

from autonomic.agents.monitor.alerts import FIRING, RESOLVED
from autonomic.agents.monitor.service import MLFLOW_TYPES
from autonomic.agents.tuner.searches import SEARCH_FINISHED
from autonomic.seams.event_types import EVENT_TYPES
from autonomic.signals.kubernetes import SOURCES
from autonomic.signals.runs import HOST_TYPES
from autonomic.strategies.checks import _event_fault

PAGE = Path(__file__).parents[3] / "docs" / "events.md"


def test_the_known_event_types_are_those_that_are_sent_and_documented() -> None:
    sent = {FIRING, RESOLVED, SEARCH_FINISHED, *MLFLOW_TYPES, *HOST_TYPES, *(name for names in SOURCES.values() for name in names)}
    assert set(EVENT_TYPES) == sent
    rows = [f"| `{name}` | {words} |" for name, words in EVENT_TYPES.items()]
    assert [line for line in PAGE.read_text().splitlines() if line.startswith("| `")] == rows


@pytest.mark.parametrize("name", [*EVENT_TYPES, "com.example.data.arrived", "drift.detected", "my.type"])
def test_what_is_sent_and_custom_types_are_taken(name: str) -> None:
    assert _event_fault(name) == ""


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("dev.autonomic.alert.fired", "dev.autonomic.alert.firing"),
        ("alert.firing", "dev.autonomic.alert.firing"),
        ("dev.autonomc.run.failed", "dev.autonomic.run.failed"),
        ("dev.autonomic.kubernetes.pod.oomkilled", "dev.autonomic.kubernetes.pod.oom_killed"),
    ],
)
def test_a_type_that_nobody_sends_is_refused_with_the_one_that_is_meant(name: str, meant: str) -> None:
    assert f"did you mean {meant!r}" in _event_fault(name)
