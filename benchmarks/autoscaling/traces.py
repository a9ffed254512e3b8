"""How many requests per second arrive."""

Trace = tuple[tuple[float, float], ...]
"""Steps (from second, requests per second); the last one's rate is 0 and its second the end."""

TRACES: dict[str, Trace] = {
    # the surge outlasts the 30 s that Ray Serve's autoscaler waits by default
    "step": ((0.0, 8.0), (4.0, 45.0), (45.0, 8.0), (52.0, 0.0)),
    "burst": ((0.0, 8.0), (4.0, 60.0), (9.0, 8.0), (18.0, 60.0), (23.0, 8.0), (32.0, 0.0)),
}


def play(trace: Trace, now: float) -> float:
    """The rate at `now` seconds since the start."""
    return next(rate for start, rate in reversed(trace) if start <= max(0.0, now))
