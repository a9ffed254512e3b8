"""Scene 1: the request rate rises sixfold; the service is scaled out, verified, and scaled in again."""

import math
import time

from benchmarks.demo.world import CALM_RATE, P99_BOUND_SECONDS, SURGE_FACTOR, World
from benchmarks.load import quantile

CALM_SECONDS = 5.0
SETTLED_SECONDS = 10.0


def calm(world: World) -> None:
    """Nothing is wrong, so nothing may be done."""
    world.mark("calm")
    begin = time.time()
    time.sleep(CALM_SECONDS)
    acted = [plan for name in ("keep-latency", "save-replicas", "drift-retrain", "promote-better") for plan in world.plans_of(name, begin)]
    asked = world.requests_between(begin, time.time() - 1)
    answered = sum(request.ok for request in asked)
    world.claim("calm", "every request is answered", f"{answered} of {len(asked)}", bool(asked) and answered == len(asked))
    world.claim("calm", "nothing is done while nothing is wrong", f"{len(acted)} plans in {CALM_SECONDS:.0f} s", not acted)


def surge(world: World) -> None:
    """The surge, the verification of what was done, and the way back."""
    begin = time.time()
    _rise(world)
    end = time.time()
    _verified(world, begin)
    _back(world, end)


def _rise(world: World) -> None:
    world.load.stage = "surge"
    world.mark(f"surge: {CALM_RATE:.0f} to {CALM_RATE * SURGE_FACTOR:.0f} requests/s")
    begin = time.time()
    world.load.rate = CALM_RATE * SURGE_FACTOR
    first = world.wait(lambda: world.plans_of("keep-latency", begin), "a plan of keep-latency")
    world.tell(f"keep-latency decided to rescale after {first[0]['plan']['created_at'] - begin:.1f} s")
    world.wait(lambda: _settled(world, begin) <= P99_BOUND_SECONDS, f"{SETTLED_SECONDS:.0f} s with a p99 within its bound")
    end = time.time()
    replicas = world.ready()
    world.load.rate = CALM_RATE
    world.load.stage = ""
    world.mark("end of the surge")
    worst = max((moment.p99_seconds for moment in world.moments if begin <= moment.time <= end), default=float("nan"))
    settled = [request.latency_seconds for request in world.requests_between(end - SETTLED_SECONDS, end) if request.ok]
    after = quantile(settled, 0.99)
    bound = f"{P99_BOUND_SECONDS * 1000:.0f} ms"
    world.claim("surge", f"p99 breaks its bound of {bound}", f"{worst * 1000:.0f} ms", worst > P99_BOUND_SECONDS)
    world.claim("surge", "replicas are added", f"1 to {replicas}", replicas > 1)
    measured = f"{after * 1000:.0f} ms over {len(settled)} requests"
    world.claim("surge", f"p99 of the last {SETTLED_SECONDS:.0f} s of the surge is under {bound}", measured, after <= P99_BOUND_SECONDS)
    lost, words = world.lost_between(begin, end)
    world.claim("surge", "no request is lost", words, not lost)


def _settled(world: World, begin: float) -> float:
    """The p99 of the last seconds with more than one replica, endless before there are so many."""
    now = time.time()
    if world.ready() < 2 or now - begin < SETTLED_SECONDS:
        return math.inf
    answered = [request.latency_seconds for request in world.requests_between(now - SETTLED_SECONDS, now) if request.ok]
    return quantile(answered, 0.99) if answered else math.inf


def _verified(world: World, since: float) -> None:
    plans = world.wait(
        lambda: [plan for plan in world.plans_of("keep-latency", since) if plan["phase"] in ("verified", "kept")],
        "a plan of keep-latency that was verified",
    )
    phases = ", ".join(plan["phase"] for plan in world.plans_of("keep-latency", since))
    world.claim("surge", "the last rescale is verified", phases, any(plan["phase"] == "verified" for plan in plans))
    world.explain("Why replicas were added", plans[0]["plan"]["decision"])


def _back(world: World, since: float) -> None:
    begin = time.time()
    world.wait(lambda: world.ready() == 1, "one replica again")
    plans = world.plans_of("save-replicas", since)
    measured = f"1 replica {time.time() - begin:.0f} s after the surge, {len(plans)} plans"
    world.claim("surge", "replicas go back after the surge", measured, bool(plans) and world.ready() == 1)
