"""How agents tell each other what happened."""

from collections.abc import Callable
from typing import Protocol

from autonomic.seams.event import CloudEvent


class Bus(Protocol):
    """Delivers what a journal's outbox holds, at least once, in order per destination."""

    def start(self) -> None: ...

    def wake(self) -> None:
        """Something was committed to the outbox."""
        ...

    def stop(self) -> None: ...


Handler = Callable[[CloudEvent], None]
