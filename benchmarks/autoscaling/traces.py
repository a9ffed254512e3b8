"""How many requests per second arrive."""

Trace = tuple[tuple[float, float], ...]
"""Steps (from second, requests per second); the last one's rate is 0 and its second the end."""

TRACES: dict[str, Trace] = {
    # the surge outlasts the 30 s that Ray Serve's autoscaler waits by default
    "step": ((0.0, 8.0), (5.0, 45.0), (50.0, 8.0), (60.0, 0.0)),
    "burst": ((0.0, 8.0), (5.0, 60.0), (11.0, 8.0), (22.0, 60.0), (28.0, 8.0), (40.0, 0.0)),
}


def play(trace: Trace, now: float) -> float:
    """The rate at `now` seconds since the start."""
    return next(rate for start, rate in reversed(trace) if start <= max(0.0, now))
