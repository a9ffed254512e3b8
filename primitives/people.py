"""What people said that stands in the way of actions: freezes, and proposals that they turned down. Pure."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from autonomic.seams.plan import Change
from autonomic.seams.word import Word

_CREATED = frozenset({"run_id", "cause"})


class Freeze(Word):
    """Nothing starts on `target` ("" is everything) until `until`, or until it is lifted where that is None.

    `by` is the name of the token with which it was asked for. Times are seconds since the epoch.
    """

    target: str
    why: str
    by: str
    since: float
    until: float | None = None

    def holds(self, now: float) -> bool:
        """Whether it is in force at the time `now`."""
        return self.until is None or now < self.until

    def covers(self, target: str) -> bool:
        """Whether it is about `target`: about all of it, or a part of it."""
        return not self.target or overlap(self.target, target)

    def words(self) -> str:
        """Who, what, since when, until when and why, in a line."""
        end = f"until {moment(self.until)}" if self.until is not None else f"until `autonomic unfreeze {self.target or '--all'}`"
        return f"{self.by} froze {self.target or 'everything'} at {moment(self.since)} {end}: {self.why}"


class Hold(Word):
    """A proposal of a strategy that a person turned down; it is held back until it or its evidence is another.

    `what` is "rejected", "cancelled" or "reverted"; `changes` are those of `wanted`.
    """

    plan: str
    what: str
    by: str
    why: str = ""
    at: float
    changes: tuple[str, ...]
    evidence: str = ""
    shown: bool = False

    def words(self) -> str:
        """Who turned it down, when and why."""
        return f"{self.by} {self.what} {self.plan} at {moment(self.at)}{f': {self.why}' if self.why else ''}; its evidence is the same"


def wanted(changes: Sequence[Change]) -> tuple[str, ...]:
    """What changes come to, as JSON: two plans with equal ones would do the same. Keys, revisions and new ids differ each time."""
    told = (
        [change.primitive, change.target, {name: value for name, value in change.to.items() if name not in _CREATED}] for change in changes
    )
    return tuple(json.dumps(one, sort_keys=True) for one in told)


def overlap(one: str, other: str) -> bool:
    """Whether two targets are the same, or one is a part of the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def moment(seconds: float) -> str:
    """A time for people, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
