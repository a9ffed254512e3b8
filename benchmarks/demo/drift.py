"""Scene 2: the images turn noisy, rotated and blurred; the model is retrained on picked points and promoted."""

import time
from typing import Any

from benchmarks.demo.api import Api
from benchmarks.demo.streams import Stream
from benchmarks.demo.world import CALM_RATE, TRAINING, Labeller, World
from benchmarks.load import Request, accuracy

MEASURE_RATE = 16.0
LABELLED = "drifted"


def drift(world: World) -> None:
    """From the first drifted image to the measured accuracy of the promoted model."""
    labeller = Labeller(world, [LABELLED])
    labeller.start()
    try:
        _drift(world, labeller)
    finally:
        labeller.stop()


def _drift(world: World, labeller: Labeller) -> None:
    old = world.champion()
    world.mark("drift: noise, rotation, blur")
    begin = time.time()
    before = measure(world, world.streams.measured, "measured before")
    world.load.sampler = world.streams.drifted.sampler()
    world.load.stage = LABELLED
    world.load.rate = MEASURE_RATE
    fired = world.wait(lambda: next((moment for moment in world.moments if moment.time > begin and moment.drifted), None), "drift")
    seen = len(world.requests_between(begin, fired.time))
    labels = labeller.count
    measured = f"after {seen} drifted requests, {fired.time - begin:.1f} s, {labels} labels known"
    world.claim("drift", "the detector fires without labels", measured, True)
    plan = world.wait(lambda: world.plans_of("drift-retrain", begin), "a plan of drift-retrain")[0]
    world.tell(f"{labeller.count} picked points are labelled (answered from the data set's own labels); retraining")
    run = world.wait(lambda: finished_run(world, begin), "the retraining")
    world.claim(
        "drift", "the retraining from the production model succeeds", f"run {run['id']} {run['status']}", run["status"] == "succeeded"
    )
    world.wait(lambda: world.champion() != old, "another champion")
    world.mark(f"version {world.champion()} is promoted")
    after = measure(world, world.streams.measured, "measured after")
    # what follows needs no more: one backup has to answer all of it when the champion is killed
    world.load.rate = CALM_RATE
    gained = accuracy(after) - accuracy(before)
    measured = f"{accuracy(before):.1%} to {accuracy(after):.1%} over {len(after)} images that nobody labelled"
    world.claim("drift", "accuracy rises on the same drifted stream", measured, gained > 0)
    judged = run["outputs"]
    better = f"{judged['champion_drifted_accuracy']:.1%} to {judged['drifted_accuracy']:.1%} on {judged['drifted_points']} held-back points"
    world.claim(
        "drift",
        "the new model beats the champion on the drifted slice",
        better,
        judged["drifted_accuracy"] > judged["champion_drifted_accuracy"],
    )
    world.explain("Why the model was retrained", plan["plan"]["decision"])
    promoted = world.wait(lambda: world.plans_of("promote-better", begin), "a plan of promote-better")
    world.explain("Why the new model was promoted", promoted[0]["plan"]["decision"])


def measure(world: World, stream: Stream, stage: str) -> list[Request]:
    """Sends each image of `stream` once and returns the answered requests."""
    sampler, before, rate = world.load.sampler, world.load.stage, world.load.rate
    finished: list[float] = []
    version = world.champion()
    world.load.sampler, world.load.stage, world.load.rate = stream.once(lambda: finished.append(time.time())), stage, MEASURE_RATE
    world.wait(lambda: finished, f"the images {stage!r}")
    world.load.sampler, world.load.stage, world.load.rate = sampler, before, rate
    world.wait(lambda: sum(request.stage == stage for request in world.load.requests) >= len(stream.labels), "the last answers")
    return [request for request in world.load.requests if request.stage == stage and request.ok and request.version == version]


def finished_run(world: World, since: float) -> dict[str, Any] | None:
    """The newest run of the training workflow that started after `since`, once it has ended."""
    return finished_run_of(world.api, since)


def finished_run_of(api: Api, since: float) -> dict[str, Any] | None:
    """The same, before there is a world."""
    for run in api.host.runs():
        if run.workflow == TRAINING and (run.started_at or 0) >= since and run.finished_at is not None:
            return run.model_dump(mode="json")
    return None
