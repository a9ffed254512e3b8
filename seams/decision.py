"""What was decided and whether it may be done."""

from typing import Any, Literal

from autonomic.seams.plan import Change
from autonomic.seams.reading import Reading
from autonomic.seams.word import Word

Autonomy = Literal["shadow", "suggest", "approve", "auto"]


class Action(Word):
    """A primitive with the arguments that a strategy gives it; relative until it is planned against a state."""

    primitive: str
    target: str
    args: dict[str, Any] = {}


class Decision(Word):
    """A strategy's answer to an event: the actions and why, or no actions and why not."""

    strategy: str
    target: str
    actions: tuple[Action, ...] = ()
    why: str


class Guard(Word):
    """One thing the gate looked at."""

    name: str
    passed: bool
    detail: str


class Verdict(Word):
    """What the gate said. `outcome`: "go" (do it), "ask" (wait for a person), "log" (only record), "refuse"."""

    outcome: Literal["go", "ask", "log", "refuse"]
    guards: tuple[Guard, ...]
    why: str


class DecisionRecord(Word):
    """All that is kept of one decision, so that it can be explained, and judged again byte for byte."""

    id: str
    time: float
    event: dict[str, Any]
    # as the planner read them again, at `time`
    readings: dict[str, Reading]
    decision: Decision
    considered: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    verdict: Verdict | None = None
    plan: str = ""
