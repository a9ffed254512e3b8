"""The strategies for workflows on Kubernetes, as they are shipped, on the simulated digit service."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autonomic.agents.simulation import Simulation
from autonomic.platforms.simulated import Load
from autonomic.seams.decision import Action
from autonomic.strategies.validation import load_specs

ROOT = Path(__file__).parents[3]
TARGET = "mnist-online/predictor"
NAME = "replicas-by-requirement"
Library = Callable[..., Simulation]


@pytest.fixture(scope="module")
def library() -> Library:
    specs = load_specs([ROOT / "examples" / "mnist", ROOT / "strategies" / "kubernetes"])

    def make(load: Any, only: str, **options: Any) -> Simulation:
        service = Load(rate=load, service_seconds=0.04, startup_seconds=4)
        strategies = [strategy for strategy in specs.strategies if strategy.name == only]
        models = {"mnist": {"backup": {}, "champion": {}}}
        return Simulation([*specs.workflows, *strategies], loads={TARGET: service}, models=models, **options)

    return make


def test_replicas_follow_the_requests_up_and_down_and_rest_between(library: Library) -> None:
    simulation = library([(0, 7), (60, 55), (180, 7)], NAME)
    simulation.run(seconds=60)
    assert simulation.decisions(NAME) == []
    simulation.run(seconds=120)
    service = simulation.platform.service(TARGET)
    # 55 a second at 20 each, and what has piled up before is served beside it
    assert 3 <= service.ready("champion") <= 4
    assert service.quantile(0.99, 10) <= 0.25
    steps, lost = len(simulation.decisions(NAME)), service.lost
    simulation.run(seconds=120)
    assert service.ready("champion") == 1
    # to go back costs nobody an answer
    assert service.lost == lost
    # each step takes at least one of at most four away
    assert len(simulation.decisions(NAME)) <= steps + 3
    before = len(simulation.decisions(NAME))
    simulation.run(seconds=300)
    assert len(simulation.decisions(NAME)) == before


def test_replicas_stay_while_the_rate_is_not_known(library: Library) -> None:
    simulation = library(7, NAME, scripted={"demand": lambda seconds: 50.0 if seconds < 60 else None})
    simulation.run(seconds=60)
    assert simulation.platform.service(TARGET).ready("champion") == 3
    simulation.run(seconds=300)
    assert simulation.platform.service(TARGET).ready("champion") == 3


def test_a_service_that_fails_most_requests_gets_what_arrives_and_not_what_it_serves(library: Library) -> None:
    # one replica serves 25 a second, whatever comes; those that wait too long fail
    simulation = library([(0, 7), (30, 70)], NAME)
    simulation.run(seconds=75)
    service = simulation.platform.service(TARGET)
    assert service.ready("champion") == 4
    before = service.lost
    simulation.run(seconds=120)
    assert service.lost == before
    assert service.quantile(0.99, 10) <= 0.25


@pytest.mark.parametrize(("name", "target"), [("explain-pending-training", "mnist-training/train"), ("explain-pending-online", TARGET)])
def test_a_pending_pod_is_explained_in_the_words_of_the_scheduler(library: Library, name: str, target: str) -> None:
    simulation = library(7, name)
    simulation.run(seconds=60)
    assert simulation.decisions(name) == []
    simulation.fire(name, {"target": target, "pod": "p-1", "message": "0/2 nodes are available: 2 Insufficient cpu."})
    simulation.run(seconds=5)
    (change,) = simulation.messages.changes
    assert change.to["message"] == f"{target} waits for a node (pod p-1): 0/2 nodes are available: 2 Insufficient cpu."


def test_training_and_service_are_kept_apart_where_both_are_slow_on_one_node(library: Library) -> None:
    def acted(online: dict[str, float], batch: dict[str, float]) -> list[Any]:
        simulation = library(7, "keep-apart", scripted={"online": lambda _: online, "batch": lambda _: batch})
        simulation.engine.by_hand(Action(primitive="run", target="mnist-training"), actor="a test")
        simulation.run(seconds=120)
        return [change for record in simulation.decisions("keep-apart") for change in record.changes]

    assert acted({"a": 0.9, "b": 0.1}, {"b": 0.2}) == []
    assert acted({"a": 0.9, "b": 0.1}, {"a": 1.0, "b": 0.2}) == []
    (change, *_) = acted({"a": 0.9, "b": 0.1}, {"a": 0.4, "b": 1.0})
    assert (change.primitive, change.target) == ("reschedule", "mnist-training")
    assert change.to == {"placement": {"avoid": [{"workflow": "mnist-online"}]}}


@pytest.mark.parametrize(
    ("name", "placement"), [("spread-after-node-loss", {"spread": "node"}), ("gather-at-node-loss", {})], ids=["spread", "gather"]
)
def test_replicas_are_gathered_when_a_node_is_lost_and_spread_when_it_is_back(library: Library, name: str, placement: Any) -> None:
    simulation = library(7, name)
    simulation.run(seconds=10)
    data = {"node": "node2", "condition": "Ready"}
    # one replica has nothing to be spread
    assert simulation.fire(name, data) == []
    simulation.engine.by_hand(Action(primitive="rescale", target=TARGET, args={"to": 3}), actor="a test")
    simulation.run(seconds=30)
    (decided,) = simulation.fire(name, data)
    assert [(change.primitive, change.target, change.to) for change in decided.changes] == [
        ("reschedule", TARGET, {"placement": placement})
    ]
    simulation.run(seconds=400)
    assert simulation.platform.service(TARGET).ready("champion") == 3
