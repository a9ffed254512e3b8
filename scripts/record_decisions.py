"""Records decisions of simulated strategies as tests/unit/data/decisions.jsonl, which the unit tests judge again.

Run it (`python scripts/record_decisions.py`) when decisions are meant to change, and look at the difference before you commit it.
"""

from pathlib import Path
from typing import Any

from autonomic.agents.planner import replay
from autonomic.agents.planner.replay import Recording
from autonomic.agents.simulation import Simulation
from autonomic.platforms.simulated import Batch, Load
from autonomic.primitives.people import Freeze
from autonomic.seams.decision import Action
from autonomic.strategies.spec.strategy import Strategy
from autonomic.strategies.validation import load_specs

ROOT = Path(__file__).parent.parent
RECORDED = ROOT / "tests" / "unit" / "data" / "decisions.jsonl"
TARGET = "mnist-online/predictor"
P99 = (
    "histogram_quantile(0.99, sum by (le) (rate(autonomic_request_duration_seconds_bucket"
    "{workflow='mnist-online',service='predictor'}[15s])))"
)
TAGS = {
    "drifted_accuracy": "0.91",
    "champion_drifted_accuracy": "0.62",
    "clean_accuracy": "0.97",
    "champion_clean_accuracy": "0.98",
    "judge_trusted": "true",
}


def strategy(name: str, **changes: Any) -> Strategy:
    """keep-latency with changes."""
    spec: dict[str, Any] = {
        "target": TARGET,
        "on": {"every": "1s"},
        "readings": {"p99": {"promql": P99, "max_age": "5s"}, "replicas": {"platform": "wanted_replicas"}},
        "when": "p99 > 0.25",
        "for": "2s",
        "do": [{"rescale": {"by": 1}}],
        "guard": {"autonomy": "auto", "cooldown": "20s"},
        **changes,
    }
    return Strategy.model_validate({"apiVersion": "autonomic.dev/v1alpha1", "kind": "Strategy", "metadata": {"name": name}, "spec": spec})


def library() -> Simulation:
    """The library over surges, drifts with a good, a bad and an untrusted candidate, and a death."""
    specs = load_specs([ROOT / "examples" / "mnist", ROOT / "strategies" / "library"])
    candidates = [TAGS, {**TAGS, "drifted_accuracy": "0.5"}, {**TAGS, "judge_trusted": "false", "judge_reason": "12 of 40 contradict"}]

    def trained(run: Any) -> dict[str, Any]:
        return {"version": simulation.registry.register("mnist", candidates.pop(0) if candidates else {}, "candidate")}

    simulation = Simulation(
        [*specs.workflows, *specs.strategies],
        loads={TARGET: Load(rate=[(0, 7), (60, 42), (150, 7), (400, 90), (700, 7)], service_seconds=0.04, startup_seconds=4)},
        batches={"mnist-training": Batch(seconds=90, outputs=trained)},
        models={"mnist": {"backup": {}, "champion": {}}},
        scripted={"drifted": lambda seconds: 1.0 if seconds > 800 else 0.0, "labelled": lambda seconds: 200.0},
    )
    simulation.at(1200, lambda: simulation.platform.kill(TARGET))
    simulation.at(1500, lambda: simulation.signal.silence(simulation.clock.now(), 60))
    simulation.run(seconds=2000)
    return simulation


def guards() -> Simulation:
    """Strategies that the gate asks, logs, limits and refuses, and conditions that are not known."""
    specs = load_specs([ROOT / "examples" / "mnist"])
    down = {"do": [{"rescale": {"by": -1}}]}
    free = {"autonomy": "auto", "cooldown": "30s"}
    rare = {**free, "limit": "2/h"}
    silent = {"silent": {"promql": "silent"}, "replicas": {"platform": "wanted_replicas"}}
    strategies = [
        strategy("limited", guard=rare),
        strategy("suggests", guard={"cooldown": "60s"}),
        strategy("shadows", guard={"autonomy": "shadow", "cooldown": "60s"}),
        strategy("scales-in", when="replicas > 1", guard=free, **down),
        strategy("substitutes", when="silent > 0 && replicas > 1", readings=silent, guard=free, missing={"fallback": 1.0}, **down),
        strategy("bounded", constraint="replicas < 2", guard=free),
        strategy("by-need", do=[{"rescale": {"require": {"reading": "p99", "per_replica": 0.1}}}], guard={"cooldown": "40s"}),
        strategy("stops", do=[{"stop": {}, "target": "mnist-training"}], guard=free),
        strategy("verifies", verify={"that": "p99 < 0.01", "within": "40s", "else": "keep"}, priority=90, guard=free),
        strategy("flaps", readings={"flip": {"drift": "flip"}}, when="flip > 0", do=[{"notify": {"message": "it flips"}}], guard=rare),
        strategy("patient", on={"call": True}, when="replicas > 0", expires="5m", guard=free, **{"for": "0s"}),
        strategy("tells", do=[{"notify": {"message": "p99 is ${reading.p99}"}}], guard=free),
    ]
    simulation = Simulation(
        [*specs.workflows, *strategies],
        loads={TARGET: Load(rate=[(0, 7), (60, 200), (300, 7)], service_seconds=0.04)},
        models={"mnist": {"backup": {}, "champion": {}}},
        scripted={"flip": lambda seconds: float(300 < seconds < 400 and seconds // 5 % 2)},
    )
    simulation.at(100, lambda: simulation.engine.by_hand(Action(primitive="run", target="mnist-training"), actor="ada"))
    simulation.at(120, lambda: simulation.platform.lose(10))
    simulation.at(80, lambda: simulation.fire("patient"))
    simulation.at(90, lambda: [simulation.engine.reject(plan.id, "ada", "not now") for plan, _ in simulation.engine.pending()])
    simulation.at(250, lambda: simulation.engine.freeze(freeze(simulation.clock.now())))
    simulation.run(seconds=600)
    return simulation


def freeze(now: float) -> Freeze:
    """A freeze of everything for half a minute."""
    return Freeze(target="", why="a look at it", by="ada", since=now, until=now + 30)


def record() -> list[Recording]:
    """All recordings."""
    return [recording for simulation in (library(), guards()) for recording in replay.recordings(simulation.journal)]


if __name__ == "__main__":
    RECORDED.parent.mkdir(parents=True, exist_ok=True)
    found = record()
    replay.write(RECORDED, found)
    print(f"{len(found)} decisions in {RECORDED}")
