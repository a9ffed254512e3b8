"""Scene 3: retraining on shuffled labels, and judging by poisoned labels; both candidates are refused."""

import time

from benchmarks.demo.drift import finished_run
from benchmarks.demo.world import TARGET, TRAINING, World


def shuffled_training(world: World) -> None:
    """The labels that train are shuffled: the candidate is worse on the held-back points."""
    world.mark("poison: retraining on shuffled labels")
    _retrain(world, {"poison_training": "shuffle"}, "the candidate of shuffled training labels is refused")


def poisoned_judging(world: World) -> None:
    """The labels that judge are poisoned as well, so that the worse model looks better."""
    world.mark("poison: the judging labels are poisoned too")
    _retrain(world, {"poison_training": "rename", "poison_judging": "rename"}, "the candidate of poisoned judging labels is refused")


def _retrain(world: World, parameters: dict[str, str], claimed: str) -> None:
    champion = world.champion()
    begin = time.time()
    arguments = {"from": "models:/mnist@champion", "points": TARGET, "parameters": parameters}
    world.api.post("planner", "/v1/primitives/retrain", {"target": TRAINING, "args": arguments})
    run = world.wait(lambda: finished_run(world, begin), "the retraining")
    decision = world.wait(lambda: next(iter(world.decisions_of("promote-better", begin)), None), "a decision of promote-better")
    words = world.explain(claimed[0].upper() + claimed[1:], decision["id"])
    time.sleep(2)
    kept = world.champion() == champion
    reason = _reason(decision, run["outputs"])
    world.claim("poison", claimed, f"{reason}; the champion is still version {world.champion()}", kept and bool(words))


def _reason(decision: dict[str, object], judged: dict[str, object]) -> str:
    if judged.get("judge_trusted") in (False, "false"):
        return str(judged["judge_reason"])
    return f"drifted accuracy {judged['drifted_accuracy']:.1%} against the champion's {judged['champion_drifted_accuracy']:.1%}"
