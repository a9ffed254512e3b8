"""Where workflows run."""

from collections.abc import Iterable
from typing import Any, Protocol

from autonomic.seams.plan import Change, Outcome
from autonomic.seams.state import RunState, State
from autonomic.seams.word import Word

PART_RESTARTED = "part_restarted"
"""The notice that a part of the platform, its `target`, was started again; `data` has `part` and `why`."""


class Notice(Word):
    """Something that happened on a platform, in its order."""

    cursor: int
    time: float
    kind: str
    target: str
    data: dict[str, Any] = {}


class EffectorPort(Protocol):
    """Something that carries out changes, each once."""

    def apply(self, change: Change, fence: int) -> Outcome:
        """Carries out `change` and remembers its key together with the effect.

        A change whose key is known is not done again: its outcome is returned. A `fence` lower than the highest seen
        for the target, a revision other than `change.expect`, and anything that can never work are outcomes with
        status "refused"; an effect that was tried and did not work is "failed".

        Raises:
            Retryable: the effector cannot be reached now; nothing is known about the effect, ask `lookup`.
        """
        ...

    def lookup(self, key: str) -> Outcome | None:
        """The outcome of a change, None where the key was never carried out."""
        ...


class Platform(EffectorPort, Protocol):
    """A platform carries out changes and says what is there."""

    def capabilities(self) -> frozenset[str]:
        """The names of the primitives that `apply` knows here."""
        ...

    def observe(self, target: str) -> State:
        """The state of `workflow` or `workflow/step`; its kind is "absent" where there is no such thing."""
        ...

    def runs(self) -> Iterable[RunState]:
        """All runs known, the newest first."""
        ...

    def watch(self, cursor: int) -> list[Notice]:
        """What happened after `cursor`, in order."""
        ...
