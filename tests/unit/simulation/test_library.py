"""The strategies of the library, as they are shipped, on the simulated digit service."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autonomic.agents.simulation import Simulation
from autonomic.platforms.simulated import Batch, Load
from autonomic.seams.state import RunState
from autonomic.strategies.validation import load_specs

ROOT = Path(__file__).parents[3]
TARGET = "mnist-online/predictor"
WON = {
    "drifted_accuracy": "0.91",
    "champion_drifted_accuracy": "0.62",
    "clean_accuracy": "0.97",
    "champion_clean_accuracy": "0.98",
    "judge_trusted": "true",
}
Library = Callable[..., Simulation]


@pytest.fixture(scope="module")
def library() -> Library:
    specs = load_specs([ROOT / "examples" / "mnist", ROOT / "strategies" / "library"])

    def make(load: Any, **options: Any) -> Simulation:
        given: dict[str, Any] = {"scripted": {"drifted": lambda _: 0.0, "labelled": lambda _: 0.0}, **options}
        models = {"mnist": {"backup": {}, "champion": {}}}
        service = Load(rate=load, service_seconds=0.04, startup_seconds=4)
        return Simulation([*specs.workflows, *specs.strategies], loads={TARGET: service}, models=models, **given)

    return make


def acted(simulation: Simulation) -> list[str]:
    return [record.decision.strategy for record in simulation.decisions() if record.plan and record.decision.strategy]


def test_a_sixfold_surge_is_answered_within_its_time_and_the_replicas_go_back(library: Library) -> None:
    simulation = library([(0, 7), (30, 42), (75, 7)])
    simulation.run(seconds=30)
    assert acted(simulation) == []
    simulation.run(seconds=45)
    service = simulation.platform.service(TARGET)
    assert service.ready("champion") > 1
    assert service.quantile(0.99, 10) <= 0.25
    simulation.run(seconds=90)
    assert simulation.platform.service(TARGET).ready("champion") == 1
    assert set(acted(simulation)) == {"keep-latency", "save-replicas"}
    assert simulation.engine.demoted() == {}


def test_without_requests_nothing_happens_at_one_replica_and_more_go_back(library: Library) -> None:
    simulation = library([(0, 42), (60, 0)])
    simulation.run(seconds=60)
    assert simulation.platform.service(TARGET).ready("champion") > 1
    simulation.run(seconds=120)
    assert simulation.platform.service(TARGET).ready("champion") == 1
    before = len(acted(simulation))
    simulation.run(seconds=120)
    assert len(acted(simulation)) == before


def test_a_scale_in_that_was_wrong_is_taken_back(library: Library) -> None:
    simulation = library([(0, 42), (60, 10), (77, 47)])
    simulation.run(seconds=120)
    service = simulation.platform.service(TARGET)
    assert service.ready("champion") > 1
    assert service.lost == 0


def test_drift_with_labels_is_answered_by_a_better_model(library: Library) -> None:
    def trained(run: RunState) -> dict[str, str]:
        return {"version": simulation.registry.register("mnist", WON, "candidate")}

    drift = {"drifted": lambda seconds: float(20 < seconds < 100), "labelled": lambda seconds: 10.0 * max(0.0, seconds - 20)}
    simulation = library(7, scripted=drift, batches={"mnist-training": Batch(seconds=60, outputs=trained)})
    simulation.run(seconds=180)
    assert acted(simulation) == ["drift-retrain", "promote-better"]
    retrain = simulation.decisions("drift-retrain")[0]
    assert retrain.readings["labelled"].value == 180
    assert retrain.changes[0].to["parameters"]["base_model"] == "models:/mnist/2"
    aliases = {alias: version.version for alias, version in simulation.registry.aliases("mnist").items()}
    assert aliases == {"champion": "3", "backup": "2"}


def test_a_dead_champion_is_told_and_the_backup_made_stronger_for_a_while(library: Library) -> None:
    simulation = library(7)
    simulation.at(20, lambda: simulation.platform.kill(TARGET))
    simulation.run(seconds=24)
    assert acted(simulation) == ["fail-over"]
    assert "the backup answers" in simulation.messages.changes[0].to["message"]
    simulation.run(seconds=66)
    assert acted(simulation) == ["fail-over", "fail-back"]
    state = simulation.platform.observe(TARGET).service
    assert state is not None
    assert (state.roles["champion"].ready, state.roles["backup"].wanted) == (1, 1)
    assert simulation.platform.service(TARGET).lost <= 1
