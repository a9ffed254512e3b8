"""The step that is measured: it does nothing."""

import time


def nothing() -> dict[str, float]:
    """When it was called (seconds since the epoch)."""
    return {"called_at": time.time()}
