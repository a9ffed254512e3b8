"""Scene 5: the tuner searches learning rate and batch size."""

from benchmarks.demo.world import World

METRIC = "validate_accuracy"
TUNED = "mnist-tuning"
TRIALS = 2


def tune(world: World) -> None:
    """A search whose first trial is the default."""
    world.mark("tune: learning rate and batch size")
    search = world.api.post(
        "tuner",
        "/v1/searches",
        {
            "workflow": TUNED,
            "metric": METRIC,
            "mode": "max",
            "space": {"learning_rate": {"loguniform": [0.0003, 0.01]}, "batch_size": {"choice": [32, 64, 128]}},
            "trials": TRIALS,
            "parallel": 1,
            "seed": world.seed,
        },
    )
    done = world.wait(
        lambda: (found := world.api.get("tuner", f"/v1/searches/{search['id']}"))["status"] not in ("pending", "running") and found,
        "the search",
    )
    finished = [trial for trial in done["trials"] if trial.get("value") is not None]
    default = next(trial["value"] for trial in done["trials"] if trial["default"])
    best = done["best"]
    better = best["value"] > default
    measured = (
        f"{best['value']:.2%} with {best['parameters']} against {default:.2%}" if better else f"none of {len(finished)} beats {default:.2%}"
    )
    world.claim(
        "tune",
        f"{TRIALS} trials finish, and the best beats the default or the report says that none did",
        measured,
        len(finished) == TRIALS,
    )
